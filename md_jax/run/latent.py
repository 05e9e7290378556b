"""Latent mode: the first render is encoded once, and its latents are what is optimised (the paper's ablation)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from md_jax.config import Config
from md_jax.fit.train import LatentProblem, Problem, draws_at, vertices_of

Decode = Callable[[Float[Array, "M C f h w"]], UInt8[np.ndarray, "M F H W 3"]]


def first_render(
    config: Config, problem: Problem, params: Any, prior: Any, mesh: Any, settings: Any
) -> tuple[LatentProblem, dict[str, Float[Array, "M C f h w"]]]:
    """Film every motion once, from the camera that its first step draws, and keep that camera for the words.

    Args:
        config, problem, params: as pose mode would begin.
        prior, mesh, settings: as `bridge.distill.critic.make_teacher` takes them.

    Returns:
        What stays fixed from here on, and the parameters {"z": latents of the first render}.
    """
    from bridge.distill.latents import first_latents
    from bridge.exchange import to_torch

    drawn = draws_at(config, problem, len(problem.azimuth_ranges), jnp.zeros((), jnp.int32), problem.key)
    azimuth, elevation = (x[:: config.views] for x in (drawn.azimuth, drawn.elevation))
    verts = vertices_of(problem.fields, params, problem.baked)
    z = first_latents(prior, to_torch(verts), to_torch(azimuth), to_torch(elevation), mesh, settings)
    cameras = [[(angle, angle)] for angle in np.asarray(azimuth, float).tolist()]
    fixed = LatentProblem(problem.key, problem.latent_shape, cameras, problem.elevation_range)
    return fixed, {"z": jnp.asarray(z.cpu().numpy())}


def make_decode(prior: Any, frames: int) -> Decode:
    """Latents to pictures, by the prior's decoder; what it fills up beyond `frames` is cut off."""

    def decode(z: Float[Array, "M C f h w"]) -> UInt8[np.ndarray, "M F H W 3"]:
        from bridge.distill.latents import decoded
        from bridge.exchange import to_torch

        return (255 * decoded(prior, to_torch(jnp.asarray(z)), frames).numpy()).round().astype(np.uint8)

    return decode
