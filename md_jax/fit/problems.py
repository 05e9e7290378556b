"""What is optimised, behind one protocol: PoseFields that move a body, or in latent mode the latents of a video."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree, UInt8

from md_jax.body import lbs
from md_jax.config import Config
from md_jax.control.losses import smoothness
from md_jax.control.targets import Targets, misses
from md_jax.draws.draw import Draws, ImageShape
from md_jax.draws.noise import Coherence
from md_jax.fit import posefield
from md_jax.mocap.statistics import PoseStatistics
from md_jax.timeline.features import octaves_for
from md_jax.timeline.windows import Windows

Params = Mapping[str, Any]
"""What is trained: a tree of PoseField parameters, or {"z": latents}; every leaf has the leading axis M."""


Terms = dict[str, Float[Array, "M"]]
"""Terms of the loss beside the critic's, by name: "reg" is the smoothness, "control" what is asked by options."""


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
    def coherence(self) -> Coherence | None:
        """What cameras see of movements, for coherent noise; None: noise is fresh or fixed."""
        ...

    @property
    def arrays(self) -> PyTree[Array]:
        """What `show` reads beside the parameters: arguments of a compiled function, as constants would slow it."""
        ...

    @property
    def windows(self) -> Windows | None:
        """The windows of a motion that is longer than a clip; None: the critic judges all of it."""
        ...

    def show(
        self, params: Params, arrays: PyTree[Array], start: Int[Array, "M views"] | None = None
    ) -> tuple[Float[Array, "M *x"], Terms]:
        """(what the critic judges, the terms that JAX computes itself): pure, differentiable in `params`.

        `start` holds the first frame of each view's window, and is None where there are no windows.
        """
        ...

    def whole(self, params: Params) -> Float[Array, "M *x"]:
        """All that is optimised, as `show` gives it without windows."""
        ...

    def __hash__(self) -> int:
        """By identity: what is compiled for a problem is kept with it."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)  # itself alone: what is compiled for it is kept with it
class PoseProblem:
    """PoseFields move a body; the critic judges its vertices (M, F, V, 3), or of a longer motion (M, views·W, V, 3)."""

    fields: posefield.Fields
    baked: lbs.BakedBody
    key: Array
    latent_shape: tuple[int, int, int, int]
    azimuth_ranges: list[list[tuple[float, float]]]
    elevation_range: tuple[float, float]
    image: ImageShape | None = None
    windows: Windows | None = None
    targets: Targets | None = None  # what is asked beside the sentence
    coherence: Coherence | None = None

    @property
    def arrays(self) -> PyTree[Array]:
        """(fields, body, targets); see `Problem`."""
        return self.fields, self.baked, self.targets

    def show(
        self, params: Params, arrays: PyTree[Array], start: Int[Array, "M views"] | None = None
    ) -> tuple[Float[Array, "M F V 3"], Terms]:
        """(posed vertices of every motion, its terms); see `Problem`.

        The smoothness of a longer motion is that of all its frames, in the measure of one clip: the critic, too, says
        in each step as much of a long motion as of a short one.
        """
        fields, baked, targets = arrays
        values = posefield.apply_fields(fields, params)
        asked: Terms = {}
        if targets is not None:
            missed = misses(targets, lambda tau: posefield.poses(fields, params, tau))
            asked["control"] = sum(missed.values(), jnp.zeros(()))
        if self.windows is None or start is None:
            return posed_vertices(fields, params, baked, follow=True), {"reg": smoothness(values), **asked}
        length, frames, loop = self.windows.length, self.windows.frames, self.windows.loop
        tau = (start[:, :, None] + jnp.arange(length)).astype(float)
        tau = (tau % frames if loop else tau).reshape(len(start), -1)
        share = (length - 1) / (frames if loop else frames - 1)
        return posed_vertices(fields, params, baked, tau, follow=True), {
            "reg": share * smoothness(values, loop),
            **asked,
        }

    def whole(self, params: Params) -> Float[Array, "M F V 3"]:
        """The posed vertices; see `Problem`."""
        return self.vertices(params)

    def vertices(self, params: Params) -> Float[Array, "M F V 3"]:
        """Posed vertices of every motion, in metres."""
        return posed_vertices(self.fields, params, self.baked)


@dataclasses.dataclass(frozen=True, eq=False)
class LatentProblem:
    """The latents of each motion's video are the parameters {"z": (M, C, f, h, w)}; the critic judges them directly."""

    key: Array
    latent_shape: tuple[int, int, int, int]
    azimuth_ranges: list[list[tuple[float, float]]]  # the camera that filmed each video, as an arc of no width
    elevation_range: tuple[float, float]
    decode: Callable[[Float[Array, "M C f h w"]], UInt8[np.ndarray, "M F H W 3"]]  # by the prior
    coherence: Coherence | None = None
    image: None = None
    windows: None = None
    arrays: tuple[()] = ()

    def show(
        self, params: Params, arrays: PyTree[Array], start: Int[Array, "M views"] | None = None
    ) -> tuple[Float[Array, "M C f h w"], Terms]:
        """(the latents, a smoothness of 0); see `Problem`."""
        return params["z"], {"reg": jnp.zeros(len(params["z"]))}

    def whole(self, params: Params) -> Float[Array, "M C f h w"]:
        """The latents; see `Problem`."""
        return params["z"]


def make_fields(
    config: Config,
    statistics: Sequence[PoseStatistics | Sequence[posefield.Span]],
    frames: int,
    clip: int | None = None,
) -> tuple[posefield.Fields, Params]:
    """The M PoseFields and their trainable parameters, at the mean poses of `statistics`.

    Args:
        config: the options.
        statistics: of each motion, or of its spans.
        frames: of a motion.
        clip: frames of the prior's clip; default: the same.
    """
    clip = clip or frames
    numbers = config.first_motion + jnp.arange(len(statistics))
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), numbers)
    frequencies = octaves_for(config.frequencies, clip, frames, config.loop)
    network: dict[str, Any] = {"frequencies": frequencies, "loop": config.loop, "blend": clip / 2}
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
    fields: posefield.Fields,
    params: Params,
    baked: lbs.BakedBody,
    tau: Float[Array, "M F"] | None = None,
    *,
    follow: bool = False,
) -> Float[Array, "M F V 3"]:
    """Posed vertices of every motion, in metres, at its frame indices `tau` (default: all frames).

    With `follow` as a camera sees them that goes along with the root: at the origin along the floor, with the gradient
    of a translation all the same.
    """
    pose = posefield.poses(fields, params, tau)
    if follow:
        pose = followed(pose)
    return lbs.pose(baked, pose.body, pose.root, pose.transl)


def followed(pose: posefield.Poses) -> posefield.Poses:
    """Poses as a camera sees them that goes along with the root (see `posed_vertices`)."""
    if pose.transl is None:
        return pose
    seen = pose.transl - jax.lax.stop_gradient(pose.transl * jnp.array([1.0, 0.0, 1.0]))
    return pose._replace(transl=seen)
