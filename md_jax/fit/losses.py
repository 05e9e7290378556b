"""The smoothness regulariser."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def smoothness(params: Float[Array, "M F K R"]) -> Float[Array, "M"]:
    """Sum of squared differences between consecutive frames, per motion.

    The paper prints its equation 5, Σ(θ_{i+1} − θ_i), without a norm; as printed it telescopes to the last minus the
    first frame. Its published code squares each difference, and so do we.

    Args:
        params: pose parameters, axis-angle in radians or 6D.

    Source: Janson et al. 2024, eq. 5.
    """
    return jnp.sum(jnp.square(jnp.diff(params, axis=1)), axis=(1, 2, 3))
