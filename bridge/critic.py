"""What a critic is: the frozen torch function that judges motions and says how each should change."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from bridge.profile import Stopwatch

Judgement = tuple[Float[Tensor, "M"], Float[Tensor, "M *x"], dict[str, Float[Tensor, "M"]]]
"""(loss, its gradient in what is judged, metrics), all of M motions."""


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
