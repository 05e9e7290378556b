"""Which windows of motion capture the embedded prior is trained on.

`aligned_windows` takes of each action the moments that look alike: all walks begin with the same foot in front. Score
distillation follows the mean of what the prior finds likely, and the mean over all phases of a movement is a still
picture; the mean over one phase moves. `lively_windows` takes any moment but the stillest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from md_jax.evaluate import measures
from md_jax.mocap.clips import Clip, Split
from md_jax.mocap.windows import Windows, cut_windows, every_window, sample_windows

STRIDE = 1 / 15  # seconds between the starts of candidates
APART = 0.3  # seconds: nearer starts in a clip are the same moment
NEIGHBOURS = 30  # at most; a template has that many other moments near it
BUSY = 0.5  # recordings also show waiting: the action is what is so fast, beside its fastest tenth
LIVELY = (0.9, 1.4)  # speed of a template, in the median of what is busy
MEAN_SPEED = 0.85  # the mean over a cohort moves at least at this share of its members' speed
JITTER = 0.04  # seconds by which a start is moved either way
SPEED = (0.93, 1.07)
RATE = 30.0  # frames a second at which repeats are looked for
REPEATS = 0.65


class Cohort(NamedTuple):
    """The moments of one action that look alike; joint positions in metres about the pelvis."""

    template: Float[np.ndarray, "F 21 3"]
    clip: Int[np.ndarray, "n"]
    start: Float[np.ndarray, "n"]  # seconds into that clip
    distance: Float[np.ndarray, "n"]  # root mean square over frames and joints, to the template


def find_cohort(clips: Sequence[Clip], *, frames: int, fps: float) -> Cohort:
    """The template of an action and its repetitions.

    The template is the window, of about the median speed of the busy ones, that has the nearest others. The cohort is
    it and the nearest others, as many as leave a mean that still moves: the mean is what distillation will be drawn to.

    Args:
        clips: of one action, the training side.
        frames, fps: of a window.
    """
    windows = every_window(clips, frames=frames, fps=fps, stride=STRIDE)
    joints = measures.joints(windows.body_pose)
    speed = measures.speed(joints, fps)
    median = np.median(speed[speed >= BUSY * np.quantile(speed, 0.9)])
    lively = (speed >= LIVELY[0] * median) & (speed <= LIVELY[1] * median)
    distance = np.array([_distance(joints, joints[i]) if lively[i] else np.full(len(joints), np.inf)
                         for i in range(len(joints))])  # fmt: skip
    same = windows.clip[:, None] == windows.clip
    same &= np.abs(windows.start[:, None] - windows.start) < APART
    near = np.sort(np.where(same, np.inf, distance), axis=1)[:, : max(3, min(NEIGHBOURS, len(joints) // 12))]
    best = int(np.argmin(np.where(lively, np.minimum(near, 10.0).mean(axis=1), np.inf)))

    moments = _moments(windows, distance[best])
    count = np.arange(1, len(moments) + 1)
    means = np.cumsum(joints[moments], axis=0) / count[:, None, None, None]
    moving = measures.speed(means, fps) >= MEAN_SPEED * np.cumsum(speed[moments]) / count
    kept = moments[: int(np.flatnonzero(moving).max()) + 1]  # the template alone moves at its own speed
    return Cohort(joints[best], windows.clip[kept], windows.start[kept], distance[best][kept])


def repeat_seconds(clips: Sequence[Clip]) -> float | None:
    """After how many seconds an action looks the same again; None: it does not repeat clearly between .4 and 1.6 s.

    The shift that brings the clips nearest to themselves: the root mean square distance of joints, over the one between
    moments that have nothing to do with each other, must fall to REPEATS.
    """
    lags = np.arange(round(0.4 * RATE), round(1.6 * RATE))
    distance, weight = np.zeros(len(lags)), np.zeros(len(lags))
    for clip in clips:
        joints = measures.joints(every_window([clip], frames=2, fps=RATE, stride=1 / RATE).body_pose)[:, 0]
        spread = np.sqrt(2 * np.mean(np.sum((joints - joints.mean(axis=0)) ** 2, axis=-1)))
        for i, lag in enumerate(lags):
            if (pairs := len(joints) - lag) < 8:
                break
            apart = np.sqrt(np.mean(np.sum((joints[lag:] - joints[:-lag]) ** 2, axis=-1)))
            distance[i] += pairs * apart / spread
            weight[i] += pairs
    if not weight.any():
        return None
    mean = np.where(weight > 0, distance / np.maximum(weight, 1), np.inf)
    best = int(np.argmin(mean))
    inside = 0 < best < len(lags) - 1
    return float(lags[best] / RATE) if inside and mean[best] <= REPEATS else None


def repetitions(cohort: Cohort, clips: Sequence[Clip], *, frames: int, fps: float) -> Cohort:
    """The moments of other clips of the action that are as near to the template, or the nearest one."""
    windows = every_window(clips, frames=frames, fps=fps, stride=STRIDE)
    distance = _distance(measures.joints(windows.body_pose), cohort.template)
    moments = _moments(windows, distance)
    kept = moments[: max(1, int(np.sum(distance[moments] <= cohort.distance.max())))]
    return Cohort(cohort.template, windows.clip[kept], windows.start[kept], distance[kept])


def aligned_windows(
    rng: np.random.Generator, split: Split, counts: dict[str, int], *, held_out: bool, frames: int, fps: float,
    mirror: bool = False, root: Any = "fixed",
) -> tuple[Windows, list[str]]:  # fmt: skip
    """Windows of the actions' cohorts, jittered in time and speed, and their actions.

    Args:
        rng: the only source of randomness.
        split: clips of the actions; cohorts are found on the training side alone.
        counts: how many windows of each action.
        held_out: take the held-out side, at its own moments and speed.
        frames, fps, root: as in `md_jax.mocap.windows.cut_windows`.
        mirror: mirror half of them.
    """
    parts, names = [], []
    for action, count in counts.items():
        train, held = ([c for c in side if c.action == action] for side in (split.train, split.held_out))
        cohort = find_cohort(train, frames=frames, fps=fps)
        clips = held if held_out else train
        if held_out:
            cohort = repetitions(cohort, held, frames=frames, fps=fps)
        drawn = rng.integers(len(cohort.clip), size=count)
        low, high = (1.0, 1.0) if held_out else SPEED
        speed = np.exp(rng.uniform(np.log(low), np.log(high), count))
        duration = np.array([c.duration for c in clips])[cohort.clip[drawn]]
        speed = np.minimum(speed, duration / ((frames - 1) / fps))
        room = np.maximum(duration - (frames - 1) / fps * speed, 0)
        shift = 0.0 if held_out else rng.uniform(-JITTER, JITTER, count)
        start = np.clip(cohort.start[drawn] + shift, 0, room)
        mirrored = rng.uniform(size=count) < (0.5 if mirror else 0.0)
        cut: dict[str, Any] = {"frames": frames, "fps": fps, "speed": speed, "mirrored": mirrored, "root": root}
        parts.append(cut_windows(clips, cohort.clip[drawn], start, **cut))
        names += [action] * count
    return Windows(*(np.concatenate(part) for part in zip(*parts, strict=True))), names


def lively_windows(
    rng: np.random.Generator, clips: Sequence[Clip], count: int, *, still: float, **how: Any
) -> tuple[Windows, list[str]]:
    """Windows at any moment and their actions, without the stillest share `still` of each action.

    A recording named after an action also shows the person waiting for it; those seconds are not the action.
    """
    windows = sample_windows(rng, clips, math.ceil(count / (1 - still)), **how)
    names = np.array([clips[i].action for i in windows.clip])
    motion = measures.speed(measures.joints(windows.body_pose), how["fps"])
    keep = [motion[i] >= np.quantile(motion[names == name], still) for i, name in enumerate(names)]
    chosen = np.flatnonzero(keep)
    return Windows(*(part[chosen] for part in windows)), list(names[chosen])


def _distance(joints: Float[np.ndarray, "N F 21 3"], template: Float[np.ndarray, "F 21 3"]) -> Float[np.ndarray, "N"]:
    return np.sqrt(np.mean(np.sum((joints - template) ** 2, axis=-1), axis=(-1, -2)))


def _moments(windows: Windows, distance: Float[np.ndarray, "N"]) -> Int[np.ndarray, "n"]:
    """The windows that are nearer than those just before and after in their clip, nearest first."""
    first = np.r_[True, windows.clip[1:] != windows.clip[:-1]]
    last = np.r_[first[1:], True]
    before = np.where(first, np.inf, np.roll(distance, 1))
    after = np.where(last, np.inf, np.roll(distance, -1))
    moments = np.flatnonzero((distance <= before) & (distance < after))
    return moments[np.argsort(distance[moments])]
