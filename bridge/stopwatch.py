"""Where the time of a torch step goes."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Iterator


class Stopwatch:
    """Adds up seconds under names: ``with stopwatch("render"): ...``.

    Host time: on CUDA, where kernels run behind the host's back, it tells what was launched and waited for, no more.
    """

    def __init__(self) -> None:
        self._seconds: collections.defaultdict[str, float] = collections.defaultdict(float)

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._seconds[name] += time.perf_counter() - start

    def take(self) -> dict[str, float]:
        """Seconds by name since the last call."""
        taken = dict(self._seconds)
        self._seconds.clear()
        return taken
