"""What motions score beside real motion: a row each, a summary, and a verdict on every measure in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float

from md_jax.evaluate import judges, likeness
from md_jax.evaluate.reference import STILL_SPEED, Root, evenly, joint_windows, mirrored
from md_jax.evaluate.yardstick import SEEDS, Yardstick
from md_jax.mocap.statistics import load_statistics

COPY = 0.5  # nearer to a training window than this share of what held-out windows are: a copy
FAR = 1.6  # farther from any real window than this multiple of what other real windows are
ALIKE = 0.6  # cosine of the velocities with those of the nearest real window
RANGE = (0.6, 1.5)  # of ranges and speeds over real ones
VARIED = (0.5, 1.5)  # of the distance between seeds over that between real windows
REALISTIC = 0.85  # area under the curve at which a motion is still mistaken for real often enough
SPECIAL = ("nn_ratio", "cosine", "copying")
RATIOS = tuple(likeness.EXTENTS)


@dataclass(frozen=True)
class Entry:
    """One motion to be judged: its windows of joint positions, and the action it should show ("" where unknown)."""

    name: str
    windows: Float[np.ndarray, "W F 21 3"]
    expected: str


class Verdict(NamedTuple):
    """A measure, whether it is as in real motion, and why in words."""

    measure: str
    good: bool
    words: str


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a rate (Wilson 1927); (0, 1) without observations."""
    if not count:
        return 0.0, 1.0
    rate, spread = right / count, z * z / count
    centre = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(rate * (1 - rate) / count + spread / (4 * count))
    return max(centre - half, 0.0), min(centre + half, 1.0)


# --- a row a motion ---------------------------------------------------------------------------------------------


def score(yardstick: Yardstick, entries: Sequence[Entry], root: Root = "fixed",
          limbs: Sequence[Float[np.ndarray, "W F 21 3"]] | None = None) -> list[dict[str, Any]]:  # fmt: skip
    """What the yardstick says of each entry.

    Args:
        yardstick: real motion.
        entries: the motions; windows with a turning root if `root` says so.
        root: of the entries and of the real windows that they are compared with.
        limbs: with a turning root, the same windows with the root not turned: the classifier never sees a root.

    Returns:
        A dict a motion: name, expected, speed (m/s), motion_only (label, probability of the expected class, of all). Of
        an expected action that the yardstick knows also split ("recording" or "time"), recordings, nn (metres),
        nn_ratio, cosine, copying, and for each of `likeness.EXTENTS` its value, `<name>_ratio` and `<name>_quantile`.
        All are means over the motion's windows.
    """
    if not entries:
        return []
    owner = np.repeat(np.arange(len(entries)), [len(entry.windows) for entry in entries])
    windows = np.concatenate([entry.windows for entry in entries])
    bodies = windows if limbs is None else np.concatenate(list(limbs))
    classes = yardstick.classifier.classes
    shares = judges.probabilities(yardstick.classifier, bodies, yardstick.fps)
    values = {name: of(windows, yardstick.fps) for name, of in likeness.EXTENTS.items()}
    expected = np.array([entry.expected for entry in entries])[owner]
    for action in set(expected) & set(yardstick.actions):
        _compare_with(yardstick, str(action), root, windows, np.flatnonzero(expected == action), values)
    rows = []
    for e, entry in enumerate(entries):
        own = owner == e
        share = shares[own].mean(axis=0)
        row: dict[str, Any] = {"name": entry.name, "expected": entry.expected, "windows": int(own.sum())}
        label = classes[int(share.argmax())]
        row["motion_only"] = {"label": label, "values": dict(zip(classes, share.round(4).tolist(), strict=True))}
        row |= {
            name: round(float(value[own].mean()), 4) for name, value in values.items() if np.isfinite(value[own]).all()
        }
        row["static"] = label == judges.STATIC or row["speed"] < STILL_SPEED
        if entry.expected in yardstick.actions:
            row["motion_only"]["own"] = round(float(share[classes.index(entry.expected)]), 4)
            norm = yardstick.norms[root, entry.expected]
            row |= {"split": norm.how, "recordings": norm.recordings}
            row |= {f"{name}_quantile": round(norm.rank(name, row[name]), 3) for name in RATIOS}
        rows.append(row)
    return rows


