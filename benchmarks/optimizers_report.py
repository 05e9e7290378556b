"""What benchmarks.optimizers found, as a result for machines and as tables for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.halving import Rung, stand


def summary(rungs: Sequence[Rung], found: Sequence[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The plan, each rung's standings, and the place of each optimiser.

    Args:
        rungs: the plan.
        found: of each rung that ran, what is known of each candidate: its fields and "own", the own-action
            probability of each motion (NaN where it failed).

    Returns:
        "plan"; "rungs": a list of lists of candidates, best first, each with mean, interval, behind, behind_interval
        and tied; "optimizers": the best candidate of each in the highest rung that one of its candidates reached.
    """
    tables = []
    for cells in found:
        standings = stand({name: np.array(cell["own"]) for name, cell in cells.items()})
        rows: list[dict[str, Any]] = [{**cells[s.name], **dataclasses.asdict(s)} for s in standings]
        rows += [{**cell, "name": name, "own": []} for name, cell in cells.items() if "failed" in cell]
        tables.append(rows)
    best: dict[str, dict[str, Any]] = {}
    for rows in reversed(tables):
        for row in rows:
            if "failed" not in row:
                best.setdefault(row["optimizer"], row)
    return {"plan": [dataclasses.asdict(rung) for rung in rungs], "rungs": tables, "optimizers": list(best.values())}


def print_report(result: dict[str, Any]) -> None:
    """Two tables: the last rung, and where each optimiser ended."""
    columns = ["candidate", "own p", "95 %", "behind the best", "95 %", "right", "speed", "jerk", "ms a step"]
    last = len(result["rungs"]) - 1
    plan = result["plan"][last]
    motions = plan["copies"] * len(result["actions"])
    print(f"\nRung {last}: {plan['steps']} steps, {motions} motions each; = tied with the best")
    print(timing.table(columns, [_row(row, result["baseline"]) for row in result["rungs"][last]]))
    print("\nEvery optimiser's best candidate, in the highest rung that it reached; rungs do not compare")
    rows = [[*_row({**row, "tied": False}, result["baseline"]), str(row["rung"])] for row in result["optimizers"]]
    print(timing.table([*columns, "rung"], rows))
    failed = {row["name"]: row["failed"] for rows in result["rungs"] for row in rows if "failed" in row}
    for name, why in failed.items():
        print(f"failed: {name}: {why}")
    controls = (f"{name} {value:.2f}" for name, value in result["controls"].items() if value is not None)
    print(f"\nControls' own p: {', '.join(controls)}. Candidates took {result['minutes']} minutes.")
    print("; ".join(f"{name} {value}" for name, value in result["machine"].items()))


def _row(row: dict[str, Any], baseline: str) -> list[str]:
    name = row["name"] + (" (the main job's)" if row["name"] == baseline else "")
    if "failed" in row:
        return [name, "failed", *[""] * 7]
    low, high = row["interval"]
    behind_low, behind_high = row["behind_interval"]
    best = row["behind"] == 0 and behind_low == behind_high
    return [
        ("= " if row["tied"] else "") + name,
        f"{row['mean']:.3f}",
        f"{low:.2f} to {high:.2f}",
        "best" if best else f"{row['behind']:.3f}",
        "" if best else f"{behind_low:+.2f} to {behind_high:+.2f}",
        f"{row['motion_only']['right']} of {len(row['own'])}",
        f"{row['speed_ratio']:.2f}",
        f"{row['jerk_ratio']:.2f}",
        timing.milliseconds(row["seconds_a_step"]),
    ]
