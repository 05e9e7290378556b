"""Measure real motion, train the classifier of actions, and write what `md_jax.evaluate` ships with.

    python -m tools.build_yardstick [--released=MOTIONS.npz] [--out=md_jax/assets/yardstick.npz]

Everything comes from the shipped motion capture; the classifier learns from its held-out side alone, which no prior has
seen. The file holds the digests of both sides, and is not used where they do not fit. MOTIONS.npz (of
`benchmarks.motion report --motions`) holds the motions of the release before, which every evaluation stands beside. Run
it again after tools.pack_mocap. Two minutes on one core.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.evaluate import judges, yardstick
from md_jax.evaluate.reference import HELD_OUT, Root, joint_windows, some_of
from md_jax.evaluate.scores import Entry, compare, score, summarise, wilson
from md_jax.evaluate.yardstick import Yardstick
from md_jax.fit.posefield import apply_fields, init_fields
from md_jax.mocap.clips import split_source
from md_jax.mocap.statistics import GENERIC, known_actions, load_statistics
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program
from md_jax.timeline.features import octaves

RELEASED = "benchmarks/results/2026-11-26-cpu-motion-poses.npz"
SEEDS = range(5)
WINDOWS = 40  # real windows an action that are judged as if they were motions


def controls_of(found: Yardstick, released: str) -> dict[str, Any]:
    """The rows that need no motion of the user's, each with the summary, what its motions have together, and the rows
    of its actions."""
    actions = [action for action in found.actions if action in known_actions()]
    frames = found.frames
    groups = {
        "mean pose, still": [still(action, action, frames) for action in actions],
        "pooled mean pose, still": [still(GENERIC, action, frames) for action in actions],
        "random in range": [entry for action in actions for entry in random_in_range(action, action, SEEDS, frames)],
    }
    if released:
        groups["previous release"] = motions_in(Path(released), found.actions)
    table = {}
    for name, entries in groups.items():
        table[name] = {**summarise(score(found, entries)), "together": compare(found, entries)}
    return {"real motion": real_motion(found, "fixed"), "real motion, turning": real_motion(found, "turning"), **table}


def still(action: str, expected: str, frames: int) -> Entry:
    """The mean pose of an action ("generic": of all actions pooled), held still."""
    pose = load_statistics(action).body_mean
    return Entry(f"mean pose of {action}", joint_windows(np.repeat(pose[None, None], frames, axis=1)), expected)


def random_in_range(action: str, expected: str, seeds: Sequence[int], frames: int) -> list[Entry]:
    """PoseFields of an action's mean and ±3σ with random weights, the head's too: any smooth motion in the range.

    (The field of a run starts with a zero head, at the mean pose exactly: the control `still`.) The head is scaled so
    that what the field bounds by 3σ·tanh has a standard deviation of 1: on average 1.9σ off the mean pose.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    statistics = load_statistics(action)
    fields, params = init_fields([statistics] * len(seeds), keys, frames=frames, frequencies=octaves(3))
    head = params["head"]["kernel"]
    head = jnp.stack([jax.random.normal(jax.random.fold_in(key, 1), head.shape[1:]) for key in keys])

    def with_head(kernel: Array) -> Float[np.ndarray, "M F 21 3"]:
        return np.asarray(apply_fields(fields, {**params, "head": {**params["head"], "kernel": kernel}}))

    limit, small = 3 * statistics.body_std, 1e-2  # within small of the mean tanh is the identity
    raw = (with_head(head * small) - statistics.body_mean) / limit / small
    windows = joint_windows(with_head(head / raw.std(axis=(1, 2, 3))[:, None, None]))
    return [Entry(f"random, seed {seed}", windows[i : i + 1], expected) for i, seed in enumerate(seeds)]


