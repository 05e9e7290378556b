"""Fitting motions to clips: poses to begin at, then descent on blurred pictures, then the PoseField.

A prior that reads poses from its latents gives the first ones. For others they are searched in a library. Descent alone
fails on real clips, from whatever blur: from the side one leg hides the other, so that either way out of the mean pose
looks worse at first. The search looks at whole pictures and has no such trap; it costs one render a pose of the library
and camera. Descent goes by joint angles in the coordinates of the capture's own poses, where one step is as likely in
any direction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from md_jax.body import lbs, rotations
from md_jax.control import targets
from md_jax.fit import posefield
from md_jax.mocap.poseprior import PosePrior, parts_of, rows_of, smoothed, to_poses, turning
from md_jax.mocap.windows import Root

SEARCH_BLUR = 1 / 32  # of the picture's height: a pixel of 32
STIFFNESS = 2.0  # of a path through the library: median picture distances a square metre
BLURS = (1.5 / 32, 0.3 / 32)  # of the picture's height, first and last step of the descent
RATE = 0.1  # of the descent, in standard deviations of poses
SMOOTHNESS = 0.03  # of the descent, where nothing else is said (see `fit_clips`)
UNLIKELY = 0.03  # weight of unlikely poses, beside squared pixels of 32×32
FIELD_STEPS, FIELD_RATE = 600, 0.02
ASKED = 1.0  # weight of what is asked, in square centimetres, beside squared differences from the poses, rad² and m²

Distances = Callable[[Array, Array, Array, Array, float], Float[np.ndarray, "F K"]]
"""(vertices (K, V, 3), video (F, H, W, 3), azimuth, elevation, blur) -> squared distances of pictures (F, K)."""


class Targets(NamedTuple):
    """What M motions should look like, each from its camera."""

    azimuth: Float[Array, "M"]  # radians
    elevation: Float[Array, "M"]  # radians
    video: Float[Array, "M F H W 3"]  # in [0, 1]
    blur: Float[Array, ""]  # standard deviation, pixels


class PictureLoss(Protocol):
    """How far renders are from `Targets` (`bridge.distill.pictures.PictureCritic`, as a JAX function)."""

    def loss_and_grad(
        self, x: Float[Array, "M F V 3"], draws: Targets, /
    ) -> tuple[Float[Array, "M"], Float[Array, "M F V 3"], dict[str, Array]]:
        """(loss, its gradient in the vertices, no metrics)."""
        ...


class ClipSource(Protocol):
    """What samples clips, and compares the body with them (`bridge.build.TorchSide`)."""

    @property
    def pictures(self) -> PictureLoss: ...

    def sample(
        self,
        azimuth: Float[Array, "M"],
        noise: Float[Array, "M C f h w"],
        steps: int,
        scale: float,
        windows: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "M n"]] | None = None,
    ) -> Float[Array, "M F H W 3"]:
        """A clip of each motion, in [0, 1]; of a longer one by windows: their first frames and sentences."""
        ...

    def read(
        self, video: Float[Array, "M F H W 3"]
    ) -> tuple[Float[np.ndarray, "M F 22 3 3"], Float[np.ndarray, "M F"]] | None:
        """The poses that clips show: rotations and heights as `rows_of` takes them; None: it cannot tell."""
        ...

    def distances(
        self, verts: Array, video: Array, azimuth: Array, elevation: Array, blur: float
    ) -> Float[np.ndarray, "F K"]:
        """See `Distances`."""
        ...


def fit_clips(
    priors: list[PosePrior],
    baked: lbs.BakedBody,
    azimuth: Float[Array, "M"],
    elevation: Float[Array, "M"],
    video: Float[Array, "M F H W 3"],
    source: ClipSource,
    steps: int,
    root: Root = "fixed",
    smoothness: float = SMOOTHNESS,
) -> Float[Array, "M F R 3"]:
    """The poses (rows of `md_jax.mocap.poseprior`) whose renders are most like each motion's clip.

    Args:
        priors: likely poses, one for each motion.
        baked: the body.
        azimuth, elevation: of each clip's camera, radians.
        video: the clips, in [0, 1].
        source: reads poses from clips, or compares clips with renders of poses.
        steps: of the descent; 0: none.
        root: what of it moves; the priors' own.
        smoothness: weight of acceleration, beside read poses, and in the descent beside squared pixels of 32×32.
    """
    shown = source.read(video)
    if shown is None:
        starts = searched(priors, baked, azimuth, elevation, video, source.distances, root)
        rows = [prior.whitened(start) for prior, start in zip(priors, starts, strict=True)]
    else:
        turns, height = shown
        read = [rows_of(prior, turns[m], height[m], float(azimuth[m]), root) for m, prior in enumerate(priors)]
        rows = [smoothed(prior.whitened(poses), smoothness) for prior, poses in zip(priors, read, strict=True)]
    white = jnp.stack([jnp.asarray(each) for each in rows])
    means, axes = (jnp.stack([getattr(prior, name) for prior in priors]) for name in ("mean", "axes"))
    targets = Targets(azimuth, elevation, video, jnp.zeros(()))
    white = _descend(white, means, axes, baked, targets, source.pictures, steps, root, smoothness)
    return jax.jit(jax.vmap(to_poses))(white, means, axes)


def searched(
    priors: list[PosePrior],
    baked: lbs.BakedBody,
    azimuth: Float[Array, "M"],
    elevation: Float[Array, "M"],
    video: Float[Array, "M F H W 3"],
    distances: Distances,
    root: Root,
) -> list[Float[np.ndarray, "F R 3"]]:
    """The path through each motion's library whose renders are most like its clip (see `fit_clips`)."""
    starts: dict[int, np.ndarray] = {}
    for alike in _filmed_alike(priors, azimuth, elevation):
        first, prior = alike[0], priors[alike[0]]
        library = parts_of(prior.library, root)
        verts, joints = lbs.pose(baked, *library), lbs.joints_of(baked, *library)[:, 1:22]
        seen = video[jnp.asarray(alike)].reshape(-1, *video.shape[2:])
        costs = distances(verts, seen, azimuth[first], elevation[first], SEARCH_BLUR * video.shape[2])
        for m, own in zip(alike, np.split(costs, len(alike)), strict=True):
            starts[m] = prior.library[best_path(own / np.median(own), STIFFNESS * square_apart(joints))]
    return [starts[m] for m in range(len(priors))]


