"""How often is the motion what the prompt asked for? Runs of the whole chain with the embedded prior, judged.

    python -m benchmarks.motion run --cells=benchmarks/motion_cells.txt --seeds=0,1,2 --out=RUNS
    python -m benchmarks.motion report --out=RUNS

A cell is a line "name | flags": flags of the main job on top of configs/run.flags, and words of this script:
@critic=unconditional (guidance 0) or oracle (the prior replaced by true renders of a held-out clip), @start=wrong
(another action's start and range). All actions of a seed run at once. A cell and seed that is done is not run again, so
several processes may share a folder. The pooled start (--action=generic) gives nothing of the action away.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.main_job import config_of
from benchmarks.timing import environment, one_line_errors
from md_jax.config import Config
from md_jax.evaluate.command import MAIN_ACTIONS
from md_jax.options.command import parse_simple, stop, whole_numbers

MEASURES = ("with_pose", "motion_only", "position", "position_motion_only", "velocity")


class Cell(NamedTuple):
    """One row of the table."""

    name: str
    flags: list[str]
    words: dict[str, str]


def read_cells(path: Path) -> list[Cell]:
    """The cells of a file; # starts a comment."""
    cells = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, rest = line.partition("|")
            parts = rest.split()
            words = dict(part[1:].split("=") for part in parts if part.startswith("@"))
            cells.append(Cell(name.strip(), [part for part in parts if not part.startswith("@")], words))
    return cells


def run_cell(cell: Cell, config: Config, actions: tuple[str, ...]) -> tuple[np.ndarray, dict[str, Any]]:
    """Body poses (A, F, 21, 3) of one seed, and what the run cost."""
    import jax

    from md_jax.fit import posefield
    from md_jax.fit.losses import CriticLoss
    from md_jax.fit.problems import PoseProblem, make_fields
    from md_jax.fit.train import init_state, steps
    from md_jax.mocap.statistics import load_statistics
    from md_jax.run.build import make_job
    from md_jax.run.outputs import motion_of

    job = make_job(config)
    problem, params = job.problem, job.params
    op: CriticLoss = job.op
    assert isinstance(problem, PoseProblem)
    if cell.words.get("start") == "wrong":
        shift = 1 + config.seed % (len(actions) - 1)
        wrong = [load_statistics(actions[(a + shift) % len(actions)]) for a in range(len(actions))]
        fields, params = make_fields(config, wrong, problem.fields.frames)
        problem = dataclasses.replace(problem, fields=fields)
    critic = cell.words.get("critic", "prior")
    if critic == "unconditional":
        op = job.control
    if critic == "oracle":
        from benchmarks.oracle import oracle_op

        op = oracle_op(job, actions)
    begun = time.perf_counter()
    *_, (state, report) = steps(config, problem, init_state(config, params), op)
    jax.block_until_ready(report.shown)
    seconds = time.perf_counter() - begun
    poses = posefield.poses(problem.fields, state.params)
    motions = [motion_of(job, poses, m) for m in range(len(actions))]
    parts = {name: round(value / config.steps, 4) for name, value in op.parts.take().items()}
    cost = {"seconds": round(seconds, 1), "seconds_a_step": round(seconds / config.steps, 4), "parts_a_step": parts}
    return np.stack([motion.body_pose for motion in motions]), cost


def run(args: SimpleNamespace) -> None:
    """Every cell and seed that is not there yet."""
    out, actions = Path(args.out), tuple(args.actions)
    out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for cell in read_cells(Path(args.cells)):
            target = out / cell.name.replace(" ", "-").replace("/", "-") / f"seed-{seed:03d}.npz"
            if target.exists():
                continue
            target.parent.mkdir(exist_ok=True)
            prompts = out / f"prompts-{len(actions)}.txt"
            config = config_of(args.job, actions, prompts, [*cell.flags, f"--seed={seed}"])
            poses, cost = run_cell(cell, config, actions)
            meta = {"cell": cell.name, "flags": cell.flags, "words": cell.words, "seed": seed, **cost}
            part = target.with_suffix(".part.npz")
            np.savez(part, body_pose=poses, actions=np.array(actions), meta=json.dumps(meta))
            part.replace(target)
            print(f"{cell.name}, seed {seed}: {cost}", flush=True)


def entries_of(file: Path, actions: Sequence[str]) -> list[Any]:
    """The motions of a run's file, to be judged (`md_jax.evaluate.scores.Entry`)."""
    from md_jax.evaluate import measures, scores

    joints = measures.joints(np.load(file)["body_pose"])
    return [scores.Entry(f"{file.stem}/{a}", joints[i : i + 1], a) for i, a in enumerate(actions)]