def motions_in(file: Path, actions: tuple[str, ...]) -> list[Entry]:
    """The motions of a file of `benchmarks.motion report --motions`, one window each."""
    data = np.load(file)
    windows = joint_windows(data["body_pose"].astype(np.float32))
    named = zip(data["action"], data["seed"], windows, strict=True)
    return [Entry(f"{action}, seed {seed}", window[None], str(action)) for action, seed, window in named
            if action in actions]  # fmt: skip


def real_motion(found: Yardstick, root: Root) -> dict[str, Any]:
    """Windows of the training side judged like motions: other recordings than those that they are compared with.
    Copying is that of the held-out side, 1 by definition.

    Real or not: one half of the held-out side is passed off as made, recording by recording (or minute by minute of the
    only one), and told from the other half.
    """
    entries, limbs = [], []
    halves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    names: list[str] = []
    groups: tuple[list[str], list[str]] = ([], [])
    for action in found.actions:
        real, fixed = found.reference(action, root), found.reference(action, "fixed")
        windows = some_of(real.others, WINDOWS).joints
        entries += [Entry("real motion", window[None], action) for window in windows]
        limbs += [window[None] for window in some_of(fixed.others, len(windows)).joints]
        owner = real.held_out.recording
        several = np.unique(owner)
        place = np.isin(owner, several[len(several) // 2 :])
        if len(several) == 1:
            place = np.arange(len(owner)) >= len(owner) / 2
        count = min(int(np.sum(~place)), int(np.sum(place)), 5)
        for side, group, part in zip(halves, groups, (~place, place), strict=True):
            chosen = np.flatnonzero(part)[np.linspace(0, part.sum() - 1, count).round().astype(int)]
            side.append(judges.typical(real.held_out.joints[chosen], found.fps, real.others.joints))
            group.extend(map(str, owner[chosen]))
        names += [action] * count
    summary = summarise(score(found, entries, root, limbs))
    for row in (summary, *summary["by_action"].values()):
        row["copying"] = 1.0  # by definition: it is held-out motion that must not be a copy of these windows
    told = judges.real_or_not(np.concatenate(halves[0]), np.concatenate(halves[1]), names, groups)
    assert told is not None
    by_action = {action: {"diversity": 1.0, "coverage": round(found.norms[root, action].covered, 3)}
                 for action in found.actions}  # fmt: skip
    auc = {"auc": round(told.auc, 3), "interval": [round(x, 3) for x in told.interval], "count": told.count}
    coverage = round(float(np.median([row["coverage"] for row in by_action.values()])), 3)
    return {**summary, "together": {"by_action": by_action, "diversity": 1.0, "coverage": coverage,
                                    "coverage_of_real": coverage, "real_or_not": auc}}  # fmt: skip


def main() -> None:
    """Measure, train, write, tell."""
    args = parse_simple(
        __doc__, "tools.build_yardstick",
        released=(RELEASED, "motions of the release before; empty: none"),
        out=("md_jax/assets/yardstick.npz", "the file to write"),
    )  # fmt: skip
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.WARNING)
    found = yardstick.build(split_source(None, None, HELD_OUT))
    found.controls.update(controls_of(found, args.released))
    yardstick.save(args.out, found)
    print(f"{args.out}: {Path(args.out).stat().st_size / 1e6:.2f} MB; clips {found.digests}")
    print(f"{'action':20s} {'split':9s} {'recordings':>10s} {'nn cm':>6s} {'cosine':>6s} {'motion only':>11s}")
    right, count = found.controls["real motion"]["motion_only"]["right"], found.controls["real motion"]["count"]
    for action in found.actions:
        norm = found.norms["fixed", action]
        print(f"{action:20s} {norm.how:9s} {norm.recordings:10d} {100 * norm.at('nn'):6.1f} {norm.at('cosine'):6.2f}"
              f" {100 * found.real[action]:10.0f}%")  # fmt: skip
    rate, low, high = (round(100 * x) for x in (right / count, *wilson(right, count)))
    print(f"real motion is recognised in {rate} % ({low}-{high}) of {count} windows")


if __name__ == "__main__":
    run_program(main)
