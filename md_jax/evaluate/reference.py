"""The yardstick: real motion capture cut into windows, and how near a motion comes to each action.

The clips are split as for training the embedded prior (`md_jax.mocap.clips.split_source`): distances are taken to
windows of the held-out side alone, which no prior of ours has seen. The classifiers learn from the other side and are
themselves judged on the held-out one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from md_jax.errors import UserError
from md_jax.evaluate import measures
from md_jax.evaluate.judges import STATIC, Classifier, probabilities, train_classifier
from md_jax.mocap.clips import Split, split_source
from md_jax.mocap.motion import Motion, resample
from md_jax.mocap.windows import every_window, sample_windows

# A motion this slow (mean joint speed, m/s) is static: a third of the slowest action, washing a window, moves so.
STILL_SPEED = 0.07
SPEEDS = (0.8, 1.0, 1.25)  # of the windows that a motion is compared with
TRAIN_WINDOWS = 400  # an action, for the classifiers
HELD_OUT = 0.2  # share of each action's seconds
HABIT, UNSTEADY = 0.35, 0.08  # radians: how much other people's poses differ, and single frames
MAX_NEAR = 150  # reference windows an action: with more of them than the others it would be nearest by chance
MAX_WINDOWS = 12  # of a long motion


@dataclass(frozen=True)
class Reference:
    """Windows of real motion, and what was learned from them. Positions are in metres about the pelvis.

    Attributes:
        actions: the classes; "static" is one more, the last.
        frames, fps: of a window.
        near, near_label: held-out windows at every phase, on both sides and at several speeds (N, F, 21, 3), and the
            action of each.
        held_out, held_out_label: the same as recorded: the real motion that results stand beside.
        others, others_label: windows of the other recordings, for distances between real motions.
        speed, jerk: median of each action's real windows (m/s and m/s³).
        with_pose, motion_only: the classifiers.
        split: how each action was split, by recording or by time.
    """

    actions: tuple[str, ...]
    frames: int
    fps: float
    near: Float[np.ndarray, "N F 21 3"]
    near_label: Int[np.ndarray, "N"]
    held_out: Float[np.ndarray, "R F 21 3"]
    held_out_label: Int[np.ndarray, "R"]
    others: Float[np.ndarray, "O F 21 3"]
    others_label: Int[np.ndarray, "O"]
    speed: Float[np.ndarray, "A"]
    jerk: Float[np.ndarray, "A"]
    with_pose: Classifier
    motion_only: Classifier
    split: dict[str, str]

    @property
    def classes(self) -> tuple[str, ...]:
        """The actions and "static"."""
        return (*self.actions, STATIC)


def make_reference(
    source: str | None,
    actions: Sequence[str],
    *,
    frames: int = 10,
    fps: float = 10.0,
    seed: int = 0,
    swapped: bool = False,
) -> Reference:
    """Cut the clips, train the classifiers (some ten seconds on one core).

    Args:
        source: None for the shipped clips, or a folder of AMASS-style clips sorted by action.
        actions: the classes; empty: every action of the source that can be split.
        frames, fps: of a window.
        seed: of the classifiers and their training windows.
        swapped: exchange the sides of the split: the classifiers then learn from the held-out clips alone, which no
            prior of ours has seen, and are judged on the others; distances go to clips that the prior may know.

    Raises:
        UserError: there is nothing to load, or an action has too little to be split.
    """
    split = split_source(source, list(actions) or None, HELD_OUT)
    if swapped:
        split = Split(split.held_out, split.train, split.how)
    able = tuple(dict.fromkeys(clip.action for clip in split.held_out))
    chosen = tuple(actions) or able
    if missing := [action for action in chosen if action not in able]:
        raise UserError(
            f"too little motion capture to hold some out of: {', '.join(missing)}. Leave them out of --actions,"
            " or give more clips with --reference."
        )
    cut: dict[str, Any] = {"frames": frames, "fps": fps}
    train = [clip for clip in split.train if clip.action in chosen]
    held = [clip for clip in split.held_out if clip.action in chosen]
    rng = np.random.default_rng(seed)
    windows = sample_windows(rng, train, TRAIN_WINDOWS * len(chosen), **cut)
    train_joints = measures.joints(windows.body_pose)
    disturbed_joints = measures.joints(_disturbed(rng, windows.body_pose))
    train_label = np.array([chosen.index(train[i].action) for i in windows.clip])
    train_label[measures.speed(train_joints, fps) < STILL_SPEED] = len(chosen)  # somebody who waits

    near, near_label = [], []
    for speed in SPEEDS:
        for mirrored in (False, True):
            some = every_window(held, **cut, stride=1 / fps, speed=speed, mirrored=mirrored)
            near.append(measures.joints(some.body_pose))
            near_label.append(np.array([chosen.index(held[i].action) for i in some.clip]))
            if speed == 1.0 and not mirrored:
                real, real_label = near[-1], near_label[-1]
    moves = measures.speed(real, fps) >= STILL_SPEED
    real, real_label = real[moves], real_label[moves]
    if absent := [action for a, action in enumerate(chosen) if not np.any(real_label == a)]:
        raise UserError(f"no held-out window of {frames} frames shows: {', '.join(absent)}.")
    near_joints, near_label_all = np.concatenate(near), np.concatenate(near_label)
    kept = np.concatenate([_evenly(np.flatnonzero(near_label_all == a), MAX_NEAR) for a in range(len(chosen))])
    train_moves = train_label < len(chosen)
    speeds, jerks = measures.speed(train_joints, fps), measures.jerk(train_joints, fps)

    def median(values: np.ndarray, own: np.ndarray) -> np.ndarray:
        real_values = np.concatenate([values[train_moves], own])
        label = np.concatenate([train_label[train_moves], real_label])
        return np.array([np.median(real_values[label == a]) for a in range(len(chosen))])

    shown, shown_label = np.concatenate([train_joints, disturbed_joints]), np.concatenate([train_label, train_label])
    learn = [
        train_classifier(shown, shown_label, chosen, fps, motion_only=motion_only, seed=seed)
        for motion_only in (False, True)
    ]
    return Reference(
        actions=chosen,
        frames=frames,
        fps=fps,
        near=near_joints[kept],
        near_label=near_label_all[kept],
        held_out=real,
        held_out_label=real_label,
        others=train_joints[train_moves],
        others_label=train_label[train_moves],
        speed=median(speeds, measures.speed(real, fps)),
        jerk=median(jerks, measures.jerk(real, fps)),
        with_pose=learn[0],
        motion_only=learn[1],
        split={action: split.how[action] for action in chosen},
    )


def _disturbed(rng: np.random.Generator, body_pose: Float[np.ndarray, "N F 21 3"]) -> Float[np.ndarray, "N F 21 3"]:
    """The same actions by other people: poses off by a constant, motions smaller or larger, a little unsteady.

    Without them the classifiers know a few actors' every habit, and anything else is chance to them.
    """
    count = len(body_pose)
    mean = body_pose.mean(axis=1, keepdims=True)
    size = np.exp(rng.uniform(np.log(0.6), np.log(1.5), size=(count, 1, 1, 1)))
    habit = rng.normal(scale=HABIT, size=(count, 1, 21, 3)) * rng.uniform(size=(count, 1, 1, 1))
    unsteady = rng.normal(scale=UNSTEADY, size=body_pose.shape) * rng.uniform(size=(count, 1, 1, 1))
    return (mean + size * (body_pose - mean) + habit + unsteady).astype(np.float32)


def _evenly(index: np.ndarray, count: int) -> np.ndarray:
    """At most `count` of them, evenly spread."""
    return index[np.unique(np.linspace(0, len(index) - 1, min(count, len(index))).round().astype(int))]


@dataclass(frozen=True)
class Judgement:
    """What the yardstick says of N motions; every array has one row a motion and one column an action or class.

    Attributes:
        with_pose, motion_only: probability of each class, "static" last.
        position, position_motion_only: distance in metres to the nearest window of each action: the mean over frames
            and joints, without and with the mean pose removed.
        velocity: distance in m/s to the nearest window's velocities.
        speed, jerk: of each motion, m/s and m/s³ (N,).
    """

    with_pose: Float[np.ndarray, "N C"]
    motion_only: Float[np.ndarray, "N C"]
    position: Float[np.ndarray, "N A"]
    position_motion_only: Float[np.ndarray, "N A"]
    velocity: Float[np.ndarray, "N A"]
    speed: Float[np.ndarray, "N"]
    jerk: Float[np.ndarray, "N"]

    def labels(self, by: str) -> Int[np.ndarray, "N"]:
        """The class of each motion by one of the measures; by distance, a still motion is "static"."""
        values = getattr(self, by)
        if by in ("with_pose", "motion_only"):
            return values.argmax(axis=1)
        return np.where(self.speed < STILL_SPEED, values.shape[1], values.argmin(axis=1))


def judge(reference: Reference, motions: Sequence[Float[np.ndarray, "W F 21 3"]]) -> Judgement:
    """Compare motions, each given as its windows of joint positions, with the reference.

    Probabilities, distances, speed and jerk are means over a motion's windows.
    """
    windows = np.concatenate(list(motions)).astype(np.float32)
    owner = np.repeat(np.arange(len(motions)), [len(part) for part in motions])
    fps = reference.fps
    centred, near_centred = (x - x.mean(axis=1, keepdims=True) for x in (windows, reference.near))
    velocity, near_velocity = (np.diff(x, axis=1) * fps for x in (windows, reference.near))
    per_window = {
        "with_pose": probabilities(reference.with_pose, windows, fps),
        "motion_only": probabilities(reference.motion_only, windows, fps),
        "position": _nearest(windows, reference.near, reference),
        "position_motion_only": _nearest(centred, near_centred, reference),
        "velocity": _nearest(velocity, near_velocity, reference),
        "speed": measures.speed(windows, fps),
        "jerk": measures.jerk(windows, fps),
    }
    return Judgement(**{
        name: np.stack([values[owner == m].mean(axis=0) for m in range(len(motions))])
        for name, values in per_window.items()
    })  # fmt: skip


@jax.jit
def _distances(windows: Float[Array, "N F P 3"], near: Float[Array, "R F P 3"]) -> Float[Array, "N R"]:
    """Mean distance over frames and points, window by window."""
    return jax.lax.map(lambda window: jnp.linalg.norm(near - window, axis=-1).mean(axis=(1, 2)), windows)


def _nearest(
    windows: Float[np.ndarray, "N F P 3"], near: Float[np.ndarray, "R F P 3"], reference: Reference
) -> Float[np.ndarray, "N A"]:
    """Distance of each window to the nearest reference window of each action."""
    distance = np.asarray(_distances(jnp.asarray(windows), jnp.asarray(near)))
    return np.stack([distance[:, reference.near_label == a].min(axis=1) for a in range(len(reference.actions))], axis=1)


def windows_of(reference: Reference, motion: Motion) -> Float[np.ndarray, "W F 21 3"]:
    """Joint positions of a motion as windows of the reference's rate and length, evenly spread over it.

    Raises:
        UserError: the motion is shorter than a window.
    """
    poses = resample(motion, reference.fps).body_pose
    count = len(poses) - reference.frames + 1
    if count < 1:
        raise UserError(
            f"the motion lasts {motion.duration:.2f} s; at least {(reference.frames - 1) / reference.fps:.2f} s"
            " are needed to compare it with the reference."
        )
    starts = np.unique(np.linspace(0, count - 1, min(count, MAX_WINDOWS)).round().astype(int))
    return measures.joints(np.stack([poses[s : s + reference.frames] for s in starts]))
