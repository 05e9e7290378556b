"""Shared settings: torch on one thread (the suite may share two cores), JAX strict about ranks and dtypes."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu" if not os.environ.get("MD_JAX_TEST_GPU") else "")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
