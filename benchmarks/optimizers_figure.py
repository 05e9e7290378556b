"""The picture of benchmarks.optimizers: who won, and how much each optimiser minds its learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

TIED, BEHIND, CONTROL = "#2563bd", "#9aa3ae", "#c2410c"


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the last rung with its intervals, and the first rung's scores against the learning rate."""
    last = [row for row in result["rungs"][-1] if "failed" not in row]
    names = list(dict.fromkeys(row["optimizer"] for row in result["optimizers"]))
    height = 1.5 + 0.26 * max(len(last), len(names))
    figure = Figure(figsize=(11, height), dpi=130)
    left, right = figure.subplots(1, 2)
    _standings(left, last, result)
    _rates(right, result["rungs"][0], names, result)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _standings(axis: Axes, rows: list[dict[str, Any]], result: dict[str, Any]) -> None:
    for y, row in enumerate(rows):
        low, high = row["interval"]
        color = TIED if row["tied"] else BEHIND
        axis.plot([low, high], [y, y], color=color, linewidth=2)
        axis.plot(row["mean"], y, "o", color=color, markersize=6)
    labels = [row["name"].replace("-", "  ") + (" *" if row["name"] == result["baseline"] else "") for row in rows]
    axis.set_yticks(range(len(rows)), labels, fontsize=8)
    plan = result["plan"][len(result["rungs"]) - 1]
    motions = plan["copies"] * len(result["actions"])
    axis.set_title(
        f"{plan['steps']} steps, {motions} motions: blue is tied with the best, * the main job's", fontsize=9
    )
    _scale(axis, result, len(rows))


def _rates(axis: Axes, rows: list[dict[str, Any]], names: list[str], result: dict[str, Any]) -> None:
    """Per optimiser its rates from pale to dark, low to high."""
    for y, name in enumerate(names):
        own = [row for row in rows if row["optimizer"] == name and "failed" not in row]
        schedules = [row["schedule"] for row in own]
        own = [row for row in own if row["schedule"] == ("constant" if "constant" in schedules else schedules[0])]
        own.sort(key=lambda row: row["learning_rate"])
        axis.plot([row["mean"] for row in own], [y] * len(own), color="#d5dae1", linewidth=1, zorder=1)
        for place, row in enumerate(own):
            alpha = 0.3 + 0.7 * (place + 1) / len(own)
            axis.plot(row["mean"], y, "o", color=TIED, alpha=alpha, markersize=5)
            axis.annotate(f"{row['learning_rate']:g}", (row["mean"], y), xytext=(0, 3), textcoords="offset points",
                          fontsize=5, ha="center")  # fmt: skip
    axis.set_yticks(range(len(names)), names, fontsize=8)
    axis.set_title(
        f"after {result['plan'][0]['steps']} steps, by learning rate (darker: higher), one schedule each", fontsize=9
    )
    _scale(axis, result, len(names))


def _scale(axis: Axes, result: dict[str, Any], rows: int) -> None:
    """A common scale, and what motion that means nothing and real motion reach."""
    for name in ("random in own range", "real motion"):
        value = result["controls"].get(name)
        if value is not None:
            axis.axvline(value, color=CONTROL, linewidth=0.8, linestyle=":")
            axis.text(value - 0.01, -0.8, name, color=CONTROL, fontsize=6, ha="right", va="center")
    axis.set_ylim(rows - 0.4, -1.2)
    axis.set_xlim(0, 1.04)
    axis.set_xlabel("probability of the own action, motion only", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
