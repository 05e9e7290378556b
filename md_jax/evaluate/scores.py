"""Rows of the evaluation: what a motion scores, and what the controls beside it score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.body import lbs
from md_jax.evaluate import measures
from md_jax.evaluate.reference import Judgement, Reference, judge, windows_of
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import load_statistics

BY = ("with_pose", "motion_only", "position", "position_motion_only", "velocity")


@dataclass(frozen=True)
class Entry:
    """One motion to be judged: its windows of joint positions, and the action it should show ("" where unknown)."""

    name: str
    windows: Float[np.ndarray, "W F 21 3"]
    expected: str


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927); (0, 1) without observations."""
    if not count:
        return 0.0, 1.0
    rate, spread = right / count, z * z / count
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / count + spread / (4 * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


def score(reference: Reference, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What the reference says of each entry.

    Returns:
        A dict a motion: name, expected; for each measure in BY its label (and for the classifiers the probability of
        the expected class, for the distances the distance to it); speed and jerk, and their ratios to real motion of
        the expected action.
    """
    if not entries:
        return []
    said = judge(reference, [entry.windows for entry in entries])
    return [_row(reference, entry, said, m) for m, entry in enumerate(entries)]


def _row(reference: Reference, entry: Entry, said: Judgement, m: int) -> dict[str, Any]:
    row: dict[str, Any] = {"name": entry.name, "expected": entry.expected}
    own = reference.actions.index(entry.expected) if entry.expected in reference.actions else None
    for by in BY:
        values = getattr(said, by)[m]
        row[by] = {"label": reference.classes[said.labels(by)[m]]}
        if own is not None:
            row[by]["own"] = round(float(values[own]), 4)
        row[by]["values"] = dict(zip(reference.classes, np.round(values, 4).tolist(), strict=False))
    row["speed"], row["jerk"] = round(float(said.speed[m]), 4), round(float(said.jerk[m]), 3)
    if own is not None:
        row["speed_ratio"] = round(float(said.speed[m] / reference.speed[own]), 3)
        row["jerk_ratio"] = round(float(said.jerk[m] / reference.jerk[own]), 3)
    return row


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates with their Wilson intervals and median ratios over rows that have an expected action."""
    known = [row for row in rows if "speed_ratio" in row]
    summary: dict[str, Any] = {"count": len(known)}
    for by in BY:
        right = sum(row[by]["label"] == row["expected"] for row in known)
        low, high = wilson(right, len(known))
        summary[by] = {"right": right, "rate": round(right / max(len(known), 1), 3),
                       "interval": [round(low, 3), round(high, 3)]}  # fmt: skip
    summary["static"] = sum("static" in (row["motion_only"]["label"], row["velocity"]["label"]) for row in known)
    for name in ("speed_ratio", "jerk_ratio"):
        values = [row[name] for row in known]
        summary[name] = round(float(np.median(values)), 3) if values else None
        summary[f"{name}_by_action"] = {
            action: round(float(np.median([row[name] for row in known if row["expected"] == action])), 3)
            for action in dict.fromkeys(row["expected"] for row in known)
        }
    own = [row["motion_only"]["own"] for row in known]
    summary["motion_only_own_probability"] = round(float(np.mean(own)), 3) if own else None
    return summary


# --- controls ---------------------------------------------------------------------------------------------------


def still(reference: Reference, action: str, expected: str) -> Entry:
    """The mean pose of an action ("generic": of all actions pooled), held still."""
    pose = load_statistics(action).body_mean
    windows = measures.joints(np.repeat(pose[None, None], reference.frames, axis=1))
    return Entry(f"mean pose of {action}, held still", windows, expected)


def untrained(reference: Reference, action: str, expected: str, seed: int) -> Entry:
    """A PoseField with random weights in its last layer too: a smooth motion within the bounds that means nothing.

    (The PoseField of a run starts at the mean pose exactly, which is the control `still`.)
    """
    statistics = load_statistics(action)
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, reference.frames)[:, None, None]
    waves = [
        rng.normal(size=(21, 3)) * np.sin(2 * np.pi * (k * time + rng.uniform(size=(21, 3)))) / k for k in (1, 2, 3)
    ]
    pose = statistics.body_mean + statistics.body_std * np.tanh(np.sum(waves, axis=0))
    return Entry("random motion within the bounds", measures.joints(pose[None].astype(np.float32)), expected)


def real(reference: Reference, *, held_out: bool, most: int = 40) -> list[Entry]:
    """Real windows, at most `most` an action: held out, or of the recordings that the distances are not taken to."""
    joints, label = (
        (reference.held_out, reference.held_out_label) if held_out else (reference.others, reference.others_label)
    )
    entries = []
    for a, action in enumerate(reference.actions):
        own = np.flatnonzero(label == a)
        own = own[np.unique(np.linspace(0, len(own) - 1, min(most, len(own))).round().astype(int))]
        entries += [Entry("real motion", joints[i : i + 1], action) for i in own]
    return entries


def baselines(reference: Reference, seeds: int = 5) -> dict[str, dict[str, Any]]:
    """Summaries of everything a result stands beside.

    Real motion is judged by the classifiers on held-out windows, and by the distances (which are taken to those) on
    windows of the other recordings.
    """
    actions = reference.actions
    table = {
        "own mean pose, still": [still(reference, action, action) for action in actions],
        "pooled mean, still": [still(reference, "generic", action) for action in actions],
        "random in own range": [
            untrained(reference, action, action, seed) for action in actions for seed in range(seeds)
        ],
        "real motion": real(reference, held_out=True),
    }
    summaries = {name: summarise(score(reference, entries)) for name, entries in table.items()}
    others = summarise(score(reference, real(reference, held_out=False)))
    for by in ("position", "position_motion_only", "velocity"):
        summaries["real motion"][by] = others[by]
    chance = 1 / len(reference.classes)
    summaries["chance"] = {"count": 0, **{by: {"rate": round(chance, 3)} for by in BY}}
    return summaries


# --- without a reference ----------------------------------------------------------------------------------------


def reference_free(motion: Motion) -> dict[str, float | None]:
    """Range of motion, tilt, periodicity, self penetration, deviation from usual poses, and contact with the ground.

    Foot skate and ground penetration need a translation: None where there is none.
    """
    points = measures.joints(motion.body_pose[None])[0]
    correlation, period = measures.periodicity(points, motion.fps)
    values: dict[str, float | None] = {
        "range_of_motion_degrees": measures.range_of_motion(motion.body_pose),
        "tilt_degrees": measures.tilt(motion.root_orient),
        "periodicity": correlation,
        "period_seconds": None if math.isnan(period) else period,
        "self_penetration_metres": float(measures.self_penetration(points).mean()),
        "pose_deviation": measures.pose_deviation(motion.body_pose, load_statistics("generic")),
        "foot_skate_metres_per_second": None,
        "ground_penetration_metres": None,
    }
    if np.ptp(motion.transl, axis=0).max() > 1e-4:
        _, baked = measures.free_body()
        where = jnp.asarray(motion.body_pose), jnp.asarray(motion.root_orient), jnp.asarray(motion.transl)
        vertices = np.concatenate([
            np.asarray(lbs.pose(baked, *(x[i : i + 100] for x in where))) for i in range(0, len(points), 100)
        ])  # fmt: skip
        feet = np.asarray(lbs.joints_of(baked, *where))[:, measures.FEET, :]
        skate, depth = measures.ground_contact(vertices, feet, motion.fps)
        values["foot_skate_metres_per_second"] = None if math.isnan(skate) else skate
        values["ground_penetration_metres"] = depth
    return {name: value if value is None else round(value, 4) for name, value in values.items()}


def entry_of(reference: Reference, name: str, motion: Motion, expected: str) -> Entry:
    """A motion file's entry."""
    return Entry(name, windows_of(reference, motion), expected)
