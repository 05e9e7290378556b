"""What an evaluation says: a table beside real motion and the controls, verdicts in words, and a figure."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from md_jax.files import make_folder, write_bytes

COLUMNS = {
    "nn_ratio": "nearest\nreal",
    "cosine": "velocity\ncosine",
    "ankles_fore_aft_ratio": "ankles\nfore-aft",
    "ankles_sideways_ratio": "ankles\nsideways",
    "wrists_fore_aft_ratio": "wrists\nfore-aft",
    "wrists_sideways_ratio": "wrists\nsideways",
    "lower_foot_speed_ratio": "lower\nfoot",
    "speed_ratio": "speed",
    "jerk_ratio": "jerk",
    "copying": "copy-\ning",
}
LAST = ("seeds", "cover", "real or not (AUC)", "motion only")
LEGEND = (
    "nearest real: distance to the nearest real window that no prior has seen, over that of other real motion; velocity"
    " cosine: with that window; ankles to jerk: over the median of real motion; copying: distance to the nearest"
    " training window, over that of held-out motion (below .5: a copy); seeds: distance between motions over that"
    " between real windows; cover: share of real windows that they come near; real or not: how well a classifier tells"
    " them from real motion (.5: not at all, 1: always); motion only: share recognised without the pose."
)


def only(summary: dict[str, Any], actions: Sequence[str]) -> dict[str, Any]:
    """A row of the controls, of some actions alone: medians over them (of real or not: of all actions)."""
    own = {action: row for action, row in summary["by_action"].items() if action in actions}
    together = {action: row for action, row in summary["together"]["by_action"].items() if action in actions}
    row: dict[str, Any] = {name: _median(x[name] for x in own.values()) for name in COLUMNS}
    for name in ("diversity", "coverage"):
        row[name] = _median(x[name] for x in together.values())
    count = sum(x["count"] for x in own.values())
    right = sum(x["motion_only"] for x in own.values())
    told = summary["together"]["real_or_not"]
    rate = {"rate": right / max(count, 1), "right": right}
    return {**row, "count": count, "motion_only": rate, "real_or_not": told, "by_action": own}


def _median(values: Any) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def rows_of(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The table's rows: these motions, then what they stand beside, of the same actions."""
    actions = list(result["summary"]["by_action"])
    mine = {**result["summary"], **{key: result["together"][key] for key in ("diversity", "coverage", "real_or_not")}}
    rows = {"these motions": mine}
    for name, control in result["controls"].items():
        found = only(control, actions)
        if mine["real_or_not"] is None:
            found["real_or_not"] = None  # it is of all actions, and there is nothing to stand beside
        if found["count"]:
            rows[name] = found
    return rows


def cells_of(row: dict[str, Any]) -> list[str]:
    """The numbers of a row, in the order of the table's columns."""
    told = row["real_or_not"]
    told_text = "" if told is None else f"{told['auc']:.2f}"
    if told is not None and told["interval"]:
        told_text += f" [dim]{told['interval'][0]:.2f}-{told['interval'][1]:.2f}[/]"
    return [
        str(row["count"] or ""),
        *("" if row[name] is None else f"{row[name]:.2f}" for name in (*COLUMNS, "diversity", "coverage")),
        told_text,
        f"{100 * row['motion_only']['rate']:.0f} %" if row["count"] else "",
    ]


def print_rows(console: Console, rows: dict[str, dict[str, Any]], title: str) -> None:
    """One line a row."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    for name in ("", "n", *COLUMNS.values(), "seeds", "cover", "real or not\nAUC", "motion\nonly"):
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, row in rows.items():
        table.add_row(escape(name), *cells_of(row))
    console.print(table)


def by_action(summary: dict[str, Any], together: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A row an action; "*" marks those that were split in time, because there are too few recordings."""
    rows = {}
    for action, row in summary["by_action"].items():
        own = together["by_action"].get(action, {})
        auc = (together["real_or_not"] or {}).get("by_action", {}).get(action)
        told = None if auc is None else {"auc": auc, "interval": None}
        star = "*" if row["split"] == "time" else ""
        rows[f"{action}{star} ({row['recordings']})"] = {
            **row, "diversity": own.get("diversity"), "coverage": own.get("coverage"), "real_or_not": told,
            "motion_only": {"rate": row["motion_only"] / row["count"]},
        }  # fmt: skip
    return rows


