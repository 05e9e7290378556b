"""What a study found: study.json, the table, and the figure, from every finished cell in its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from md_jax.errors import UserError
from md_jax.files import read_json
from md_jax.run.workdir import write_json

LATENT = "latent"


def read_records(folder: Path) -> list[dict[str, Any]]:
    """The record of every cell, sorted by prompt, prior, mode (latent last) and seed; each with its own "folder"."""
    records = []
    for file in sorted((folder / "cells").glob("*.json")):
        record = read_json(file)
        check_record(file, record)
        records.append({**record, "folder": str(file.with_suffix("").relative_to(folder))})
    keys = ("prompt", "prior", "prior_path")
    return sorted(records, key=lambda r: (*(r[key] for key in keys), r["mode"] == LATENT, r["seed"]))


def check_record(file: Path, record: Any) -> None:
    """Refuse a cell's record that is not as `md_jax.study.cells.run_cell` writes it.

    Raises:
        UserError: something is missing, or of another kind.
    """
    kinds = {"prompt": str, "prior": str, "prior_path": str, "mode": str, "seed": int, "state": str, "seconds": float}
    found = record if isinstance(record, dict) else {}
    for key, kind in kinds.items():
        value = found.get(key)
        if not isinstance(value, int | float if kind is float else kind):
            raise UserError(
                f"{file} is no record of a cell: expected {key} as {kind.__name__}, found {str(value)[:60]!r}; remove"
                " it, and its cell is made again."
            )


def judge_motions(folder: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    """The evaluation (`md_jax.evaluate`) of all finished cells that move a body; "motions" go by the cell's folder."""
    from md_jax.evaluate.command import evaluate

    found = [r for r in records if r["state"] == "done" and r["mode"] != LATENT]
    if not found:
        return {"motions": {}}
    result = evaluate([str(folder / r["folder"] / "motion.npz") for r in found], prior="none")
    rows = {r["folder"]: row for r, row in zip(found, result["motions"], strict=True)}
    return {"reference": result["reference"], "motions": rows, "controls": result["controls"]}


def group(folder: Path, records: list[dict[str, Any]], motions: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each prompt, prior and mode, over its seeds.

    Args:
        folder: the study's.
        records: see `read_records`.
        motions: rows of the evaluation by the cell's folder.
    """
    from md_jax.evaluate.scores import summarise

    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(tuple(record[k] for k in ("prompt", "prior", "prior_path", "mode")), []).append(record)
    rows = []
    for (prompt, prior, path, mode), members in groups.items():
        done = [r for r in members if r["state"] == "done"]
        row: dict[str, Any] = {"prompt": prompt, "prior": prior, "prior_path": path, "mode": mode, "done": len(done),
                               "failed": len(members) - len(done)}  # fmt: skip
        judged = [motions[r["folder"]] for r in done if r["folder"] in motions]
        if judged:
            row["evaluation"] = summarise(judged)
        changes = [_summary(folder, r).get("frame_change") for r in done]
        known = [change for change in changes if change is not None]
        if known:
            row["frame_change"] = round(sum(known) / len(known), 5)
        if done:
            row["seconds"] = round(sum(r["seconds"] for r in done) / len(done), 1)
        rows.append(row)
    return rows


def report(folder: Path, console: Console, *, judge: bool = True) -> None:
    """Write study.json and study.png of the whole folder, print the table.

    Raises:
        UserError: a file cannot be read or written.
    """
    from md_jax.study.figure import draw

    records = read_records(folder)
    done = [r for r in records if r["state"] == "done"]
    evaluation: dict[str, Any] = {"motions": {}}
    if judge:
        try:
            evaluation = judge_motions(folder, records)
        except (
            UserError
        ) as error:  # clips shorter than the reference's windows, say; the figure can be drawn all the same
            console.print(f"not evaluated: {error}", markup=False, soft_wrap=True, style="yellow")
    groups = group(folder, records, evaluation["motions"])
    write_json(folder / "study.json", {"groups": groups, "cells": records, "evaluation": evaluation})
    print_table(console, groups, evaluation.get("controls", {}))
    wrote = [folder / "study.json"]
    if done:
        wrote.append(folder / "study.png")
        draw(folder, done, wrote[-1])
    console.print(f"wrote {' and '.join(str(path) for path in wrote)}", markup=False, soft_wrap=True)


def print_table(console: Console, groups: list[dict[str, Any]], controls: dict[str, dict[str, Any]]) -> None:
    """One line a prompt, prior and mode, then what real motion and the controls reach."""
    table = Table(box=None, padding=(0, 1))
    names = ("prompt", "prior", "mode", "cells", "own p", "motion\nonly", "nearest\nreal", "speed", "jerk", "change")
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place < 3 else "right", no_wrap=place > 0)
    for row in groups:
        cells = f"{row['done']}" + (f" ({row['failed']} failed)" if row["failed"] else "")
        change = f"{row['frame_change']:.3f}" if "frame_change" in row else ""
        table.add_row(
            escape(row["prompt"]), row["prior"], row["mode"], cells, *_numbers(row.get("evaluation", {})), change
        )
    for name, numbers in controls.items():
        table.add_row(f"[dim]{name}[/]", "", "", str(numbers["count"] or ""), *_numbers(numbers), "")
    console.print(table)
    console.print(
        "own p: probability of the prompt's action, from the motion alone; nearest real: distance to the nearest real"
        " window over that of other real motion; speed and jerk over real motion; change: root mean square between"
        " frames of a video",
        style="dim",
        soft_wrap=True,
    )


def _numbers(numbers: dict[str, Any]) -> list[str]:
    if not numbers or not numbers["count"]:  # motions whose prompts name no action
        return [""] * 5

    def rate(name: str) -> str:
        return f"{100 * numbers[name]['rate']:.0f} %"

    own = numbers.get("motion_only_own_probability")
    ratios = [numbers.get(f"{name}_ratio") for name in ("nn", "speed", "jerk")]
    return [
        "" if own is None else f"{own:.2f}",
        rate("motion_only"),
        *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    ]


def _summary(folder: Path, record: dict[str, Any]) -> dict[str, Any]:
    path = folder / record["folder"] / "summary.json"
    summary = read_json(path)
    if not isinstance(summary, dict):
        raise UserError(f"{path} must hold a JSON object, found a {type(summary).__name__}: remove {path.parent} and"
                        " start the study again.")  # fmt: skip
    return summary
