"""What is optimised: PoseFields that move a body, or in latent mode the latents of a video."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from md_jax.body import lbs
from md_jax.config import Config
from md_jax.fit import losses, posefield
from md_jax.fit.draws import ImageShape
from md_jax.mocap.statistics import PoseStatistics


@dataclasses.dataclass(frozen=True)
class Problem:
    """What stays fixed during a run whose parameters are PoseFields."""

    fields: posefield.Fields
    baked: lbs.BakedBody
    key: Array
    latent_shape: tuple[int, int, int, int]  # (C, f, h, w) of the prior
    azimuth_ranges: list[list[tuple[float, float]]]  # per motion, radians
    elevation_range: tuple[float, float]  # radians
    image: ImageShape | None = None  # draws of an image term

    @property
    def arrays(self) -> tuple[Any, ...]:
        """What `show` reads beside the parameters: arguments of a compiled function, as constants would slow it."""
        return self.fields, self.baked

    @staticmethod
    def show(params: Any, fields: Any, baked: Any) -> tuple[Float[Array, "M F V 3"], Float[Array, "M"]]:
        """What the op judges, and the smoothness term: posed vertices of every motion."""
        return vertices_of(fields, params, baked), losses.smoothness(posefield.apply_fields(fields, params))


@dataclasses.dataclass(frozen=True)
class LatentProblem:
    """What stays fixed during a run whose parameters are the latents {"z": (M, C, f, h, w)} of each motion's video."""

    key: Array
    latent_shape: tuple[int, int, int, int]
    azimuth_ranges: list[list[tuple[float, float]]]  # the camera that filmed each video, as an arc of no width
    elevation_range: tuple[float, float]
    image: None = None
    arrays: tuple[Any, ...] = ()

    @staticmethod
    def show(params: Any) -> tuple[Float[Array, "M C f h w"], Float[Array, "M"]]:
        """What the op judges, and the smoothness term, of which latents have none."""
        return params["z"], jnp.zeros(len(params["z"]))


def make_fields(config: Config, statistics: list[PoseStatistics], frames: int) -> tuple[posefield.Fields, Any]:
    """The M PoseFields and their trainable parameters, at the mean poses of `statistics`."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), jnp.arange(len(statistics)))
    network: dict[str, Any] = {"frequencies": posefield.octaves(config.frequencies)}
    if config.posefield == "paper":
        network = {"time": "raw", "hidden": (32, 32), "layer_norm": True}
    return posefield.init_fields(
        statistics,
        keys,
        frames=frames,
        root=config.root,
        rotation=config.rotation,
        bound=config.bound,
        bound_sigma=config.bound_sigma,
        **network,
    )


def vertices_of(fields: posefield.Fields, params: Any, baked: lbs.BakedBody) -> Float[Array, "M F V 3"]:
    """Posed vertices of every motion, in metres."""
    pose = posefield.poses(fields, params)
    return lbs.pose(baked, pose.body, pose.root, pose.transl)