def print_evaluation(console: Console, result: dict[str, Any]) -> None:
    """The terminal's text: some lines a motion, the table, the verdicts."""
    for row in result["motions"]:
        _print_motion(console, row)
    if not result["summary"]["count"]:
        console.print("no motion's prompt names an action that there is motion capture of: --action=NAME says what"
                      f" they should be ({', '.join(result['reference']['actions'])}).", soft_wrap=True)  # fmt: skip
        return
    _print_columns(console, rows_of(result))
    console.print(LEGEND, style="dim", soft_wrap=True)
    if marked := [a for a, row in result["summary"]["by_action"].items() if row["split"] == "time"]:
        console.print(f"{', '.join(marked)}: fewer than three recordings, so the real windows are the end of one whose"
                      " beginning the prior has seen.", style="dim", soft_wrap=True)  # fmt: skip
    for verdict in result["verdicts"]:
        mark = "[green]yes[/]" if verdict["good"] else "[red]no [/]"
        console.print(f"  {mark} {verdict['measure']}: {verdict['words']}", soft_wrap=True)
    if "prior" in result:
        asked = result["prior"]
        right = sum(a == row["expected"] for a, row in zip(asked["label"], result["motions"], strict=True))
        said = ", ".join(dict.fromkeys(asked["label"]))
        console.print(f"The {asked['name']} prior denoises {right} of {len(asked['label'])} best under their own prompt"
                      f" (it says: {said}).", soft_wrap=True)  # fmt: skip


def _print_columns(console: Console, rows: dict[str, dict[str, Any]]) -> None:
    """The same as `print_rows`, a line a measure: it fits a narrow terminal."""
    table = Table(title="Beside real motion of the same action", title_justify="left", box=None, padding=(0, 1))
    for name in ("", *rows):
        head = re.sub(r",? (?=still|in |release|motions)", lambda gap: gap[0].strip() + "\n", name)
        table.add_column(head, justify="right" if name else "left", no_wrap=True)
    names = ("motions", *(x.replace("-\n", "").replace("\n", " ") for x in COLUMNS.values()), *LAST)
    for name, *cells in zip(names, *(cells_of(row) for row in rows.values()), strict=True):
        if any(cells):
            table.add_row(name, *cells)
    console.print(table)


def _print_motion(console: Console, row: dict[str, Any]) -> None:
    free = row["reference_free"]
    label = row["motion_only"]["label"]
    colour = "" if not row["expected"] else "green" if label == row["expected"] else "red"
    named = f"[{colour}]{escape(label)}[/]" if colour else escape(label)
    expected = escape(row["expected"] or "unknown")
    console.print(f"[bold]{escape(row['name'])}[/]  should be: {expected}; by motion only: {named}", soft_wrap=True)
    skate, depth = free["foot_skate_metres_per_second"], free["ground_penetration_metres"]
    console.print(
        f"  speed {row['speed']:.2f} m/s · jerk {row['jerk']:.0f} m/s³ · joints turn"
        f" {free['range_of_motion_degrees']:.0f}° · tilts {free['tilt_degrees']:.0f}° · limbs overlap"
        f" {1000 * free['self_penetration_metres']:.0f} mm · repeats {free['periodicity']:.2f} · pose"
        f" {free['pose_deviation']:.1f} σ · foot skate {'n/a' if skate is None else f'{skate:.2f} m/s'} · below"
        f" ground {'n/a' if depth is None else f'{1000 * depth:.0f} mm'}",
        soft_wrap=True,
    )


# --- the figure -------------------------------------------------------------------------------------------------


