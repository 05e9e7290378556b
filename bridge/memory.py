"""The most memory that this process has held so far."""

from __future__ import annotations

import resource
import sys

import torch


def peak_memory() -> dict[str, float]:
    """Peaks in MiB: "host" (resident set), and on CUDA "torch" (its allocator's, without JAX's)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peaks = {"host": host}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["torch"] = torch.cuda.max_memory_allocated()
    return {name: round(peak / 2**20, 1) for name, peak in peaks.items()}
