"""The PyTorch side of a step and the seam to JAX. Light to import: a name loads its module when it is first used.

`torch_loss` makes a JAX function of a torch loss; `FunctionCritic` wraps a plain function for it.
"""

from __future__ import annotations

import importlib

_HOME = {"torch_loss": "bridge.op", "FunctionCritic": "bridge.critic"}

__all__ = ["FunctionCritic", "torch_loss"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'bridge' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