def _compare_with(
    yardstick: Yardstick, action: str, root: Root, windows: np.ndarray, own: np.ndarray, values: dict[str, np.ndarray]
) -> None:
    """Write into the values what comparing windows `own` with real ones of their action gives; NaN elsewhere."""
    norm, real = yardstick.norms[root, action], yardstick.reference(action, root)
    near, index = likeness.nearest(windows[own], real.near.joints)
    found = {
        "nn": near,
        "nn_ratio": near / norm.at("nn"),
        "cosine": likeness.velocity_cosine(windows[own], real.near.joints[index]),
        "copying": likeness.nearest(windows[own], real.seen.joints)[0] / norm.at("copying"),
        **{f"{name}_ratio": values[name][own] / norm.at(name) for name in RATIOS},
    }
    for name, part in found.items():
        values.setdefault(name, np.full(len(windows), np.nan))[own] = part


# --- over motions -----------------------------------------------------------------------------------------------


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Rates with their Wilson intervals over rows that have an expected action, and medians: first over the motions of
    an action, then over actions, so that each action counts the same.

    Returns:
        count; motion_only (right, rate, interval); motion_only_own_probability; static; each of nn_ratio, cosine,
        copying, and the ratios and quantiles of `likeness.EXTENTS` (None without rows); by_action, the same of each.
    """
    known = [row for row in rows if "nn_ratio" in row]
    by_action = {}
    for action in dict.fromkeys(row["expected"] for row in known):
        own = [row for row in known if row["expected"] == action]
        by_action[action] = {
            "count": len(own),
            "split": own[0]["split"],
            "recordings": own[0]["recordings"],
            "motion_only": sum(row["motion_only"]["label"] == action for row in own),
            **{name: _median([row[name] for row in own]) for name in _NUMBERS},
        }
    right = sum(row["motion_only"]["label"] == row["expected"] for row in known)
    low, high = wilson(right, len(known))
    own_probability = [row["motion_only"]["own"] for row in known]
    return {
        "count": len(known),
        "motion_only": {"right": right, "rate": round(right / max(len(known), 1), 3),
                        "interval": [round(low, 3), round(high, 3)]},
        "motion_only_own_probability": round(float(np.mean(own_probability)), 3) if known else None,
        "static": sum(row["static"] for row in known),
        **{name: _median([action[name] for action in by_action.values()]) for name in _NUMBERS},
        "by_action": by_action,
    }  # fmt: skip


_NUMBERS = (*SPECIAL, *(f"{name}_{how}" for name in RATIOS for how in ("ratio", "quantile")))


def _median(values: Sequence[float]) -> float | None:
    return round(float(np.median(values)), 3) if len(values) else None


def compare(yardstick: Yardstick, entries: Sequence[Entry], root: Root = "fixed") -> dict[str, Any]:
    """What only several motions together have.

    Returns:
        by_action: diversity (mean distance between motions over that between real windows) and coverage (the share of
        held-out windows that a motion reaches, beside the share that `SEEDS` real windows reach) of actions with two
        motions or more; diversity, coverage and coverage_of_real: medians over them; real_or_not: None where there are
        too few motions.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.expected in yardstick.actions:
            groups.setdefault(entry.expected, []).append(entry)
    by_action: dict[str, dict[str, float]] = {}
    made: list[np.ndarray] = []
    real: list[np.ndarray] = []
    names: list[str] = []
    for action, own in groups.items():
        norm, truth = yardstick.norms[root, action], yardstick.reference(action, root)
        windows = np.concatenate([entry.windows for entry in own])
        if len(own) > 1:
            firsts = np.stack([entry.windows[0] for entry in own])
            both = np.concatenate([windows, mirrored(windows)])
            radius = norm.at("nn", 0.9)
            by_action[action] = {
                "diversity": round(likeness.diversity(firsts) / norm.spread, 3),
                "coverage": round(likeness.coverage(both, truth.held_out.joints, radius), 3),
                "coverage_of_real": round(norm.covered, 3),
            }
        match = evenly(truth.held_out, len(windows)).joints
        some = windows[np.unique(np.linspace(0, len(windows) - 1, len(match)).round().astype(int))]
        others = truth.others.joints
        made.append(judges.typical(some, yardstick.fps, others))
        real.append(judges.typical(match, yardstick.fps, others))
        names += [action] * len(match)
    told = judges.real_or_not(np.concatenate(made), np.concatenate(real), names) if made else None
    return {
        "by_action": by_action,
        **{
            key: _median([row[key] for row in by_action.values()])
            for key in ("diversity", "coverage", "coverage_of_real")
        },
        "real_or_not": None if told is None else {
            "auc": round(told.auc, 3), "interval": [round(x, 3) for x in told.interval], "count": told.count,
            "by_action": {a: round(x, 3) for a, x in told.by_action.items()},
        },
    }  # fmt: skip


