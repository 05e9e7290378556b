"""What poses people take, from motion capture: a Gaussian to measure unlikely poses by, and a library to start from.

The Gaussian is what the pose statistics leave out: how joints move together. The library holds single poses, never a
motion, so that a search over it may find a pose of another action or person, but no recording.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs, rotations
from md_jax.errors import UserError
from md_jax.files import is_folder
from md_jax.mocap.clips import Clip, load_clips, mirror_pose, split_source
from md_jax.mocap.statistics import GENERIC, PoseStatistics

COUNT = 512  # poses of a library: about 10 cm (root mean square over joints) from any pose of its clips
_PER_ACTION = 600  # poses that a library is chosen from, of each action: none counts more for being longer
_LEAST_VARIANCE = 1e-4  # rad², of a direction that the capture never takes


@dataclass(frozen=True)
class PosePrior:
    """Poses as mean + axes · w, where w of the capture's poses has unit variance in every direction.

    Attributes:
        mean: rotation vectors of the 21 body joints, radians: the statistics' mean.
        axes: radians a unit of w.
        library: poses that lie apart, rotation vectors nearest to the mean.
    """

    mean: Float[np.ndarray, "21 3"]
    axes: Float[np.ndarray, "63 63"]
    library: Float[np.ndarray, "K 21 3"]

    def whitened(self, poses: Float[np.ndarray, "*N 21 3"]) -> Float[np.ndarray, "*N 63"]:
        """The w of poses."""
        flat = (poses - self.mean).reshape(*poses.shape[:-2], 63).astype(np.float64)
        return np.linalg.solve(self.axes.astype(np.float64), flat[..., None])[..., 0].astype(np.float32)


def pose_prior(
    clips: Sequence[Clip], statistics: PoseStatistics, baked: lbs.BakedBody, count: int = COUNT
) -> PosePrior:
    """The poses of the clips of the statistics' action; of all actions, and both sides, where they are pooled.

    Args:
        clips: motion capture.
        statistics: whose action is taken, and whose mean is the centre.
        baked: the body whose joints tell how far poses are from each other.
        count: of the library, or as many as there are.

    Raises:
        UserError: no clip shows the action.
    """
    pooled = statistics.action == GENERIC
    by_action: dict[str, list[np.ndarray]] = {}
    for clip in clips:
        if pooled or clip.action == statistics.action:
            by_action.setdefault(clip.action, []).append(clip.body_pose)
    if not by_action:
        raise UserError(f"no motion capture of {statistics.action!r} to take poses from: add --action=generic.")
    groups = []
    for _, parts in sorted(by_action.items()):
        poses = np.concatenate(parts)
        poses = poses[np.unique(np.linspace(0, len(poses) - 1, min(len(poses), _PER_ACTION)).round().astype(int))]
        groups.append(np.concatenate([poses, mirror_pose(poses)]) if pooled else poses)
    poses = np.concatenate(groups).astype(np.float32)
    centre = np.broadcast_to(statistics.body_mean, poses.shape).astype(np.float32)
    poses = rotations.on_host(rotations.nearest_axis_angle, poses, centre)
    weight = np.concatenate([np.full(len(group), 1 / (len(group) * len(groups))) for group in groups])
    away = (poses - statistics.body_mean).reshape(-1, 63).astype(np.float64)
    variance, directions = np.linalg.eigh((away * weight[:, None]).T @ away)
    axes = directions * np.sqrt(np.maximum(variance, _LEAST_VARIANCE))
    joints = np.asarray(lbs.joints_of(baked, poses))[:, 1:22]
    return PosePrior(statistics.body_mean, axes.astype(np.float32), poses[apart(joints, count)])


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
    white: Float[Array, "*N 63"], mean: Float[Array, "21 3"], axes: Float[Array, "63 63"]
) -> Float[Array, "*N 21 3"]:
    """Poses of w, differentiable (see `PosePrior`)."""
    return mean + (white @ axes.T).reshape(*white.shape[:-1], 21, 3)
