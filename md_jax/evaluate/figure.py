"""The figure of an evaluation: what each motion looks like to the classifiers and to the prior."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from md_jax.errors import UserError


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw the probabilities of each motion's classes, with and without the pose, and the prior's losses.

    Raises:
        UserError: the picture cannot be written.
    """
    rows = result["motions"]
    classes = [*result["reference"]["actions"], "static"]
    panels: list[tuple[str, np.ndarray, list[str]]] = []
    for title, by in (("classifier, with the pose", "with_pose"), ("classifier, motion only", "motion_only")):
        panels.append((title, np.array([[row[by]["values"][c] for c in classes] for row in rows]), classes))
    if "prior" in result:
        losses = np.array(result["prior"]["losses"])
        share = np.exp(-(losses - losses.min(axis=1, keepdims=True)) / np.maximum(losses.std(), 1e-9))
        title = f"{result['prior']['name']} prior (least loss is darkest)"
        panels.append((title, share / share.sum(axis=1, keepdims=True), result["prior"]["actions"]))
    height = 1.6 + 0.28 * len(rows) + 1.3
    figure = Figure(figsize=(1.5 + 0.42 * sum(len(p[2]) for p in panels) + 0.5 * len(panels), height), dpi=130)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, values, columns) in zip(axes, panels, strict=True):
        _heatmap(axis, title, values, [c.replace("_", " ") for c in columns])
        for r, row in enumerate(rows):
            if row["expected"] in columns:
                axis.add_patch(_frame(columns.index(row["expected"]), r))
    axes[0].set_yticks(range(len(rows)), [_short(row) for row in rows], fontsize=7)
    figure.suptitle("Framed: what the motion should be", fontsize=8, x=0.99, ha="right")
    figure.tight_layout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def _heatmap(axis: Axes, title: str, values: np.ndarray, columns: list[str]) -> None:
    axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
    axis.set_title(title, fontsize=8)
    for (r, c), value in np.ndenumerate(values):
        if value >= 0.05:
            axis.text(c, r, f"{value:.2f}".removeprefix("0"), ha="center", va="center", fontsize=6,
                      color="white" if value > 0.6 else "black")  # fmt: skip


def _frame(column: int, row: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#c2410c", linewidth=1.4)


def _short(row: dict[str, Any]) -> str:
    text = row.get("prompt") or row["name"]
    return text if len(text) <= 34 else "…" + text[-33:]
