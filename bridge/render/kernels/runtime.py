"""Start Warp quietly, and launch its kernels on torch tensors.

On a CPU, Warp runs a kernel on the thread that launches it. Frames are independent of each other, so each core draws
some of them: the pictures are the same, bit for bit, on any number of cores.
"""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
import warp as wp
from torch import Tensor

__all__ = ["at_once", "frame_parts", "launch", "start", "view"]

Result = TypeVar("Result")


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


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def frame_parts(frames: int, device: torch.device) -> list[slice]:
    """The frames of a batch, in as many parts as can be drawn at once: on a GPU in one."""
    parts = max(1, min(frames, cores())) if device.type == "cpu" else 1
    bounds = [frames * n // parts for n in range(parts + 1)]
    return [slice(first, end) for first, end in itertools.pairwise(bounds)]


def at_once(function: Callable[..., Result], *arguments: Sequence[Any]) -> list[Result]:
    """`map`, without gradients, with a thread for each call."""
    run = map if len(arguments[0]) == 1 else _threads(os.getpid()).map
    return list(run(functools.partial(_without_gradient, function), *arguments))


def _without_gradient(function: Callable[..., Result], *arguments: Any) -> Result:
    with torch.no_grad():  # a thread has its own mode
        return function(*arguments)


@functools.lru_cache(maxsize=1)
def _threads(process: int) -> ThreadPoolExecutor:
    """The threads of this process: a fork has none of its parent's."""
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="render")