MEASURES = {
    "nn_ratio": "nearest real window", "ankles_fore_aft_ratio": "ankles, fore-aft", "ankles_sideways_ratio":
    "ankles, sideways", "wrists_fore_aft_ratio": "wrists, fore-aft", "wrists_sideways_ratio": "wrists, sideways",
    "lower_foot_speed_ratio": "lower foot", "speed_ratio": "speed", "jerk_ratio": "jerk", "copying":
    "nearest training window",
}  # fmt: skip
LIMITS = (0.1, 8.0)


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw each motion's ratios over the spread of real motion, and what the classifier of motion sees in it.

    Raises:
        UserError: the picture cannot be written.
    """
    rows = result["motions"]
    classes = [*result["reference"]["actions"], "static"]
    width = 6.0 + 0.25 * len(classes)
    figure = Figure(figsize=(width, max(3.6, 1.9 + 0.22 * len(rows))), dpi=130)
    ratios, named = figure.subplots(1, 2, width_ratios=[4.4, 0.3 * len(classes)])
    _draw_ratios(ratios, result)
    shares = np.array([[row["motion_only"]["values"][c] for c in classes] for row in rows])
    named.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    named.set_xticks(range(len(classes)), [c.replace("_", " ") for c in classes], rotation=70, ha="right", fontsize=6)
    named.set_yticks(range(len(rows)), [_short(row) for row in rows], fontsize=6)
    named.yaxis.tick_right()
    named.set_title("by motion alone (framed: as asked)", fontsize=8)
    for r, row in enumerate(rows):
        if row["expected"] in classes:
            named.add_patch(_frame(classes.index(row["expected"]), r))
    figure.tight_layout()
    make_folder(path.parent)
    with io.BytesIO() as picture:  # whole or not at all, and under the very name that was given
        figure.savefig(picture, format=path.suffix[1:].lower())
        write_bytes(path, picture.getvalue())


def _draw_ratios(axis: Axes, result: dict[str, Any]) -> None:
    """A line a measure: grey what nine in ten real windows have, a dot a motion."""
    known = [row for row in result["motions"] if "nn_ratio" in row]
    for y, key in enumerate(MEASURES):
        low, high = _real_spread(result, key)
        axis.plot(np.clip([low, high], *LIMITS), [y, y], color="0.82", linewidth=9, solid_capstyle="butt", zorder=1)
        values = np.clip([row[key] for row in known], *LIMITS)
        shift = np.linspace(-0.18, 0.18, len(values)) if len(values) > 1 else np.zeros(len(values))
        axis.plot(values, y + shift, "o", color="#1d4ed8", markersize=3.5, alpha=0.8, zorder=3)
    axis.axvline(1, color="0.4", linewidth=0.8, zorder=2)
    axis.set_xscale("log")
    axis.set_xlim(*LIMITS)
    axis.set_xticks([0.125, 0.25, 0.5, 1, 2, 4, 8], ["⅛", "¼", "½", "1", "2", "4", "8"])
    axis.minorticks_off()
    axis.set_yticks(range(len(MEASURES)), list(MEASURES.values()), fontsize=7)
    axis.invert_yaxis()
    axis.set_title("over real motion (grey: 5 to 95 % of it)", fontsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def _real_spread(result: dict[str, Any], key: str) -> tuple[float, float]:
    """5 and 95 % of real windows over their median, the median over the actions shown."""
    name = {"nn_ratio": "nn", "copying": "copying"}.get(key, key.removesuffix("_ratio"))
    spreads = [(real["held_out"][name][1], real["held_out"][name][10], real["held_out"][name][-2])
               for real in result["real"].values()]  # fmt: skip
    if not spreads:
        return 1.0, 1.0
    low, middle, high = np.maximum(np.array(spreads), 1e-6).T
    return float(np.median(low / middle)), float(np.median(high / middle))


def _frame(column: int, row: int) -> Rectangle:
    return Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="#c2410c", linewidth=1.4)


def _short(row: dict[str, Any]) -> str:
    text = row.get("prompt") or row["name"]
    return text if len(text) <= 34 else "…" + text[-33:]
