"""The two losses of a step: the frozen critic's, as the JAX side knows it, and the smoothness of the poses."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

import jax.numpy as jnp
from jaxtyping import Array, Float

from md_jax.draws.draw import Draws


class Traffic(Protocol):
    """Bytes that crossed the seam, and calls of torch, since the last `reset`."""

    calls: int
    aliased: int
    copied: int

    def reset(self) -> None: ...

    def snapshot(self) -> Traffic: ...


class Seconds(Protocol):
    """Where the time of the critic went."""

    def take(self) -> dict[str, float]:
        """Seconds by the name of the part, since the last call."""
        ...


class CriticLoss(Protocol):
    """The loss of a frozen torch critic as a function of JAX arrays (`bridge.op.TorchLoss`).

    x is what the problem shows: vertices (M, F, V, 3) in metres, or latents (M, C, f, h, w).
    """

    @property
    def traffic(self) -> Traffic: ...

    @property
    def parts(self) -> Seconds: ...

    def __call__(self, x: Float[Array, "M *x"], draws: Draws, /) -> tuple[Float[Array, "M"], dict[str, Array]]:
        """(loss, metrics), differentiable in x."""
        ...

    def loss_and_grad(
        self, x: Float[Array, "M *x"], draws: Draws, /
    ) -> tuple[Float[Array, "M"], Float[Array, "M *x"], dict[str, Array]]:
        """(loss, its gradient in x, metrics)."""
        ...

    def original_errors(self) -> AbstractContextManager[None]:
        """Raise what torch raised, not XLA's text of it; around the loop that calls a jitted step."""
        ...


def smoothness(params: Float[Array, "M F K R"], loop: bool = False) -> Float[Array, "M"]:
    """Sum of squared differences between consecutive frames, per motion; in a loop the first follows the last.

    The paper prints its equation 5, Σ(θ_{i+1} − θ_i), without a norm; as printed it telescopes to the last minus the
    first frame. Its published code squares each difference, and so do we.

    Args:
        params: pose parameters, axis-angle in radians or 6D.

    Source: Janson et al. 2024, eq. 5.
    """
    after = params[:, :1] if loop else params[:, :0]
    return jnp.sum(jnp.square(jnp.diff(params, axis=1, append=after)), axis=(1, 2, 3))