def report(args: SimpleNamespace) -> dict[str, Any]:
    """Judge everything in the folder, beside the controls that need no run; a table and a JSON file."""
    from md_jax.evaluate import scores
    from md_jax.evaluate.reference import make_reference

    files: dict[str, list[Path]] = {}
    for file in sorted(Path(args.out).glob("*/seed-*.npz")):
        if not file.name.endswith(".part.npz"):
            files.setdefault(file.parent.name, []).append(file)
    if not files:
        sys.exit(f"{args.out} holds no runs: python -m benchmarks.motion run --out={args.out} makes them.")
    actions = tuple(str(a) for a in np.load(next(iter(files.values()))[0])["actions"])
    reference = make_reference(None, actions, swapped=args.swapped)
    cells = {}
    for group in files.values():
        entries, metas = [], []
        for file in group:
            metas.append(json.loads(str(np.load(file)["meta"])))
            entries += entries_of(file, actions)
        rows = scores.score(reference, entries)
        cells[metas[0]["cell"]] = {
            **scores.summarise(rows),
            "flags": metas[0]["flags"],
            "words": metas[0]["words"],
            "seeds": len(group),
            "seconds_a_run": round(float(np.mean([meta["seconds"] for meta in metas])), 1),
            "right_by_action": {
                a: {by: sum(row[by]["label"] == a for row in rows if row["expected"] == a) for by in MEASURES}
                for a in actions
            },
            "mistaken_for": {a: [row["motion_only"]["label"] for row in rows if row["expected"] == a] for a in actions},
        }
    result = {
        "machine": environment("jax", "torch", "diffusers", "optax"),
        "actions": list(actions),
        "flagfile": args.job,
        "split": reference.split,
        "swapped": args.swapped,
        "cells": cells,
        "controls": scores.baselines(reference),
    }
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_report(result)
    return result


def print_report(result: dict[str, Any]) -> None:
    """One line a cell, then one line an action of the first cell."""
    console = Console(width=150, highlight=False)
    table = Table(box=None, padding=(0, 1))
    for name in ("", "runs", "classifier", "motion\nonly", "own p", "nearest\npose", "nearest\nmotion", "velocity",
                 "static", "speed", "by action", "jerk"):  # fmt: skip
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for name, cell in {**result["cells"], **result["controls"]}.items():
        spread = list(cell.get("speed_ratio_by_action", {}).values())
        table.add_row(
            name, str(cell["count"] or ""), _rate(cell["with_pose"]), _rate(cell["motion_only"]),
            *("" if cell.get(key) is None else f"{cell[key]:.2f}" for key in ("motion_only_own_probability",)),
            *(_rate(cell[by]) for by in MEASURES[2:]), str(cell.get("static", "")),
            *("" if cell.get("speed_ratio") is None else f"{cell['speed_ratio']:.2f}" for _ in range(1)),
            f"{min(spread):.2f}-{max(spread):.2f}" if spread else "",
            "" if cell.get("jerk_ratio") is None else f"{cell['jerk_ratio']:.2f}",
        )  # fmt: skip
    console.print(table)
    for name, cell in result["cells"].items():
        lines = [
            f"{a} {n['with_pose']}/{n['motion_only']} x{cell['speed_ratio_by_action'][a]:.2f}"
            for a, n in cell["right_by_action"].items()
        ]
        console.print(f"[bold]{name}[/] (of {cell['seeds']}: classifier/motion only, speed): {', '.join(lines)}")


def _rate(cell: dict[str, Any]) -> str:
    interval = "".join(f" {round(100 * low)}-{round(100 * high)}" for low, high in [cell.get("interval", (None,) * 2)]
                       if low is not None)  # fmt: skip
    return f"{100 * cell['rate']:.0f}{interval}"


def main() -> None:
    """Parse and do."""
    args = parse_simple(
        __doc__, "benchmarks.motion", rest="what",
        out=("", "folder of the runs"),
        cells=("benchmarks/motion_cells.txt", "what is compared, one cell a line"),
        job=("configs/run.flags", "flag file of the main job"),
        seeds=([str(seed) for seed in range(10)], "seeds of everything random"),
        actions=(list(MAIN_ACTIONS), "what the motions show"),
        swapped=(False, "report: the classifiers learn from the held-out clips alone, which the prior has never seen,"
                 " and are judged on the others"),
        json=("", "report: also written here"),
    )  # fmt: skip
    if args.what not in (["run"], ["report"]) or not args.out:
        stop("run or report, and --out=FOLDER, are expected: python -m benchmarks.motion run --out=FOLDER")
    args.seeds = whole_numbers("seeds", args.seeds)
    with one_line_errors():
        {"run": run, "report": report}[args.what[0]](args)


if __name__ == "__main__":
    main()
