"""Real motion to compare with: windows of the motion capture that no prior was trained on, and what they have.

The clips are split as for training the embedded prior (`md_jax.mocap.clips.split_source`). Distances go to windows of
the held-out side alone, at every phase, on both sides and at three speeds; the unit is what other real windows of the
action have: those of the training side, which are other recordings, or another part of the same one where there are
fewer than three (`Reference.how` says "time").
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from md_jax.body import rotations
from md_jax.errors import UserError
from md_jax.evaluate import measures
from md_jax.mocap.clips import Clip, Split
from md_jax.mocap.motion import Motion, resample, slerp_rotvecs
from md_jax.mocap.windows import evenly

Root = Literal["fixed", "turning"]
FRAMES, FPS = 10, 10.0
# A window this slow (mean joint speed, m/s) is no motion: recordings also show somebody who waits.
STILL_SPEED = 0.07
SPEEDS = (0.8, 1.0, 1.25)  # of the windows that a motion is compared with
PHASE, STRIDE = 1 / 30, 0.1  # seconds between those, and between the windows that stand for real motion
MOST = 240  # of those, an action
MAX_WINDOWS = 12  # of a long motion
HELD_OUT = 0.2  # share of each action's seconds
_SWAP = [1, 0, 2, 4, 3, 5, 7, 6, 8, 10, 9, 11, 13, 12, 14, 16, 15, 18, 17, 20, 19]  # left and right joints


@dataclass(frozen=True)
class Windows:
    """Windows of clips: joint positions (metres), and the recording of each.

    Attributes:
        joints: positions about the pelvis, turned so that the first frame heads forward.
        recording: index of the recording, equal numbers for equal recordings.
    """

    joints: Float[np.ndarray, "N F 21 3"]
    recording: Int[np.ndarray, "N"]

    def __len__(self) -> int:
        return len(self.joints)


@dataclass(frozen=True)
class Reference:
    """Real motion of one action.

    Attributes:
        action: what the people do.
        how: how the action was split, by "recording" or by "time".
        recordings: how many there are on both sides.
        frames, fps, root: of a window; a "fixed" root is not turned, in the real motion neither.
        held_out: windows of the held-out side as recorded.
        others: windows of the training side as recorded.
        near: the held-out side at every phase, on both sides, at three speeds: what distances are taken to.
        seen: the same of the training side: what a copy is a copy of.
    """

    action: str
    how: str
    recordings: int
    frames: int
    fps: float
    root: Root
    held_out: Windows
    others: Windows
    near: Windows
    seen: Windows


def make_reference(
    split: Split, action: str, *, frames: int = FRAMES, fps: float = FPS, root: Root = "fixed"
) -> Reference:
    """Cut the clips of an action.

    Args:
        split: of `md_jax.mocap.clips.split_source`.
        action: one that has clips on both sides.
        frames, fps: of a window.
        root: "turning" keeps the pelvis's tilt and turn.

    Raises:
        UserError: no held-out or no other window shows the action.
    """
    sides = [[clip for clip in side if clip.action == action] for side in (split.held_out, split.train)]
    names = sorted({clip.recording for side in sides for clip in side})
    index = {name: i for i, name in enumerate(names)}
    pairs = []
    for side in sides:
        moving = [_joints_of(clip, root) for clip in side]
        recording = [index[clip.recording] for clip in side]
        rates = [clip.fps for clip in side]
        cut = functools.partial(_cut, moving, recording, rates, frames, fps)
        every = [cut(PHASE, speed, mirror) for speed in SPEEDS for mirror in (False, True)]
        pairs.append((some_of(_moving(cut(STRIDE, 1.0, False), fps), MOST), _moving(_joined(every), fps)))
    (held_out, near), (others, seen) = pairs
    if not len(near) or not len(held_out) or not len(seen) or not len(others):
        raise UserError(
            f"too little motion capture to hold some of {action!r} out: each side of the split needs"
            f" {(frames - 1) / fps:.2f} s of motion. Leave it out of --actions, or give more clips with --reference."
        )
    how = split.how.get(action, "none")
    return Reference(action, how, len(names), frames, fps, root, held_out, others, near, seen)


def actions_of(split: Split, frames: int = FRAMES, fps: float = FPS) -> tuple[str, ...]:
    """The actions that have a window at the lowest speed on both sides, sorted."""
    least = (frames - 1) / fps
    long = [{clip.action for clip in side if clip.duration >= least} for side in split[:2]]
    return tuple(sorted(long[0] & long[1]))


def digest_of(clips: Sequence[Clip]) -> str:
    """A fingerprint of clips, the same on every machine: names, rates, and poses to 1/4096 rad."""
    sha = hashlib.sha256()
    for clip in sorted(clips, key=lambda c: (c.action, c.name, len(c.body_pose))):
        poses = np.concatenate([clip.root_orient[:, None], clip.body_pose], axis=1)
        sha.update(f"{clip.action}/{clip.name}/{clip.fps:g}/".encode())
        sha.update(np.round(poses.astype(np.float64) * 4096).astype("<i4").tobytes())
    return sha.hexdigest()[:16]


def windows_of(
    motion: Motion, *, frames: int = FRAMES, fps: float = FPS, root: Root = "fixed"
) -> Float[np.ndarray, "W F 21 3"]:
    """Joint positions of a motion as windows of the reference's rate and length, evenly spread over it.

    Raises:
        UserError: the motion is shorter than a window.
    """
    at_rate = resample(_reaching(motion, (frames - 1) / fps), fps)
    count = len(at_rate.body_pose) - frames + 1
    if count < 1:
        raise UserError(
            f"the motion lasts {motion.duration:.2f} s; at least {(frames - 1) / fps:.2f} s are needed to compare it"
            " with the reference."
        )
    chosen = evenly(count, MAX_WINDOWS)[:, None] + np.arange(frames)
    return joint_windows(at_rate.body_pose[chosen], at_rate.root_orient[chosen] if root == "turning" else None)


def _reaching(motion: Motion, seconds: float) -> Motion:
    """The motion, one frame longer at its last velocity if that makes it last so long.

    A file at 24 frames a second ends up to 1/24 s before the clip that it was sampled from.
    """
    missing = seconds - motion.duration
    if len(motion.body_pose) < 2 or not 1e-6 < missing < 1 / motion.fps:
        return motion
    last, before = motion.poses[-1], motion.poses[-2]
    after = np.asarray(slerp_rotvecs(jnp.asarray(before), jnp.asarray(last), jnp.full(len(last), 2.0)))
    return replace(
        motion,
        root_orient=np.concatenate([motion.root_orient, after[None, 0]]),
        body_pose=np.concatenate([motion.body_pose, after[None, 1:22]]),
        face_and_hands=np.concatenate([motion.face_and_hands, after[None, 22:]]),
        transl=np.concatenate([motion.transl, 2 * motion.transl[-1:] - motion.transl[-2:-1]]),
    )


def joint_windows(
    body_pose: Float[np.ndarray, "N F 21 3"], root_orient: Float[np.ndarray, "N F 3"] | None = None
) -> Float[np.ndarray, "N F 21 3"]:
    """Joint positions of windows of poses, turned so that the first frame heads forward."""
    points = measures.joints(body_pose, root_orient)
    return points if root_orient is None else _forward(points, headings(root_orient[:, 0]))


def turns(motion: Motion) -> bool:
    """Whether a motion's root tilts or turns at all."""
    return bool(np.ptp(motion.root_orient, axis=0).max() > 1e-4 or np.abs(motion.root_orient[:, [0, 2]]).max() > 1e-4)


