"""Successive halving for a noisy score: the plan, who goes on, and which differences are more than noise.

Source: Jamieson & Talwalkar 2016 (successive halving); Efron & Tibshirani 1993, ch. 13 (percentile bootstrap).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float

SHARES = (0.25, 0.25, 0.5)  # of the time, a rung; the last decides
LATEST = (
    0.45,
    0.7,
    1.0,
)  # of the time: when a rung stops although candidates of it are left, should the machine slow down
LEAST_STEPS = 20  # with fewer nothing moves
FINALISTS = 5
MOST_COPIES = 6  # of each action


@dataclasses.dataclass(frozen=True)
class Rung:
    """What each of its candidates runs: `copies` motions of each of A actions, all at once."""

    candidates: int
    most_each: int  # of one optimiser
    steps: int
    copies: int
    seconds: float  # expected, of one candidate


@dataclasses.dataclass(frozen=True)
class Cost:
    """Measured seconds: a step of M motions takes `fixed + each · M`, and a candidate `start` before its first."""

    fixed: float
    each: float
    start: float

    def cell(self, motions: int, steps: int) -> float:
        """Seconds of one candidate."""
        return self.start + steps * (self.fixed + self.each * motions)


def make_plan(cost: Cost, candidates: int, actions: int, steps: int, seconds: float) -> list[Rung]:
    """Three rungs within the time: all candidates briefly, the best third or so for longer, a few in full.

    Args:
        cost: measured.
        candidates: all of them.
        actions: A.
        steps: of a full run.
        seconds: for everything.

    Raises:
        ValueError: the time is too short for that many candidates.
    """
    first_seconds, second_seconds, last_seconds = (share * seconds for share in SHARES)
    a_step = cost.cell(actions, 1) - cost.start
    first = min(math.floor((first_seconds / candidates - cost.start) / a_step), steps // 2)
    if first < min(LEAST_STEPS, steps // 2):
        least = candidates * cost.cell(actions, min(LEAST_STEPS, steps // 2)) / SHARES[0] / 60
        raise ValueError(
            f"{candidates} candidates need at least {least:.0f} minutes at {a_step:.2f} s a step, got"
            f" {max(seconds, 0) / 60:.0f}: give more time (--minutes) or fewer candidates (--optimizers, --schedules)."
        )
    second = min(max(first, steps // 2), steps)
    kept = min(max(math.floor(second_seconds / cost.cell(actions, second)), 2), candidates)
    finalists = min(FINALISTS, kept)
    copies = 1
    while copies < MOST_COPIES and finalists * cost.cell(actions * (copies + 1), steps) <= last_seconds:
        copies += 1
    return [
        Rung(candidates, candidates, first, 1, cost.cell(actions, first)),
        Rung(kept, 2, second, 1, cost.cell(actions, second)),
        Rung(finalists, 1, steps, copies, cost.cell(actions * copies, steps)),
    ]


def promote(
    scores: Mapping[str, Float[np.ndarray, "M"]],
    keep: int,
    most_each: int,
    family: Callable[[str], str],
    always: str,
) -> list[str]:
    """Who goes on, best first: by mean score, at most `most_each` of a family, and `always` in any case.

    Args:
        scores: of each motion, by candidate; NaN stands for a run that failed, and such a candidate never goes on.
        keep: how many.
        most_each: of one family.
        family: the family of a candidate (its optimiser).
        always: the candidate that everything is compared with.
    """
    means = {name: float(np.mean(values)) for name, values in scores.items()}
    ranked = sorted((name for name in means if np.isfinite(means[name])), key=lambda name: -means[name])
    kept = [always] if always in ranked else []
    for name in ranked:
        # the baseline does not count against its own family's places
        same = sum(family(other) == family(name) and other != always for other in kept)
        if name not in kept and same < most_each and len(kept) < keep:
            kept.append(name)
    return sorted(kept, key=lambda name: -means[name])


def interval(
    values: Float[np.ndarray, "M"], resamples: int = 10_000, level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over motions."""
    rng = np.random.default_rng(seed)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class Standing:
    """Where a candidate ended among those that ran the same motions."""

    name: str
    mean: float
    interval: tuple[float, float]
    behind: float  # the best one's mean less its own
    behind_interval: tuple[float, float]
    tied: bool  # with the best: the interval of the paired difference holds zero


def stand(scores: Mapping[str, Float[np.ndarray, "M"]]) -> list[Standing]:
    """The candidates of one rung, best first; motion m of each started from the same field and saw the same draws."""
    finite = {name: values for name, values in scores.items() if np.isfinite(values).all()}
    if not finite:
        return []
    best = max(finite, key=lambda name: float(finite[name].mean()))
    standings = []
    for name, values in finite.items():
        difference = finite[best] - values
        low, high = interval(difference)
        mean, behind = float(values.mean()), float(difference.mean())
        standings.append(Standing(name, mean, interval(values), behind, (low, high), low <= 0 <= high))
    return sorted(standings, key=lambda standing: -standing.mean)
