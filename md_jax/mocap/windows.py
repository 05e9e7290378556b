"""Windows of motion-capture clips: at any rate, speed and side, heading forward in their first frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from md_jax.body import rotations
from md_jax.errors import UserError
from md_jax.mocap.clips import FLIP, REFLECT, Clip, mirror_pose
from md_jax.mocap.motion import slerp_rotvecs

Root = Literal["fixed", "orient", "full"]


class Windows(NamedTuple):
    """N windows of F frames; angles in radians, lengths in metres."""

    body_pose: Float[np.ndarray, "N F 21 3"]
    root_orient: Float[np.ndarray, "N F 3"]
    transl: Float[np.ndarray, "N F 3"]
    clip: Int[np.ndarray, "N"]  # index into the clips given
    start: Float[np.ndarray, "N"]  # seconds into that clip
    speed: Float[np.ndarray, "N"]
    mirrored: np.ndarray  # (N,) bool


def cut_windows(
    clips: Sequence[Clip],
    clip: Int[np.ndarray, "N"],
    start: Float[np.ndarray, "N"],
    *,
    frames: int,
    fps: float,
    speed: Float[np.ndarray, "N"] | float = 1.0,
    mirrored: np.ndarray | bool = False,
    root: Root = "fixed",
) -> Windows:
    """Windows at given places.

    The first frame's yaw is removed and its position put at the origin, height included; the mirror is applied
    after that.

    Args:
        clips: the clips.
        clip: which clip each window comes from.
        start: its first frame, seconds into the clip.
        frames, fps: frames a window and frames a second of the result.
        speed: how much faster than in the clip the person moves; a window spans
            (frames − 1) / fps · speed seconds of it.
        mirrored: whether left and right change places.
        root: "fixed" gives identity orientation and no translation, "orient" no translation.

    Raises:
        UserError: a window reaches beyond its clip.
    """
    count = len(clip)
    speed = np.broadcast_to(np.asarray(speed, np.float64), (count,))
    mirrored = np.broadcast_to(np.asarray(mirrored, bool), (count,))
    rate = np.array([c.fps for c in clips])[clip]
    lengths = np.array([len(c.body_pose) for c in clips])
    position = (start[:, None] + np.arange(frames) / fps * speed[:, None]) * rate[:, None]
    beyond = (position[:, -1] > lengths[clip] - 1 + 1e-3) | (position[:, 0] < -1e-3)
    if np.any(beyond):
        n = int(np.argmax(beyond))
        raise UserError(
            f"window {n} covers frames {position[n, 0]:.1f} to {position[n, -1]:.1f} of the clip"
            f" {clips[clip[n]].name}, which has {lengths[clip[n]]}."
        )
    low = np.clip(np.floor(position + 1e-6).astype(int), 0, lengths[clip][:, None] - 1)
    high = np.minimum(low + 1, lengths[clip][:, None] - 1)
    share = np.clip(position - low, 0, 1).astype(np.float32)
    offset = (np.cumsum(lengths) - lengths)[clip][:, None]

    poses = np.concatenate([np.concatenate([c.root_orient[:, None], c.body_pose], axis=1) for c in clips])
    fraction = np.broadcast_to(share[..., None], (*share.shape, 22))
    ends = poses[offset + low], poses[offset + high]
    rotvecs = rotations.on_host(slerp_rotvecs, *ends, fraction, rows=256)
    moves = np.concatenate([np.zeros((len(c.body_pose), 3)) if c.transl is None else c.transl for c in clips])
    transl = moves[offset + low] * (1 - share[..., None]) + moves[offset + high] * share[..., None]
    placed = rotations.on_host(_face_forward, rotvecs[:, :, 0], transl.astype(np.float32), rows=256)
    root_orient, transl = placed[..., :3], placed[..., 3:]
    if root == "fixed":
        root_orient = np.zeros_like(root_orient)
    if root != "full":
        transl = np.zeros_like(transl)
    side = mirrored[:, None, None]
    body_pose = rotvecs[:, :, 1:]
    return Windows(
        body_pose=np.where(side[..., None], mirror_pose(body_pose), body_pose),
        root_orient=np.where(side, root_orient * FLIP, root_orient),
        transl=np.where(side, transl * REFLECT, transl),
        clip=np.asarray(clip),
        start=np.asarray(start),
        speed=speed,
        mirrored=mirrored,
    )


def every_window(
    clips: Sequence[Clip],
    *,
    frames: int,
    fps: float,
    stride: float,
    speed: float = 1.0,
    mirrored: bool = False,
    root: Root = "fixed",
) -> Windows:
    """All windows that start `stride` seconds apart; clips shorter than one window give none.

    Args:
        stride: seconds between starts.
        clips, frames, fps, speed, mirrored, root: as in `cut_windows`.

    Raises:
        UserError: no clip is long enough.
    """
    room = _room(clips, frames, fps, speed)
    starts = [np.arange(0, r + 1e-6, stride) if r >= 0 else np.zeros(0) for r in room]
    clip = np.repeat(np.arange(len(clips)), [len(s) for s in starts])
    start = np.minimum(np.concatenate(starts), room[clip])
    return cut_windows(clips, clip, start, frames=frames, fps=fps, speed=speed, mirrored=mirrored, root=root)


def sample_windows(
    rng: np.random.Generator,
    clips: Sequence[Clip],
    count: int,
    *,
    frames: int,
    fps: float,
    speed: tuple[float, float] = (0.85, 1.15),
    mirror: bool = True,
    root: Root = "fixed",
    share: dict[str, float] | None = None,
) -> Windows:
    """Random windows, balanced: first an action, then one of its clips in proportion to its seconds, then a
    start.

    Args:
        rng: the only source of randomness.
        count: N.
        speed: range of the speed factor, log-uniform. Clips that are too short at the drawn speed are slowed
            down to fit, if they are long enough for the lowest speed; otherwise they are left out.
        mirror: whether half of the windows are mirrored.
        share: relative frequency of each action; default: all the same.
        clips, frames, fps, root: as in `cut_windows`.

    Raises:
        UserError: an action has no clip that is long enough.
    """
    shortest = _room(clips, frames, fps, speed[0])
    by_action = {a: [i for i, c in enumerate(clips) if c.action == a] for a in sorted({c.action for c in clips})}
    names = [action for action in by_action if share is None or share.get(action, 0) > 0]
    weights = np.array([1.0 if share is None else share[action] for action in names])
    clip = np.zeros(count, int)
    drawn = rng.choice(len(names), size=count, p=weights / weights.sum())
    for a, action in enumerate(names):
        able = np.array([i for i in by_action[action] if shortest[i] >= 0], int)
        if not len(able):
            raise UserError(
                f"no clip of {action} is as long as {frames} frames at {fps} a second: cut shorter windows."
            )
        seconds = np.array([clips[i].duration for i in able])
        clip[drawn == a] = rng.choice(able, size=int((drawn == a).sum()), p=seconds / seconds.sum())
    factor = np.exp(rng.uniform(np.log(speed[0]), np.log(speed[1]), count))
    factor = np.minimum(factor, np.array([c.duration for c in clips])[clip] / ((frames - 1) / fps))
    room = np.array([c.duration for c in clips])[clip] - (frames - 1) / fps * factor
    start = rng.uniform(size=count) * np.maximum(room, 0)
    mirrored = rng.uniform(size=count) < (0.5 if mirror else 0.0)
    return cut_windows(clips, clip, start, frames=frames, fps=fps, speed=factor, mirrored=mirrored, root=root)


def _room(clips: Sequence[Clip], frames: int, fps: float, speed: float) -> Float[np.ndarray, "clips"]:
    """Seconds by which each clip is longer than a window."""
    room = np.array([clip.duration for clip in clips]) - (frames - 1) / fps * speed
    if not np.any(room >= 0):
        raise UserError(
            f"no clip is as long as {frames} frames at {fps} frames a second and speed {speed}:"
            f" the longest lasts {max((c.duration for c in clips), default=0.0):.2f} s."
        )
    return room


def _face_forward(root_orient: Float[Array, "N F 3"], transl: Float[Array, "N F 3"]) -> Float[Array, "N F 6"]:
    """Both, turned so that the first frame's yaw is zero, and moved so that its root is at the origin."""
    matrix = rotations.axis_angle_to_matrix(root_orient)
    yaw = rotations.yaw_of(matrix[:, :1])
    transl = transl - transl[:, :1]
    back = rotations.yaw_matrix(-yaw)
    root_orient = rotations.matrix_to_axis_angle(back @ matrix)
    return jnp.concatenate([root_orient, (back @ transl[..., None])[..., 0]], axis=-1)


def evenly(count: int, most: int) -> Int[np.ndarray, "n"]:
    """Indices of at most `most` of `count` windows, frames or pictures, evenly spread from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
