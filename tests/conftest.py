"""Settings of the suite: JAX on the CPU unless asked otherwise, no model hub, compiled programs kept between tests.

One torch thread: sums split over threads round otherwise, and small tests are faster with one.
"""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "" if os.environ.get("MD_JAX_TEST_GPU") else "cpu")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(tempfile.gettempdir(), "md_jax-test-cache"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.3")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
