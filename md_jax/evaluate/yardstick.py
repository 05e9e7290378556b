"""What real motion of every action has, and a trained classifier: computed once, shipped, checked by digests.

`python -m tools.build_yardstick` computes `assets/yardstick.npz` from the shipped motion capture. Where the capture has
changed since, or other clips are asked for, the same is computed on the spot, which takes minutes rather than seconds.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, get_args

import numpy as np
from jaxtyping import Float

from md_jax.errors import UserError
from md_jax.evaluate import judges, likeness, measures
from md_jax.evaluate.reference import (
    FPS,
    FRAMES,
    HELD_OUT,
    STILL_SPEED,
    Reference,
    Root,
    actions_of,
    digest_of,
    make_reference,
    mirrored,
    some_of,
)
from md_jax.mocap.clips import Clip, Split, split_source
from md_jax.mocap.motion import read_npz
from md_jax.mocap.windows import sample_windows

QUANTILES = np.linspace(0, 1, 21)
RADIUS = 0.9  # a real window is covered by a motion that is as near as this share of other real windows
PROBES = 60  # real windows an action whose distances are taken
SEEDS, DRAWS = 5, 40  # what so many real windows cover stands beside what motions cover: the mean of so many draws
TRAIN_WINDOWS = 400  # an action, for the classifier
HABIT, UNSTEADY = 0.35, 0.08  # radians: how much other people's poses differ, and single frames


@dataclass(frozen=True)
class Norm:
    """What real windows of an action have; a distribution is its 0, 5, ... 100 % quantiles.

    Attributes:
        how, recordings: as in `md_jax.evaluate.reference.Reference`.
        windows: how many held-out windows as recorded there are.
        held_out: "nn" (metres from other real windows to the nearest held-out one: the unit of the ratio), "cosine" (of
            their velocities), "copying" (metres from held-out windows to the nearest training window), and
            `likeness.EXTENTS` of held-out windows.
        others: `likeness.EXTENTS` of the training side's windows: what another part of real motion has.
        spread: mean distance between two real windows (m).
        covered: share of held-out windows that `SEEDS` windows of the training side cover.
    """

    how: str
    recordings: int
    windows: int
    held_out: dict[str, list[float]]
    others: dict[str, list[float]]
    spread: float
    covered: float

    def at(self, measure: str, quantile: float = 0.5) -> float:
        """A quantile of held-out windows; their median."""
        return float(np.interp(quantile, QUANTILES, self.held_out[measure]))

    def rank(self, measure: str, value: float) -> float:
        """The share of held-out windows that have less."""
        return float(np.interp(value, self.held_out[measure], QUANTILES, left=0.0, right=1.0))


@dataclass(frozen=True, eq=False)
class Yardstick:
    """Everything that motions are compared with.

    Attributes:
        split: the motion capture; its held-out side is what no prior has seen.
        digests: of its sides, "held_out" and "train".
        norms: by root and action.
        classifier: which action, by motion alone; trained on the held-out side.
        real: what share of the training side's windows the classifier names rightly, by action.
        controls: rows of the evaluation's table that need no motion of the user's.
        frames, fps: of a window.
    """

    split: Split
    digests: dict[str, str]
    norms: dict[tuple[Root, str], Norm]
    classifier: judges.Classifier
    real: dict[str, float]
    controls: dict[str, Any] = field(default_factory=dict)
    frames: int = FRAMES
    fps: float = FPS

    @property
    def actions(self) -> tuple[str, ...]:
        """Those with motion capture on both sides of the split, sorted."""
        return self.classifier.classes[:-1]

    @functools.lru_cache(maxsize=64)  # noqa: B019  # there is one yardstick a process, or two
    def reference(self, action: str, root: Root) -> Reference:
        """The real windows of an action."""
        return make_reference(self.split, action, frames=self.frames, fps=self.fps, root=root)


def load_yardstick(source: str | os.PathLike | None = None, *, frames: int = FRAMES, fps: float = FPS) -> Yardstick:
    """The shipped yardstick, or one computed on the spot where it does not fit.

    Args:
        source: None for the shipped motion capture, or a folder of AMASS-style clips sorted by action.
        frames, fps: of a window.

    Raises:
        UserError: there is nothing to load, or too little to hold some out.
    """
    split = split_source(source, None, HELD_OUT)
    if source is None and (frames, fps) == (FRAMES, FPS):
        found = _read(split)
        if found is not None:
            return found
    return build(split, frames=frames, fps=fps)


def build(split: Split, *, frames: int = FRAMES, fps: float = FPS, seed: int = 0) -> Yardstick:
    """Measure the real motion of every action, train the classifier. Minutes on one core.

    Raises:
        UserError: no action has enough motion capture to hold some out.
    """
    actions = actions_of(split, frames, fps)
    if not actions:
        raise UserError(
            f"no action has {(frames - 1) / fps:.2f} s of motion capture on both sides of the split: give more clips"
            " with --reference, at least three recordings of an action or a long one."
        )
    held = [clip for clip in split.held_out if clip.action in actions]
    classifier = train_on(held, actions, frames=frames, fps=fps, seed=seed)
    digests = {"held_out": digest_of(split.held_out), "train": digest_of(split.train)}
    yardstick = Yardstick(split, digests, {}, classifier, {}, frames=frames, fps=fps)
    roots: tuple[Root, ...] = get_args(Root)
    yardstick.norms.update({(root, a): norm_of(yardstick.reference(a, root), seed) for root in roots for a in actions})
    for a, action in enumerate(actions):
        others = yardstick.reference(action, "fixed").others.joints
        yardstick.real[action] = float((judges.probabilities(classifier, others, fps).argmax(axis=1) == a).mean())
    return yardstick


def norm_of(reference: Reference, seed: int = 0) -> Norm:
    """What the real windows of an action have."""
    held_out, others = reference.held_out.joints, some_of(reference.others, PROBES).joints
    near, index = likeness.nearest(others, reference.near.joints)
    known = {
        "nn": near,
        "cosine": likeness.velocity_cosine(others, reference.near.joints[index]),
        "copying": likeness.nearest(some_of(reference.held_out, PROBES).joints, reference.seen.joints)[0],
    }
    extents = [{name: of(w, reference.fps) for name, of in likeness.EXTENTS.items()} for w in (held_out, others)]
    rng = np.random.default_rng(seed)
    radius = float(np.quantile(near, RADIUS))
    reached = likeness.distances(held_out, others) <= radius
    reached |= likeness.distances(held_out, mirrored(others)) <= radius
    draws = [reached[:, rng.choice(len(others), min(SEEDS, len(others)), replace=False)] for _ in range(DRAWS)]
    return Norm(
        how=reference.how,
        recordings=reference.recordings,
        windows=len(held_out),
        held_out={name: _quantiles(values) for name, values in {**known, **extents[0]}.items()},
        others={name: _quantiles(values) for name, values in extents[1].items()},
        spread=likeness.diversity(np.concatenate([some_of(reference.held_out, PROBES).joints, others])),
        covered=float(np.mean([draw.any(axis=1).mean() for draw in draws])),
    )


def train_on(
    clips: Sequence[Clip], actions: tuple[str, ...], *, frames: int = FRAMES, fps: float = FPS, seed: int = 0
) -> judges.Classifier:
    """Train the classifier on windows of clips, and on as many of the same actions by made-up other people.

    Args:
        clips: what it learns from: the held-out side, for no prior has seen that.
        actions: its classes.
        frames, fps: of a window.
        seed: of the windows and the training.
    """
    rng = np.random.default_rng(seed)
    windows = sample_windows(rng, clips, TRAIN_WINDOWS * len(actions), frames=frames, fps=fps)
    joints = measures.joints(windows.body_pose)
    label = np.array([actions.index(clips[i].action) for i in windows.clip])
    label[measures.speed(joints, fps) < STILL_SPEED] = len(actions)  # somebody who waits
    shown = np.concatenate([joints, measures.joints(_disturbed(rng, windows.body_pose))])
    return judges.train_classifier(shown, np.concatenate([label, label]), actions, fps, seed=seed)


def _disturbed(rng: np.random.Generator, body_pose: Float[np.ndarray, "N F 21 3"]) -> Float[np.ndarray, "N F 21 3"]:
    """The same actions by other people: poses off by a constant, motions smaller or larger, a little unsteady.

    Without them the classifier knows a few actors' every habit, and anything else is chance to it.
    """
    count = len(body_pose)
    mean = body_pose.mean(axis=1, keepdims=True)
    size = np.exp(rng.uniform(np.log(0.6), np.log(1.5), size=(count, 1, 1, 1)))
    habit = rng.normal(scale=HABIT, size=(count, 1, 21, 3)) * rng.uniform(size=(count, 1, 1, 1))
    unsteady = rng.normal(scale=UNSTEADY, size=body_pose.shape) * rng.uniform(size=(count, 1, 1, 1))
    return (mean + size * (body_pose - mean) + habit + unsteady).astype(np.float32)


def _quantiles(values: Float[np.ndarray, "N"]) -> list[float]:
    return [float(f"{x:.5g}") for x in np.quantile(values, QUANTILES)]


# --- the file ---------------------------------------------------------------------------------------------------


def save(path: str | os.PathLike, yardstick: Yardstick) -> None:
    """Write a yardstick: numbers as JSON, weights in half precision."""
    judge = yardstick.classifier
    text = {
        "digests": yardstick.digests,
        "classes": judge.classes,
        "real": yardstick.real,
        "norms": [[root, action, vars(norm)] for (root, action), norm in yardstick.norms.items()],
        "controls": yardstick.controls,
    }
    weights = {"mean": judge.mean, "std": judge.std, **judge.weights}
    arrays: dict[str, Any] = {name: np.asarray(x, np.float16) for name, x in weights.items()}
    np.savez_compressed(path, text=json.dumps(text), **arrays)


def _read(split: Split) -> Yardstick | None:
    """The shipped yardstick, unless it was made of other clips."""
    path = resources.files("md_jax") / "assets" / "yardstick.npz"
    if not path.is_file():
        return None
    data = read_npz(str(path))
    text = json.loads(str(data["text"]))
    if text["digests"] != {"held_out": digest_of(split.held_out), "train": digest_of(split.train)}:
        return None
    arrays = {name: data[name].astype(np.float32) for name in ("mean", "std", "w1", "b1", "w2", "b2")}
    classifier = judges.Classifier(tuple(text["classes"]), arrays.pop("mean"), arrays.pop("std"), arrays)
    norms = {(root, action): Norm(**values) for root, action, values in text["norms"]}
    return Yardstick(split, text["digests"], norms, classifier, text["real"], text["controls"])
