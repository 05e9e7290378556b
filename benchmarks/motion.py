"""How real is the motion? Runs of the whole chain with the embedded prior, judged on motion that no prior has seen.

    python -m benchmarks.motion run --cells=benchmarks/motion_cells.txt --seeds=0,1,2,3,4 --out=RUNS
    python -m benchmarks.motion report --out=RUNS --json=FILE.json --markdown

A cell is a line "name | flags": flags of the main job on top of configs/run.flags, and words of this script:
@critic=unconditional (guidance 0) or oracle (the prior replaced by true renders of a held-out clip), @start=wrong
(another action's start and range). All actions of a seed run at once. A cell and seed that is done is not run again, so
several processes may share a folder. The pooled start (--action=generic) gives nothing of the action away.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from rich.console import Console

from benchmarks import timing
from benchmarks.main_job import config_of
from md_jax.config import Config
from md_jax.evaluate.command import MAIN_ACTIONS
from md_jax.mocap.motion import Motion
from md_jax.options.command import parse_simple, stop, whole_numbers
from md_jax.run.torch_side import run_program

if TYPE_CHECKING:
    from md_jax.evaluate.reference import Root
    from md_jax.evaluate.yardstick import Yardstick


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


def run_cell(cell: Cell, config: Config, actions: tuple[str, ...]) -> tuple[list[Motion], dict[str, Any]]:
    """The motions of one seed, and what the run cost."""
    import jax

    from md_jax.fit import posefield
    from md_jax.fit.problems import CriticLoss, PoseProblem, make_fields
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
    return motions, cost


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
            motions, cost = run_cell(cell, config, actions)
            meta = {"cell": cell.name, "flags": cell.flags, "words": cell.words, "seed": seed, **cost}
            part = target.with_suffix(".part.npz")
            poses: dict[str, Any] = {
                "body_pose": np.stack([motion.body_pose for motion in motions]),
                "root_orient": np.stack([motion.root_orient for motion in motions]),
            }
            np.savez(part, **poses, fps=motions[0].fps, actions=np.array(actions), meta=json.dumps(meta))
            part.replace(target)
            print(f"{cell.name}, seed {seed}: {cost}", flush=True)


def motions_of(file: Path) -> list[Motion]:
    """The motions of a run's file."""
    data = np.load(file)
    poses = data["body_pose"]
    roots = data["root_orient"] if "root_orient" in data else np.zeros((*poses.shape[:2], 3))
    fps = float(data["fps"]) if "fps" in data else 10.0
    return [Motion(pose, root, np.zeros_like(root), fps) for pose, root in zip(poses, roots, strict=True)]


def judge(yardstick: Yardstick, named: Sequence[tuple[str, str, Motion]]) -> dict[str, Any]:
    """What `md_jax.evaluate` says of motions, each with a name and the action that it should show."""
    from md_jax.evaluate import scores
    from md_jax.evaluate.reference import turns, windows_of

    cut: dict[str, Any] = {"frames": yardstick.frames, "fps": yardstick.fps}
    root: Root = "turning" if any(turns(motion) for _, _, motion in named) else "fixed"
    entries = [scores.Entry(name, windows_of(motion, **cut, root=root), action) for name, action, motion in named]
    limbs = [windows_of(motion, **cut) for _, _, motion in named] if root == "turning" else None
    rows = scores.score(yardstick, entries, root, limbs)
    summary, together = scores.summarise(rows), scores.compare(yardstick, entries, root)
    verdicts = [v._asdict() for v in scores.verdicts(yardstick, summary, together, root)]
    return {**summary, "root": root, "together": together, "verdicts": verdicts, "motions": rows}


