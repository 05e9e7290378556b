"""Where the time of a torch step goes, and how much memory this process has held."""

from __future__ import annotations

import collections
import contextlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

MOST = 100_000  # spans kept where nobody takes them


class Stopwatch:
    """Adds up seconds under names: ``with stopwatch("render"): ...``.

    On a CPU it is the host's time. On CUDA, where kernels run behind the host's back, events in the stream mark when
    the device begins and ends; nobody waits for them before `take`. Set `wait` to something that waits at every mark
    (torch.cuda.synchronize) to tell the parts of a step fully apart, which slows it.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.wait: Callable[[], None] = lambda: None
        self._cuda = torch.device(device).type == "cuda"
        self._spans: collections.deque[tuple[str, Any, Any]] = collections.deque(maxlen=MOST)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.wait()
        start = self._mark()
        try:
            yield
        finally:
            self.wait()
            self._spans.append((name, start, self._mark()))

    def take(self) -> dict[str, float]:
        """Seconds by name since the last call; on CUDA it waits until the last span is over."""
        taken: collections.defaultdict[str, float] = collections.defaultdict(float)
        while self._spans:
            name, start, end = self._spans.popleft()
            taken[name] += self._seconds(start, end)
        return dict(taken)

    def _mark(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _seconds(self, start: Any, end: Any) -> float:
        if not self._cuda:
            return end - start
        end.synchronize()
        return start.elapsed_time(end) / 1000


def peak_memory() -> dict[str, float]:
    """Peaks in MiB: "host" (resident set), and on CUDA "torch" (its allocator's, without JAX's)."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peaks = {"host": host}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["torch"] = torch.cuda.max_memory_allocated()
    return {name: round(peak / 2**20, 1) for name, peak in peaks.items()}