def _filmed_alike(priors: list[PosePrior], azimuth: Array, elevation: Array) -> list[list[int]]:
    """Motions of one library and camera, together: its poses are filmed once for all of them."""
    groups: dict[tuple[int, float, float], list[int]] = {}
    for m, prior in enumerate(priors):
        groups.setdefault((id(prior), float(azimuth[m]), float(elevation[m])), []).append(m)
    return list(groups.values())


def square_apart(joints: Float[Array, "K J 3"]) -> Float[np.ndarray, "K K"]:
    """Squared mean distance over joints of each two poses, square metres."""
    points = np.asarray(joints, np.float32)
    rows = [np.linalg.norm(points - each, axis=-1).mean(axis=-1) for each in points]
    return np.square(np.stack(rows))


def best_path(costs: Float[np.ndarray, "F K"], steps: Float[np.ndarray, "K K"]) -> Int[np.ndarray, "F"]:
    """The path of one state a frame with the least sum of costs and of steps between frames (Viterbi 1967)."""
    total, came_from = costs[0], []
    for cost in costs[1:]:
        ways = total[:, None] + steps
        came_from.append(ways.argmin(axis=0))
        total = ways.min(axis=0) + cost
    path = [int(total.argmin())]
    for best in reversed(came_from):
        path.append(int(best[path[-1]]))
    return np.array(path[::-1])


def _descend(
    white: Float[Array, "M F D"],
    means: Float[Array, "M R 3"],
    axes: Float[Array, "M D D"],
    baked: lbs.BakedBody,
    targets: Targets,
    op: PictureLoss,
    steps: int,
    root: Root,
    smoothness: float,
) -> Float[Array, "M F D"]:
    """Adam on the poses, each frame's apart, while the blur shrinks."""
    if not steps:
        return white
    height = targets.video.shape[2]
    optimizer = optax.adam(optax.cosine_decay_schedule(RATE, steps, 0.05), b2=0.99)
    scale = jnp.float32((height / 32) ** 2)  # so many pixels weigh as much as those of 32×32

    def vertices(white: Array, baked: lbs.BakedBody) -> Array:
        return lbs.pose(baked, *parts_of(jax.vmap(to_poses)(white, means, axes), root))

    def unlikely(white: Array) -> Array:
        bends = jnp.diff(white, n=2, axis=1) if white.shape[1] > 2 else jnp.zeros(())
        return scale * (UNLIKELY * jnp.sum(white**2) + smoothness * jnp.sum(bends**2))

    @jax.jit
    def backward(white: Array, baked: lbs.BakedBody, state: Any, grad: Array) -> tuple[Array, Any]:
        _, pullback = jax.vjp(lambda w: vertices(w, baked), white)
        updates, state = optimizer.update(pullback(grad)[0] + jax.grad(unlikely)(white), state)
        return optax.apply_updates(white, updates), state

    forward, state = jax.jit(vertices), optimizer.init(white)
    for blur in np.geomspace(*BLURS, steps) * height:
        _, grad, _ = op.loss_and_grad(forward(white, baked), targets._replace(blur=jnp.float32(blur)))
        white, state = backward(white, baked, state, grad)
    return white


def field_at(
    fields: posefield.Fields, params: Any, poses: Float[Array, "M F R 3"], asked: targets.Targets | None = None
) -> Any:
    """Parameters of the fields whose poses come nearest to these, and meet what is asked of them.

    Args:
        fields, params: from `posefield.init_fields`.
        poses: rows of `md_jax.mocap.poseprior`, for the fields' root.
        asked: what is asked beside the sentence.
    """
    goal = poses
    if fields.rotation == "6d":
        turns = turning(fields.root)
        goal = rotations.matrix_to_6d(rotations.axis_angle_to_matrix(poses[..., turns, :]))
        goal = jnp.concatenate([goal, jnp.pad(poses[..., turns.stop :, :], ((0, 0),) * 3 + ((0, 3),))], axis=-2)
    return _matched(fields, jax.tree.map(jnp.array, params), goal, asked)


# All are arguments: a constant would be compiled anew for each value.
@partial(jax.jit, donate_argnums=1)
def _matched(
    fields: posefield.Fields, params: Any, goal: Float[Array, "M F K R"], asked: targets.Targets | None
) -> Any:
    optimizer = optax.adam(optax.cosine_decay_schedule(FIELD_RATE, FIELD_STEPS, 0.01))

    def loss(params: Any) -> Array:
        apart = jnp.sum(jnp.square(posefield.apply_fields(fields, params) - goal))
        if asked is None:
            return apart
        missed = targets.misses(asked, lambda tau: posefield.poses(fields, params, tau))
        return apart + ASKED * sum((jnp.sum(each) for each in missed.values()), jnp.zeros(()))

    def step(_: Array, carried: tuple[Any, Any]) -> tuple[Any, Any]:
        params, state = carried
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    return jax.lax.fori_loop(0, FIELD_STEPS, step, (params, optimizer.init(params)))[0]
