"""Common against rare: is a motion worse because the prior has seldom seen its action?

    python -m tools.prior_data --out DATA
    python -m benchmarks.rare --data DATA --out RUNS --json=benchmarks/results/DATE-cpu-rare.json --figure=docs/rare.png

The paper blames rare training data for its failed motions, which nobody can check on ModelScope. Here it can be:
small priors are trained for the same number of steps on the same clips, drawn with different frequencies, from the same
start (--init: e.g. a prior that has seen all actions equally often, at any phase, from which little can be distilled).
Action i of prior r has the frequency SHARES[(i + r) mod 4]: in priors 0 and 2 every action is met at two frequencies,
one 16 times the other, so what an action is like cancels out; with --priors 0 1 2 3 it is met at all four. Then all
actions are distilled from each prior, from pooled statistics, and judged. Whatever is done already is not done again.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks import motion
from benchmarks.halving import interval
from benchmarks.timing import environment
from md_jax.evaluate.command import MAIN_ACTIONS
from md_jax.options.command import parse_simple, stop, whole_numbers
from md_jax.run.torch_side import run_program

SHARES = (1.0, 1 / 4, 1 / 16, 1 / 64)
CELL = "prior-{}"


def share_of(action: int, prior: int) -> float:
    """The frequency of an action in the training of a prior: a Latin square."""
    return SHARES[(action + prior) % len(SHARES)]


def train(args: SimpleNamespace, prior: int) -> Path:
    """The folder of a prior, trained unless that is done."""
    out = Path(args.out) / CELL.format(prior)
    if not (out / "done").exists():
        known = json.loads((Path(args.data) / "meta.json").read_text(encoding="utf-8"))["actions"]
        often = {action: share_of(i, prior) for i, action in enumerate(MAIN_ACTIONS)}
        share = [f"{action}={often.get(action, 0)}" for action in known]  # the others keep their words alone
        words = ["--data", args.data, "--out", str(out), "--share", ",".join(share)]
        words += ["--steps", str(args.train_steps), "--ema", "0.995", "--seed", "0", "--save_minutes", "1000"]
        subprocess.run([sys.executable, "-m", "tools.train_prior", *words], check=True)
        (out / "done").touch()
    return out / "prior"


def distill(args: SimpleNamespace, folders: list[Path]) -> None:
    """All actions from each prior, from pooled statistics."""
    runs = Path(args.out) / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    named = zip(args.priors, folders, strict=True)
    lines = [f"{CELL.format(prior)} | --action=generic --prior_path={folder} {args.flags}" for prior, folder in named]
    cells = runs / "cells.txt"
    cells.write_text("\n".join(lines) + "\n", encoding="utf-8")
    how = {"cells": str(cells), "out": str(runs), "seeds": args.seeds, "actions": list(MAIN_ACTIONS)}
    motion.run(SimpleNamespace(**how, job=args.job))


def judged(args: SimpleNamespace) -> list[dict[str, Any]]:
    """A row a motion: its action, its frequency in training, and what the classifiers of real motion say."""
    from md_jax.evaluate.yardstick import load_yardstick

    yardstick = load_yardstick()
    rows = []
    for prior in args.priors:
        for file in sorted((Path(args.out) / "runs" / CELL.format(prior)).glob("seed-???.npz")):
            named = zip(MAIN_ACTIONS, MAIN_ACTIONS, motion.motions_of(file), strict=True)
            for i, row in enumerate(motion.judge(yardstick, list(named))["motions"]):
                rows.append(
                    {
                        "action": row["expected"],
                        "share": share_of(i, prior),
                        "seed": file.stem,
                        "own_probability": row["motion_only"]["own"],
                        "right": row["motion_only"]["label"] == row["expected"],
                        "nn_ratio": row["nn_ratio"],
                        "speed_ratio": row["speed_ratio"],
                    }
                )
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a frequency, over actions and seeds, with intervals over the actions' means."""
    table = []
    for share in SHARES:
        own = [row for row in rows if row["share"] == share]
        met = sorted({row["action"] for row in own})
        if not met:
            continue
        means = np.array([np.mean([r["own_probability"] for r in own if r["action"] == a]) for a in met])
        low, high = interval(means)
        table.append(
            {
                "share": share,
                "motions": len(own),
                "own_probability": round(float(means.mean()), 3),
                "interval": [round(low, 3), round(high, 3)],
                "right": round(float(np.mean([row["right"] for row in own])), 3),
                "nn_ratio": round(float(np.median([row["nn_ratio"] for row in own])), 3),
                "speed_ratio": round(float(np.median([row["speed_ratio"] for row in own])), 3),
            }
        )
    return table


