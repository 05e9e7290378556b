"""What stops a fit that leads nowhere, each with its reason: gradients that are not finite, or exactly zero."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from md_jax.errors import DivergedError


def check_divergence(done: int, bad_streak: Int[np.ndarray, "M"], limit: int) -> None:
    """Stop after `limit` steps in a row whose gradient was not finite.

    Raises:
        DivergedError: a motion has had so many.
    """
    worst = int(bad_streak.max())
    if worst >= limit:
        raise DivergedError(
            f"the gradient of motion {int(bad_streak.argmax())} was NaN or infinite for {worst} steps in a row"
            f" (up to step {done}). The last good parameters are in the checkpoint; try a lower --learning_rate or"
            " --guidance_scale, or --dtype=float32."
        )


def check_gradient(norms: Float[np.ndarray, "M"], guided: bool) -> None:
    """Stop a motion that would come out as it began and look finished.

    Args:
        norms: of the first step's gradients, one a motion.
        guided: whether the prior's sentence pulls at it: without guidance a gradient of zero may be right.

    Raises:
        DivergedError: one is exactly zero.
    """
    if guided and np.any(norms == 0):
        raise DivergedError(
            f"the gradient of motion {int(np.argmin(norms))} is exactly zero in the first step: the body is not in the"
            " picture (--distance, --fov, --elevation), every weight of the loss is 0, or the prior's weights are dead."
        )


def check_skipped(done: int, skipped: Int[np.ndarray, "M"]) -> None:
    """Refuse a motion none of whose steps was taken.

    Raises:
        DivergedError: there is one.
    """
    if done and skipped.max() >= done:
        raise DivergedError(
            f"the gradient of motion {int(skipped.argmax())} was NaN or infinite in every one of the {done} steps:"
            " nothing was optimised. The prior's weights may be damaged; else try --dtype=float32."
        )
