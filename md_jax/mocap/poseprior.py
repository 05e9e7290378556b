"""What poses people take, from motion capture: a Gaussian to measure unlikely poses by, and a library to start from.

The Gaussian is what the pose statistics leave out: how joints move together. The library holds single poses, never a
motion, so that a search over it may find a pose of another action or person, but no recording.

A pose is rows of three numbers, as a PoseField's values are: the root's rotation vector where it turns, those of the 21
body joints, and the root's place where it moves, of which only the height counts (cameras go along with the root).
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs, rotations
from md_jax.errors import UserError
from md_jax.files import is_folder
from md_jax.mocap.clips import FLIP, Clip, load_clips, mirror_pose, moving_clips, split_clips, split_source
from md_jax.mocap.statistics import GENERIC, PoseStatistics
from md_jax.mocap.windows import Root, every_window

COUNT = 512  # poses of a library: about 10 cm (root mean square over joints) from any pose of its clips
_PER_ACTION = 600  # poses that a library is chosen from, of each action: none counts more for being longer
_LEAST_VARIANCE = 1e-4  # rad², of a direction that the capture never takes
_LEAST_HEIGHT = 0.05**2  # m², of the root: some captures have no height
WINDOW = 0.9  # seconds: turning and height count from a window's first frame

Rows = Any  # arrays (…, R, 3) of NumPy or JAX


@dataclass(frozen=True)
class PosePrior:
    """Poses as mean + axes · w, where w of the capture's poses has unit variance in every direction.

    Attributes:
        mean: radians and metres: the statistics' mean.
        axes: radians and metres a unit of w, D = 3·R.
        library: poses that lie apart, rotation vectors nearest to the mean.
    """

    mean: Float[np.ndarray, "R 3"]
    axes: Float[np.ndarray, "D D"]
    library: Float[np.ndarray, "K R 3"]

    def whitened(self, poses: Float[np.ndarray, "*N R 3"]) -> Float[np.ndarray, "*N D"]:
        """The w of poses."""
        flat = (poses - self.mean).reshape(*poses.shape[:-2], -1).astype(np.float64)
        return np.linalg.solve(self.axes.astype(np.float64), flat[..., None])[..., 0].astype(np.float32)


def pose_prior(
    clips: Sequence[Clip],
    statistics: PoseStatistics,
    baked: lbs.BakedBody,
    count: int = COUNT,
    root: Root = "fixed",
) -> PosePrior:
    """The poses of the clips of the statistics' action; of all actions, and both sides, where they are pooled.

    Args:
        clips: motion capture.
        statistics: whose action is taken, and whose mean is the centre.
        baked: the body whose joints tell how far poses are from each other.
        count: of the library, or as many as there are.
        root: what of it moves.

    Raises:
        UserError: no clip shows the action.
    """
    pooled = statistics.action == GENERIC
    shown = [clip for clip in clips if pooled or clip.action == statistics.action]
    by_action: dict[str, list[np.ndarray]] = {}
    for clip, rows in zip(shown, _rows(shown, root), strict=True):
        by_action.setdefault(clip.action, []).append(rows)
    if not by_action:
        raise UserError(f"no motion capture of {statistics.action!r} to take poses from: add --action=generic.")
    groups = []
    for _, parts in sorted(by_action.items()):
        poses = np.concatenate(parts)
        poses = poses[np.unique(np.linspace(0, len(poses) - 1, min(len(poses), _PER_ACTION)).round().astype(int))]
        groups.append(np.concatenate([poses, _mirrored(poses, root)]) if pooled else poses)
    poses = np.concatenate(groups).astype(np.float32)
    mean = _mean(statistics, root)
    turns = turning(root)
    centre = np.broadcast_to(mean, poses.shape).astype(np.float32)[:, turns]
    poses[:, turns] = rotations.on_host(rotations.nearest_axis_angle, poses[:, turns], centre)
    weight = np.concatenate([np.full(len(group), 1 / (len(group) * len(groups))) for group in groups])
    away = (poses - mean).reshape(len(poses), -1).astype(np.float64)
    # not a matmul, whose sums depend on threads: a motion should not
    covariance = np.einsum("ti,tj->ij", away * weight[:, None], away)
    if root == "full":
        covariance[-2, -2] = max(covariance[-2, -2], _LEAST_HEIGHT)
    variance, directions = np.linalg.eigh(covariance)
    axes = directions * np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
    joints = np.asarray(lbs.joints_of(baked, *parts_of(poses, root)))[:, 1:22]
    return PosePrior(mean, axes.astype(np.float32), poses[apart(joints, count)])


def turning(root: Root) -> slice:
    """The rows of a pose that are rotation vectors."""
    return slice(0, 21 if root == "fixed" else 22)


def parts_of(poses: Rows, root: Root) -> tuple[Rows, Rows | None, Rows | None]:
    """(body joints (…, 21, 3), the root's rotation vector or None, its place or None) of rows (…, R, 3)."""
    if root == "fixed":
        return poses, None, None
    return poses[..., 1:22, :], poses[..., 0, :], poses[..., 22, :] if root == "full" else None


def rows_of(
    prior: PosePrior,
    turns: Float[np.ndarray, "F 22 3 3"],
    height: Float[np.ndarray, "F"],
    azimuth: float,
    root: Root,
) -> Float[np.ndarray, "F R 3"]:
    """Poses that a camera sees as rows of three numbers, near a prior's mean.

    Args:
        prior: likely poses.
        turns: rotations of the pelvis, as a camera sees it, and of the body joints.
        height: of the pelvis, metres.
        azimuth: of that camera, radians.
        root: what of it moves.
    """
    return np.asarray(_rows_of(prior.mean, turns, height, jnp.float32(azimuth), root))


@functools.partial(jax.jit, static_argnames="root")
def _rows_of(mean: Array, turns: Array, height: Array, azimuth: Array, root: Root) -> Array:
    around = rotations.axis_angle_to_matrix(jnp.array([0, 1, 0], jnp.float32) * azimuth)
    vectors = rotations.matrix_to_axis_angle(turns.at[:, 0].set(around @ turns[:, 0]))
    rows = vectors if root != "fixed" else vectors[:, 1:]
    if root == "full":
        rows = jnp.concatenate([rows, height[:, None, None] * jnp.array([0.0, 1.0, 0.0])], axis=1)
    middle = jnp.broadcast_to(mean, rows.shape)[:, turning(root)]
    return rows.at[:, turning(root)].set(rotations.nearest_axis_angle(rows[:, turning(root)], middle))


def smoothed(rows: Float[np.ndarray, "F D"], weight: float) -> Float[np.ndarray, "F D"]:
    """The rows nearest to these whose accelerations cost: Σ |x − row|² + weight Σ |second difference of x|² (Whittaker
    1923). What is read of each frame alone flickers, by about 3 cm."""
    count = len(rows)
    bends = np.diff(np.eye(count), n=2, axis=0)
    return np.linalg.solve(np.eye(count) + weight * bends.T @ bends, rows).astype(np.float32)


def _rows(clips: Sequence[Clip], root: Root) -> list[Float[np.ndarray, "T R 3"]]:
    """The poses of each clip, each as in a window that begins up to `WINDOW` seconds before it."""
    if root == "fixed":
        return [clip.body_pose for clip in clips]
    alike: dict[tuple[int, float], list[int]] = {}  # by frames of a window and their rate: cut in one go
    for n, clip in enumerate(clips):
        alike.setdefault((min(max(round(WINDOW * clip.fps), 1), len(clip.body_pose)), clip.fps), []).append(n)
    found: dict[int, np.ndarray] = {}
    for (frames, fps), own in alike.items():
        cut = every_window([clips[n] for n in own], frames=frames, fps=fps, stride=frames / fps, root="full")
        turned, place = cut.root_orient[:, :, None], cut.transl[:, :, None] * (0, 1, 0)
        rows = np.concatenate([turned, cut.body_pose, place][: 3 if root == "full" else 2], axis=2)
        found |= {n: rows[cut.clip == k].reshape(-1, *rows.shape[2:]).astype(np.float32) for k, n in enumerate(own)}
    return [found[n] for n in range(len(clips))]


def _mirrored(poses: Float[np.ndarray, "N R 3"], root: Root) -> Float[np.ndarray, "N R 3"]:
    if root == "fixed":
        return mirror_pose(poses)
    return np.concatenate([poses[:, :1] * FLIP, mirror_pose(poses[:, 1:22]), poses[:, 22:]], axis=1)


def _mean(statistics: PoseStatistics, root: Root) -> Float[np.ndarray, "R 3"]:
    rows = [statistics.body_mean]
    if root != "fixed":
        rows.insert(0, statistics.root_mean[None])
    if root == "full":
        assert statistics.transl_mean is not None
        rows.append(statistics.transl_mean[None] * (0, 1, 0))
    return np.concatenate(rows).astype(np.float32)


def clips_for(actions: Collection[str], source: str = "") -> tuple[Clip, ...]:
    """`prior_clips`, and clips of those of these actions that it has none of (`md_jax.mocap.clips.moving_clips`)."""
    clips = prior_clips(source)
    others = set(actions) - {clip.action for clip in clips} - {GENERIC}
    if not others or (source and is_folder(source)):
        return clips
    return (*clips, *(clip for clip in split_clips(moving_clips()).train if clip.action in others))


@functools.lru_cache(maxsize=2)
def prior_clips(source: str | os.PathLike = "", held_out: float = 0.2) -> tuple[Clip, ...]:
    """The clips that poses may be taken from: a user's folder, or the side of the shipped capture that is not held out
    for `md_jax.evaluate`."""
    if source and is_folder(source):
        return tuple(load_clips(source))
    return tuple(split_source(None, None, held_out).train)


def apart(points: Float[np.ndarray, "N P 3"], count: int) -> list[int]:
    """Indices of `count` of N sets of points that lie far from each other: each next one is the farthest from those
    before (Gonzalez 1985), the first is the one nearest to the mean.

    Args:
        points: what is compared, root mean square over points.
        count: at most N.
    """
    flat = np.asarray(points, np.float32).reshape(len(points), -1)
    chosen = [int(np.square(flat - flat.mean(axis=0)).sum(axis=1).argmin())]
    nearest = np.square(flat - flat[chosen[0]]).sum(axis=1)
    for _ in range(min(count, len(flat)) - 1):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.square(flat - flat[chosen[-1]]).sum(axis=1))
    return chosen


def to_poses(
    white: Float[Array, "*N D"], mean: Float[Array, "R 3"], axes: Float[Array, "D D"]
) -> Float[Array, "*N R 3"]:
    """Poses of w, differentiable (see `PosePrior`)."""
    return mean + (white @ axes.T).reshape(*white.shape[:-1], -1, 3)