def gain(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Own probability where an action was drawn most often less where it was least often, paired by action."""
    differences = []
    for action in MAIN_ACTIONS:
        own = [row for row in rows if row["action"] == action]
        common, rare = (
            np.mean([row["own_probability"] for row in own if row["share"] == pick(r["share"] for r in own)])
            for pick in (max, min)
        )
        differences.append(common - rare)
    low, high = interval(np.array(differences))
    return {
        "by_action": dict(zip(MAIN_ACTIONS, np.round(differences, 3).tolist(), strict=True)),
        "mean": round(float(np.mean(differences)), 3),
        "interval": [round(low, 3), round(high, 3)],
    }


def draw(rows: list[dict[str, Any]], table: list[dict[str, Any]], path: Path) -> None:
    """Own probability against the frequency in training: a thin line an action, the mean with its interval."""
    figure = Figure(figsize=(7.2, 4.2), dpi=130)
    axis = figure.subplots()
    for action in MAIN_ACTIONS:
        own = [row for row in rows if row["action"] == action]
        shares = sorted({row["share"] for row in own})
        line = [np.mean([row["own_probability"] for row in own if row["share"] == share]) for share in shares]
        axis.plot(shares, line, ".-", linewidth=1, alpha=0.55, label=action.replace("_", " "))
    means = np.array([row["own_probability"] for row in table])
    ends = np.array([row["interval"] for row in table])
    spread = [means - ends[:, 0], ends[:, 1] - means]
    style: dict[str, Any] = {"color": "black", "linewidth": 2.5, "capsize": 4, "marker": "o", "label": "all, 95 %"}
    axis.errorbar([row["share"] for row in table], means, yerr=spread, **style)
    axis.set_xscale("log", base=4)
    axis.set_xticks(SHARES, [f"1/{round(1 / s)}" if s < 1 else "1" for s in SHARES])
    axis.set_ylim(-0.02, 1.02)
    axis.set_xlabel("how often the action was drawn in training, beside the most frequent")
    axis.set_ylabel("probability of the own action, motion only")
    axis.legend(fontsize=7, ncol=2, frameon=False)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def main() -> None:
    """Train, distil, judge, tell."""
    args = parse_simple(
        __doc__, "benchmarks.rare",
        data=("", "folder written by tools.prior_data"),
        out=("", "folder of the priors and the runs"),
        priors=(["0", "2"], "numbers of the priors"),
        train_steps=(1000, "of each prior"),
        seeds=(["0", "1"], "of the runs"),
        job=("configs/run.flags", "flag file of the main job"),
        flags=("--reg_weight=0.1", "on top of it; priors trained so briefly pull too weakly for the main job's"
               " smoothness, and everything would stand still"),
        json=("", "also write the result here"),
        figure=("", "also draw it, as a PNG file"),
    )  # fmt: skip
    if not args.data or not args.out:
        stop("--data=FOLDER, written by tools.prior_data, and --out=FOLDER are expected.")
    for name in ("priors", "seeds"):
        vars(args)[name] = whole_numbers(name, vars(args)[name])
    distill(args, [train(args, prior) for prior in args.priors])
    rows = judged(args)
    table = summary(rows)
    settings = {name: vars(args)[name] for name in ("priors", "train_steps", "seeds", "job", "flags")}
    told = {"table": table, "gain": gain(rows), "rows": rows}
    result: dict[str, Any] = {"machine": environment("jax", "torch", "diffusers", "optax"), **settings, **told}
    for row in table:
        low, high = row["interval"]
        print(
            f"seen {row['share']:.3f}: own probability {row['own_probability']:.2f} ({low:.2f}-{high:.2f}),"
            f" right {100 * row['right']:.0f} % by motion, nearest real {row['nn_ratio']:.2f},"
            f" speed {row['speed_ratio']:.2f}, {row['motions']} motions"
        )
    low, high = result["gain"]["interval"]
    print(f"the same action common less rare: {result['gain']['mean']:+.2f} ({low:+.2f} to {high:+.2f})")
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if args.figure:
        draw(rows, table, Path(args.figure))


if __name__ == "__main__":
    run_program(main)
