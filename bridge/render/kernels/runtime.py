"""Start Warp quietly, and launch its kernels on torch tensors."""

from __future__ import annotations

import os
from typing import Any

import torch
import warp as wp
from torch import Tensor

__all__ = ["launch", "start", "view"]


def start() -> None:
    """Initialise Warp without its banner, nor its complaint (written by native code) that there is no CUDA driver."""
    wp.config.log_level = max(wp.config.log_level, wp.LOG_WARNING)
    if torch.cuda.is_available():
        wp.init()
        return
    stderr, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        wp.init()
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def view(tensor: Tensor, dtype: type) -> Any:
    """A Warp array on a tensor's memory; trailing axes go into `dtype` (a (N,V,3) float tensor as vec3)."""
    return wp.from_torch(tensor, dtype=dtype, requires_grad=False)


def launch(kernel: wp.Kernel, dim: tuple[int, ...], device: torch.device, inputs: list) -> None:
    """Run a kernel over a grid on torch's current stream of the device; an empty grid does nothing."""
    if min(dim) > 0:
        stream = None if device.type == "cpu" else wp.stream_from_torch(torch.cuda.current_stream(device))
        wp.launch(kernel, dim, inputs, device=str(device), stream=stream)