def report(args: SimpleNamespace) -> dict[str, Any]:
    """Judge everything in the folder, beside the controls that need no run; a table and a JSON file."""
    from md_jax.evaluate.scores import controls_for
    from md_jax.evaluate.yardstick import load_yardstick

    files: dict[str, list[Path]] = {}
    for file in sorted(Path(args.out).glob("*/seed-*.npz")):
        if not file.name.endswith(".part.npz"):
            files.setdefault(file.parent.name, []).append(file)
    if not files:
        sys.exit(f"{args.out} holds no runs: python -m benchmarks.motion run --out={args.out} makes them.")
    yardstick = load_yardstick()
    cells: dict[str, dict[str, Any]] = {}
    for group in files.values():
        metas = [json.loads(str(np.load(file)["meta"])) for file in group]
        named = [
            (f"{file.stem}/{action}", str(action), motion)
            for file in group
            for action, motion in zip(np.load(file)["actions"], motions_of(file), strict=True)
        ]
        if not cells and args.motions:
            save_motions(Path(args.motions), group)
        cells[metas[0]["cell"]] = {
            **judge(yardstick, named),
            "flags": metas[0]["flags"],
            "words": metas[0]["words"],
            "seeds": len({meta["seed"] for meta in metas}),
            "seconds_a_run": round(float(np.mean([meta["seconds"] for meta in metas])), 1),
        }
    first = next(iter(cells.values()))
    result = {
        "machine": timing.environment("jax", "torch", "diffusers", "optax"),
        "clips": yardstick.digests,
        "actions": list(first["by_action"]),
        "flagfile": args.job,
        "real": {action: vars(yardstick.norms[first["root"], action]) for action in first["by_action"]},
        "real_motion_only": {action: round(yardstick.real[action], 3) for action in first["by_action"]},
        "cells": cells,
        "controls": controls_for(yardstick, first["root"]),
    }
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print_report(result, markdown=args.markdown)
    return result


def save_motions(path: Path, files: Sequence[Path]) -> None:
    """The motions of a cell in one small file, for tools.build_yardstick to keep as the previous release."""
    parts = [np.load(file) for file in files]
    np.savez_compressed(
        path,
        body_pose=np.concatenate([part["body_pose"] for part in parts]).astype(np.float16),
        action=np.concatenate([part["actions"] for part in parts]),
        seed=np.concatenate([[json.loads(str(part["meta"]))["seed"]] * len(part["actions"]) for part in parts]),
    )


def table_of(result: dict[str, Any]) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """Rows a cell and a control, and rows an action of the first cell."""
    from md_jax.evaluate.report import by_action, only

    first = next(iter(result["cells"].values()))
    everything = {**result["cells"], **result["controls"]}
    rows = {name: only(cell, result["actions"]) for name, cell in everything.items()}
    return {name: row for name, row in rows.items() if row["count"]}, by_action(first, first["together"])


def print_report(result: dict[str, Any], *, markdown: bool = False) -> None:
    """One line a cell and control, one an action of the first cell, and that cell's verdicts; or Markdown."""
    from md_jax.evaluate.report import COLUMNS, LEGEND, cells_of, print_rows

    console = Console(width=170, highlight=False)
    tables = table_of(result)
    for rows in tables:
        if markdown:
            names = ["", "n", *COLUMNS.values(), "seeds", "cover", "real or not", "motion only"]
            print("| " + " | ".join(name.replace("-\n", "").replace("\n", " ") for name in names) + " |")
            print("|" + "---|" * len(names))
            for name, row in rows.items():
                cells = [re.sub(r" \[dim\](.*)\[/\]", r" (\1)", cell) for cell in cells_of(row)]
                print(f"| {name} | " + " | ".join(cells) + " |")
            print()
        else:
            print_rows(console, rows, "")
    console.print(LEGEND, style="dim", soft_wrap=True)
    for verdict in next(iter(result["cells"].values()))["verdicts"]:
        console.print(f"{'yes' if verdict['good'] else 'no '} {verdict['measure']}: {verdict['words']}", soft_wrap=True)


def main() -> None:
    """Parse and do."""
    args = parse_simple(
        __doc__, "benchmarks.motion", rest="what",
        out=("", "folder of the runs"),
        cells=("benchmarks/motion_cells.txt", "what is compared, one cell a line"),
        job=("configs/run.flags", "flag file of the main job"),
        seeds=([str(seed) for seed in range(5)], "seeds of everything random"),
        actions=(list(MAIN_ACTIONS), "what the motions show"),
        json=("", "report: also written here"),
        motions=("", "report: the first cell's motions go into this .npz file, too"),
        markdown=(False, "report: print tables as Markdown"),
    )  # fmt: skip
    if args.what not in (["run"], ["report"]) or not args.out:
        stop("run or report, and --out=FOLDER, are expected: python -m benchmarks.motion run --out=FOLDER")
    args.seeds = whole_numbers("seeds", args.seeds)
    {"run": run, "report": report}[args.what[0]](args)


if __name__ == "__main__":
    run_program(main)
