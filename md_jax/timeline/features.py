"""Time as a PoseField takes it: the frequencies of its features, and which part of a motion a frame belongs to."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def octaves(count: int) -> tuple[float, ...]:
    """Frequencies of normalised time (radians), from half a cycle in the clip upwards."""
    return tuple(math.pi * 2.0**k for k in range(count))


# Half a cycle to four cycles in the clip: ten frames cannot show more than four and a half.
NORMALIZED_FREQUENCIES = octaves(4)
# The paper's code: four frequencies on the raw frame index.
RAW_FREQUENCIES = tuple(float(f) for f in 2 ** np.linspace(0, 5, 4))


def octaves_for(count: int, clip: int, frames: int, loop: bool = False) -> tuple[float, ...]:
    """Frequencies for a motion of another length than a clip, as fine in time as `octaves(count)` are for the clip.

    Args:
        count: octaves of a clip.
        clip, frames: frames of the clip and of the motion.
        loop: the motion goes round, and only whole cycles do.
    """
    finest = octaves(count)[-1] / max(clip - 1, 1)  # radians a frame
    return octaves(max(1, 1 + math.floor(math.log2(finest / (math.pi * time_scale(frames, loop))) + 1e-6)))


def time_scale(frames: int, loop: bool) -> float:
    """Units of normalised time a frame: 1 from the first frame to the last, or 2 once round a loop."""
    return 2.0 / frames if loop else 1.0 / max(frames - 1, 1)


def span_weights(
    tau: Float[Array, "F"], spans: Float[Array, "S 2"], blend: float, period: float = 0.0
) -> Float[Array, "F S"]:
    """How much each span counts at each frame: 1 inside, passing smoothly into the next at its ends; rows add up to 1.

    Args:
        tau: frame indices.
        spans: first frame of each, and the one after its last; each begins where the one before ends. Spans that begin
            where they end count nowhere.
        blend: frames that a passage takes, half on either side of a border.
        period: frames after which a loop begins again; 0: before the first span and after the last, these go on.
    """

    def passed(border: Array) -> Array:
        x = jnp.clip((tau[:, None] - border) / blend + 0.5, 0.0, 1.0)
        return x * x * (3 - 2 * x)

    first, end = spans[:, 0], spans[:, 1]
    if period:
        return sum((passed(first + k * period) - passed(end + k * period) for k in (-1, 0, 1)), jnp.zeros(()))
    empty = first == end
    first = jnp.where(first == first[0], -jnp.inf, first)
    end = jnp.where(end == end[-1], jnp.inf, end)
    return jnp.where(empty, 0.0, passed(first) - passed(end))
