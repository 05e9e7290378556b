"""What motions score beside real motion: a row each, a summary, and a verdict on every measure in plain words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from md_jax.evaluate import judges, likeness
from md_jax.evaluate.reference import STILL_SPEED, Root, mirrored, some_of
from md_jax.evaluate.yardstick import SEEDS, Yardstick
from md_jax.mocap.windows import evenly

COPY = 0.5  # nearer to a training window than this share of what held-out windows are: a copy
NEAR, FAR = 0.5, 1.6  # of the distance to the nearest real window, over that of other real windows
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
    groups_of: tuple[list[str], list[str]] = ([], [])
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
        match = some_of(truth.held_out, len(windows))
        owner = np.repeat(np.arange(len(own)), [len(entry.windows) for entry in own])
        some = evenly(len(windows), len(match))
        others = truth.others.joints
        made.append(judges.typical(windows[some], yardstick.fps, others))
        real.append(judges.typical(match.joints, yardstick.fps, others))
        names += [action] * len(match)
        groups_of[0].extend(map(str, owner[some]))
        groups_of[1].extend(map(str, match.recording))
    told = judges.real_or_not(np.concatenate(made), np.concatenate(real), names, groups_of) if made else None
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
    """Each measure in words, on both sides. It is good if no action fails it: a median would hide the worst ones."""
    if not summary["count"]:
        return []
    actions, real = summary["by_action"], {a: yardstick.norms[root, a] for a in summary["by_action"]}
    found = []

    def say(measure: str, failing: dict[str, str], words: str) -> None:
        which = "" if len(actions) == 1 else f" ({', '.join(failing)})"
        found.append(Verdict(measure, not failing, words + "".join(f": {x}{which}" for x in _few(failing.values()))))

    sides = {a: _side(x["nn_ratio"], 0.0, (NEAR, FAR), ("too near to be another", "too far from anything real"))
             for a, x in actions.items()}  # fmt: skip
    say("nearest real window", {a: side for a, side in sides.items() if side},
        f"{summary['nn_ratio']:.2f} times as far as other real motion is")  # fmt: skip
    usual = np.median([norm.at("cosine") for norm in real.values()])
    say("moves the same way",
        {a: "moves another way" for a, x in actions.items() if x["cosine"] < min(ALIKE, real[a].at("cosine", 0.25))},
        f"velocities at cosine {summary['cosine']:.2f} with it; of real motion {usual:.2f}")  # fmt: skip
    for name in RATIOS:
        sides = {a: _side(x[f"{name}_ratio"], x[f"{name}_quantile"]) for a, x in actions.items()}
        say(name.replace("_", " "), {a: side for a, side in sides.items() if side},
            f"{summary[f'{name}_ratio']:.2f} of real")  # fmt: skip
    say("no copy", {a: "a copy" for a, x in actions.items() if x["copying"] < COPY},
        f"{summary['copying']:.2f} times as far from training clips as held-out motion is")  # fmt: skip
    share = {a: x["motion_only"] / x["count"] for a, x in actions.items()}
    of_real = np.mean([yardstick.real[a] for a in actions])
    say("motion alone names it",
        {a: "looks like something else" for a in actions if share[a] < min(0.8, yardstick.real[a])},
        f"{summary['motion_only']['right']} of {summary['count']} recognised; of real motion"
        f" {100 * of_real:.0f} %")  # fmt: skip
    groups = together["by_action"]
    if groups:
        sides = {a: _side(x["diversity"], 0.0, VARIED, ("too alike", "too different")) for a, x in groups.items()}
        say("seeds differ", {a: side for a, side in sides.items() if side},
            f"{together['diversity']:.2f} of what real windows do")  # fmt: skip
        say("variety reached",
            {a: "too little" for a, x in groups.items() if x["coverage"] < x["coverage_of_real"] / 2},
            f"they come near {100 * together['coverage']:.0f} % of real windows; {SEEDS} real ones come near"
            f" {100 * together['coverage_of_real']:.0f} %")  # fmt: skip
    if told := together["real_or_not"]:
        good, (low, high) = told["auc"] <= REALISTIC, told["interval"]
        words = f"told from real motion at AUC {told['auc']:.2f} ({low:.2f}-{high:.2f}; .5: not at all)"
        found.append(Verdict("passes for real", good, words))
    return found


def _side(
    ratio: float, quantile: float, bounds: tuple[float, float] = RANGE,
    words: tuple[str, str] = ("too little", "too much"),
) -> str:  # fmt: skip
    """What is wrong with a ratio that is out of bounds and out of nine tenths of real motion; "" if nothing."""
    if bounds[0] <= ratio <= bounds[1] or 0.05 <= quantile <= 0.95:
        return ""
    return words[0] if ratio < 1 else words[1]


def _few(words: Iterable[str]) -> list[str]:
    """The words, each once, joined; nothing if there are none."""
    once = " or ".join(dict.fromkeys(words))
    return [once] if once else []


def controls_for(yardstick: Yardstick, root: Root) -> dict[str, Any]:
    """The yardstick's rows, real motion first; of real motion that whose root is like the motions'."""
    rows = dict(yardstick.controls)
    turning = rows.pop("real motion, turning", None)
    return rows if root == "fixed" or turning is None else {**rows, "real motion": turning}