# --- verdicts ---------------------------------------------------------------------------------------------------


def verdicts(yardstick: Yardstick, summary: dict[str, Any], together: dict[str, Any], root: Root) -> list[Verdict]:
    """Each measure of a summary in words, on both sides: too near is as bad as too far."""
    if not summary["count"]:
        return []
    norms = [yardstick.norms[root, action] for action in summary["by_action"]]
    found = []

    def say(measure: str, good: bool, words: str) -> None:
        found.append(Verdict(measure, good, words))

    ratio, copying, cosine = (summary[name] for name in SPECIAL)
    say("nearest real window", ratio <= FAR, f"{ratio:.2f} times as far as other real motion is"
        + ("" if ratio <= FAR else ": too far from anything real"))  # fmt: skip
    least = min(ALIKE, float(np.median([norm.at("cosine", 0.25) for norm in norms])))
    say("moves the same way", cosine >= least, f"velocities at cosine {cosine:.2f} with it; real motion has"
        f" {np.median([norm.at('cosine') for norm in norms]):.2f}")  # fmt: skip
    for name in RATIOS:
        value = summary[f"{name}_ratio"]
        good = RANGE[0] <= value <= RANGE[1] or all(
            norm.at(name, 0.05) <= summary["by_action"][action][f"{name}_ratio"] * norm.at(name) <= norm.at(name, 0.95)
            for action, norm in zip(summary["by_action"], norms, strict=True)
        )
        side = "" if good else ": too much" if value > 1 else ": too little"
        say(name.replace("_", " "), good, f"{value:.2f} of real{side}")
    say("no copy", copying >= COPY, f"{copying:.2f} times as far from the prior's training clips as held-out motion is"
        + ("" if copying >= COPY else ": a copy"))  # fmt: skip
    rate = summary["motion_only"]
    real = float(np.mean([yardstick.real[action] for action in summary["by_action"]]))
    say("motion alone names it", rate["rate"] >= min(0.8, real), f"{rate['right']} of {summary['count']}"
        f" recognised; of real motion {100 * real:.0f} %")  # fmt: skip
    if together["diversity"] is not None:
        value = together["diversity"]
        side = "" if VARIED[0] <= value <= VARIED[1] else ": too alike" if value < 1 else ": too different"
        say("seeds differ", not side, f"{value:.2f} of what real windows do{side}")
        share, usual = together["coverage"], together["coverage_of_real"]
        say("variety reached", share >= usual / 2, f"they come near {100 * share:.0f} % of real windows;"
            f" {SEEDS} real ones come near {100 * usual:.0f} %")  # fmt: skip
    if together["real_or_not"]:
        told = together["real_or_not"]
        say("passes for real", told["auc"] <= REALISTIC, f"told from real motion at AUC {told['auc']:.2f}"
            f" ({told['interval'][0]:.2f}-{told['interval'][1]:.2f}; .5: not at all)")  # fmt: skip
    return found


def controls_for(yardstick: Yardstick, root: Root) -> dict[str, Any]:
    """The yardstick's rows, real motion first; of real motion that whose root is like the motions'."""
    rows = dict(yardstick.controls)
    turning = rows.pop("real motion, turning", None)
    return rows if root == "fixed" or turning is None else {**rows, "real motion": turning}


# --- controls ---------------------------------------------------------------------------------------------------


def still(action: str, expected: str, frames: int) -> Entry:
    """The mean pose of an action ("generic": of all actions pooled), held still."""
    pose = load_statistics(action).body_mean
    return Entry(f"mean pose of {action}", joint_windows(np.repeat(pose[None, None], frames, axis=1)), expected)


def random_in_range(action: str, expected: str, seeds: Sequence[int], frames: int) -> list[Entry]:
    """PoseFields of an action's mean and ±3σ with random weights, the head's too: any smooth motion in the range.

    (The field of a run starts with a zero head, at the mean pose exactly: the control `still`.) The head is scaled so
    that what the field bounds by 3σ·tanh has a standard deviation of 1: on average 1.9σ off the mean pose.
    """
    import jax
    import jax.numpy as jnp

    from md_jax.fit.posefield import apply_fields, init_fields, octaves

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