def headings(root_orient: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N"]:
    """Yaw of root orientations, radians."""
    matrix = measures.matrices(np.asarray(root_orient, np.float32))
    return rotations.on_host(rotations.yaw_of, matrix)


# --- cutting ----------------------------------------------------------------------------------------------------


def _joints_of(clip: Clip, root: Root) -> tuple[np.ndarray, np.ndarray]:
    """Joint positions (T, 21, 3) of a clip and its heading (T,) at each frame."""
    if root == "fixed":
        return measures.joints(clip.body_pose), np.zeros(len(clip.body_pose))
    return measures.joints(clip.body_pose, clip.root_orient), headings(clip.root_orient)


def _cut(
    moving: list[tuple[np.ndarray, np.ndarray]],
    recording: list[int],
    rates: list[float],
    frames: int,
    fps: float,
    stride: float,
    speed: float,
    mirror: bool,
) -> Windows:
    """Windows `stride` seconds apart; positions between two frames are interpolated, which at 30 frames a second costs
    a millimetre at most."""
    parts, owners = [], []
    for (points, heading), owner, rate in zip(moving, recording, rates, strict=True):
        step = rate / fps * speed
        room = len(points) - 1 - (frames - 1) * step
        if room < -1e-6:
            continue
        start = np.arange(0, room + 1e-6, stride * rate)
        place = np.minimum(start[:, None] + np.arange(frames) * step, len(points) - 1)
        low = np.floor(place + 1e-6).astype(int)
        high = np.minimum(low + 1, len(points) - 1)
        share = np.clip(place - low, 0, 1).astype(np.float32)[..., None, None]
        windows = points[low] * (1 - share) + points[high] * share
        windows = _forward(windows, heading[np.round(start).astype(int)])
        parts.append(mirrored(windows) if mirror else windows)
        owners.append(np.full(len(windows), owner))
    if not parts:
        return Windows(np.zeros((0, frames, 21, 3), np.float32), np.zeros(0, int))
    return Windows(np.concatenate(parts).astype(np.float32), np.concatenate(owners))


def _forward(windows: Float[np.ndarray, "N F 21 3"], heading: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N F 21 3"]:
    """Windows turned back about the pelvis by a heading each."""
    if not np.any(heading):
        return windows
    pelvis = measures.rest_joints()[0]
    back = measures.matrices(np.stack([0 * heading, -heading, 0 * heading], axis=-1).astype(np.float32))
    return np.einsum("nab,nfjb->nfja", back, windows - pelvis) + pelvis


def mirrored(windows: Float[np.ndarray, "N F 21 3"]) -> Float[np.ndarray, "N F 21 3"]:
    """Windows seen in a mirror; the shipped body is symmetric, so its joints are where the mirrored poses have them."""
    pelvis = measures.rest_joints()[0]
    return (windows - pelvis)[:, :, _SWAP] * np.array([-1, 1, 1], np.float32) + pelvis


def _joined(parts: Sequence[Windows]) -> Windows:
    return Windows(np.concatenate([p.joints for p in parts]), np.concatenate([p.recording for p in parts]))


def _moving(windows: Windows, fps: float) -> Windows:
    kept = measures.speed(windows.joints, fps) >= STILL_SPEED if len(windows) else np.zeros(0, bool)
    return Windows(windows.joints[kept], windows.recording[kept])


def some_of(windows: Windows, most: int) -> Windows:
    """At most `most` of them, evenly spread."""
    kept = evenly(len(windows), most)
    return Windows(windows.joints[kept], windows.recording[kept])
