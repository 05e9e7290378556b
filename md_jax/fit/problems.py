"""What is optimised, behind one protocol: PoseFields that move a body, or in latent mode the latents of a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree, UInt8

from md_jax.body import lbs
from md_jax.config import Config
from md_jax.fit import losses, posefield
from md_jax.fit.draws import ImageShape
from md_jax.mocap.statistics import PoseStatistics

Params = Mapping[str, Any]
"""What is trained: a tree of PoseField parameters, or {"z": latents}; every leaf has the leading axis M."""


class Problem(Protocol):
    """What stays fixed during a run; the parameters are handed to its methods."""

    @property
    def key(self) -> Array:
        """The run's PRNG key."""
        ...

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, f, h, w) of the prior."""
        ...

    @property
    def azimuth_ranges(self) -> list[list[tuple[float, float]]]:
        """Per motion the arcs that cameras may stand on, radians."""
        ...

    @property
    def elevation_range(self) -> tuple[float, float]:
        """Radians."""
        ...

    @property
    def image(self) -> ImageShape | None:
        """What an image prior sees; None: there is none."""
        ...

    @property
    def arrays(self) -> PyTree[Array]:
        """What `show` reads beside the parameters: arguments of a compiled function, as constants would slow it."""
        ...

    def show(self, params: Params, arrays: PyTree[Array]) -> tuple[Float[Array, "M *x"], Float[Array, "M"]]:
        """(what the critic judges, the smoothness term): pure, differentiable in `params`."""
        ...


@dataclasses.dataclass(frozen=True)
class PoseProblem:
    """PoseFields move a body; the critic judges its vertices (M, F, V, 3)."""

    fields: posefield.Fields
    baked: lbs.BakedBody
    key: Array
    latent_shape: tuple[int, int, int, int]
    azimuth_ranges: list[list[tuple[float, float]]]
    elevation_range: tuple[float, float]
    image: ImageShape | None = None

    @property
    def arrays(self) -> PyTree[Array]:
        """(fields, body); see `Problem`."""
        return self.fields, self.baked

    def show(self, params: Params, arrays: PyTree[Array]) -> tuple[Float[Array, "M F V 3"], Float[Array, "M"]]:
        """(posed vertices of every motion, smoothness of its poses); see `Problem`."""
        fields, baked = arrays
        return posed_vertices(fields, params, baked, follow=True), losses.smoothness(
            posefield.apply_fields(fields, params)
        )

    def vertices(self, params: Params) -> Float[Array, "M F V 3"]:
        """Posed vertices of every motion, in metres."""
        return posed_vertices(self.fields, params, self.baked)


@dataclasses.dataclass(frozen=True)
class LatentProblem:
    """The latents of each motion's video are the parameters {"z": (M, C, f, h, w)}; the critic judges them directly."""

    key: Array
    latent_shape: tuple[int, int, int, int]
    azimuth_ranges: list[list[tuple[float, float]]]  # the camera that filmed each video, as an arc of no width
    elevation_range: tuple[float, float]
    decode: Callable[[Float[Array, "M C f h w"]], UInt8[np.ndarray, "M F H W 3"]]  # by the prior
    image: None = None
    arrays: tuple[()] = ()

    def show(self, params: Params, arrays: PyTree[Array]) -> tuple[Float[Array, "M C f h w"], Float[Array, "M"]]:
        """(the latents, a smoothness of 0); see `Problem`."""
        return params["z"], jnp.zeros(len(params["z"]))


def make_fields(config: Config, statistics: list[PoseStatistics], frames: int) -> tuple[posefield.Fields, Params]:
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


def posed_vertices(
    fields: posefield.Fields, params: Params, baked: lbs.BakedBody, *, follow: bool = False
) -> Float[Array, "M F V 3"]:
    """Posed vertices of every motion, in metres; with `follow` as a camera sees them that goes along with the root: at
    the origin along the floor, with the gradient of a translation all the same."""
    pose = posefield.poses(fields, params)
    if follow and pose.transl is not None:
        seen = pose.transl - jax.lax.stop_gradient(pose.transl * jnp.array([1.0, 0.0, 1.0]))
        pose = pose._replace(transl=seen)
    return lbs.pose(baked, pose.body, pose.root, pose.transl)
