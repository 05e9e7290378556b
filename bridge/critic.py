"""A critic: the frozen torch function that judges motions and says how each should change; and its stopwatch."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor

Judgement = tuple[Float[Tensor, "M"], Float[Tensor, "M *x"], dict[str, Float[Tensor, "M"]]]
"""(loss, its gradient in what is judged, metrics), all of M motions."""


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


class Critic(Protocol):
    """A torch function of M motions that computes its gradient itself: vertices, or latents of a video.

    `bridge.op.torch_loss` makes a JAX function of one. It is frozen and stateless: the same input, the same judgement.
    """

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The keys of the metrics that every call gives."""
        ...

    @property
    def parts(self) -> Stopwatch:
        """Adds up the seconds of the parts of a call."""
        ...

    def __call__(
        self, x: Float[Tensor, "M *x"], draws: Any, grad_out: Float[Tensor, "M *x"] | None = None, /
    ) -> Judgement:
        """Judge x.

        Args:
            x: what is optimised, float32; detached and read only.
            draws: what is random in this step (`bridge.distill.critic.ClipDraws`); read only.
            grad_out: memory to write the gradient into, and to return it in; None: new memory is made.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Batching:
    """How much a critic does at once; its judgement is the same up to rounding."""

    prior_batch: int = 16  # clips rendered and judged
    encode_chunk: int = 0  # frames encoded in the backward pass, where a prior encodes them one by one; 0: all


DEFAULT = Batching()


@dataclasses.dataclass(frozen=True)
class FunctionCritic:
    """A critic made of a plain function, e.g. a loss of one's own."""

    function: Callable[[Tensor, Any, Tensor | None], Judgement]  # as `Critic.__call__`
    metric_names: tuple[str, ...] = ()
    parts: Stopwatch = dataclasses.field(default_factory=Stopwatch)

    def __call__(
        self, x: Float[Tensor, "M *x"], draws: Any, grad_out: Float[Tensor, "M *x"] | None = None
    ) -> Judgement:
        """Judge x (see `Critic`)."""
        return self.function(x, draws, grad_out)
