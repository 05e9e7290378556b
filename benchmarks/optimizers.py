"""Which optimiser makes the best motions? python -m benchmarks.optimizers [--quick] [--minutes=110] [--optimizers=A,B].

Candidates (optimiser, learning rate, schedule) run the main job with the embedded prior, several actions and seeds at
once, and are judged by what a classifier of real motion says, never by the loss: the mean probability of the motion's
own action, its mean pose removed. Successive halving: all briefly, the better ones for longer, a few in full; each
rung has seeds of its own, so that who was lucky in one starts anew in the next. The plan follows from a measured step.
What is finished lies in --out and is not run again. Arguments not named here are flags of the main job.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from jaxtyping import Float

from benchmarks import timing
from benchmarks.halving import LATEST, Cost, Rung, make_plan, promote
from benchmarks.main_job import config_of
from benchmarks.optimizers_grid import OPTIMIZERS, Candidate, candidates_of
from benchmarks.optimizers_report import print_report, summary
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.evaluate.command import MAIN_ACTIONS
from md_jax.options.command import numbers, parse_simple
from md_jax.options.flags import to_flagfile
from md_jax.outside.environment import keep_compiled
from md_jax.run.torch_side import run_program

if TYPE_CHECKING:
    from md_jax.evaluate.yardstick import Yardstick

PLANNED = 0.95  # of the time: judging takes some, and the machine may slow down


class Files(NamedTuple):
    """Where things lie in --out."""

    folder: Path

    def cell(self, rung: int, candidate: Candidate) -> Path:
        return self.folder / f"rung-{rung}" / f"{candidate.name}.npz"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.json"

    @property
    def prompts(self) -> Path:
        return self.folder / "prompts.txt"


# --- running ----------------------------------------------------------------------------------------------------


def run_cell(config: Config, job: Any) -> tuple[Float[np.ndarray, "M F 21 3"], dict[str, Any]]:
    """Body poses of every motion of one candidate, and what it cost."""
    import jax

    from md_jax.fit import posefield
    from md_jax.fit.optimizers import final_params
    from md_jax.fit.train import init_state, steps
    from md_jax.run.outputs import motion_of

    begun = time.perf_counter()
    marks = []
    for state, report in steps(config, job.problem, init_state(config, job.params), job.op):  # noqa: B007 (the last)
        jax.block_until_ready(state.params)
        marks.append(time.perf_counter())
    poses = posefield.poses(job.problem.fields, final_params(state.opt_state, state.params))
    motions = np.stack([motion_of(job, poses, m).body_pose for m in range(len(job.prompts))])
    jax.clear_caches()  # a hundred candidates' programs would not fit
    a_step = float(np.median(np.diff(marks))) if len(marks) > 1 else marks[0] - begun
    return motions, {
        "seconds": round(time.perf_counter() - begun, 2),
        "seconds_a_step": round(a_step, 4),
        "skipped_steps": int(np.sum(state.skipped)),
        "loss": np.asarray(report.terms["loss"]).astype(float).round(4).tolist(),
    }


def measure(config: Config, actions: int) -> Cost:
    """What a step costs here, from a few steps of A and of 2 A motions."""
    from md_jax.run.build import make_job

    costs = []
    for copies in (1, 2):
        few = dataclasses.replace(config, num_motions=copies, steps=5)
        costs.append(run_cell(few, make_job(few))[1])
    one, two = (cost["seconds_a_step"] for cost in costs)
    each = max(two - one, 0.1 * one) / actions
    return Cost(
        max(one - each * actions, 0.0), each, max(cost["seconds"] - 5 * cost["seconds_a_step"] for cost in costs)
    )


def run_rung(
    config: Config, rung: Rung, number: int, candidates: Sequence[Candidate], files: Files, deadline: float
) -> None:
    """Every candidate of the rung that is not there yet, as long as there is time."""
    from md_jax.run.build import make_job

    config = dataclasses.replace(config, steps=rung.steps, num_motions=rung.copies, seed=config.seed + number)
    missing = [candidate for candidate in candidates if not files.cell(number, candidate).exists()]
    if not missing:
        return
    files.cell(number, missing[0]).parent.mkdir(exist_ok=True)
    job = make_job(config)
    for place, candidate in enumerate(missing):
        if time.monotonic() + rung.seconds > deadline:
            print(f"out of time: {len(missing) - place} candidates of rung {number} are not run", flush=True)
            return
        own = dataclasses.replace(
            config,
            optimizer=candidate.optimizer,
            learning_rate=candidate.learning_rate,
            schedule=candidate.schedule,  # type: ignore[arg-type]
        )
        try:
            poses, cost = run_cell(own, job)
        except Exception as error:  # one candidate that cannot run should not end the others
            poses, cost = np.full((len(job.prompts), 1, 21, 3), np.nan), {"failed": f"{type(error).__name__}: {error}"}
        target = files.cell(number, candidate)
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            np.savez(file, body_pose=poses, meta=json.dumps({**candidate._asdict(), "rung": number, **cost}))
        part.replace(target)
        told = cost.get("failed") or f"{cost['seconds']:.0f} s"
        print(f"rung {number}, {place + 1} of {len(missing)}: {candidate.name}, {told}", flush=True)


def judge_rung(
    yardstick: Yardstick, number: int, candidates: Sequence[Candidate], files: Files, actions: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """What was found of each candidate of a rung that ran: own probability of each motion, summary and cost."""
    from md_jax.evaluate import scores
    from md_jax.evaluate.reference import joint_windows

    found = {}
    for candidate in candidates:
        if not files.cell(number, candidate).exists():
            continue
        data = np.load(files.cell(number, candidate))
        meta, poses = json.loads(str(data["meta"])), data["body_pose"]
        copies = len(poses) // len(actions)
        shown = [actions[m // copies] for m in range(len(poses))]
        if not np.isfinite(poses).all():
            meta.setdefault("failed", "poses that are not finite")
            found[candidate.name] = {**meta, "own": [float("nan")] * len(poses)}
            continue
        joints = joint_windows(poses)
        entries = [scores.Entry(f"{candidate.name}/{m}", joints[m : m + 1], a) for m, a in enumerate(shown)]
        rows = scores.score(yardstick, entries)
        known = scores.summarise(rows)
        kept = {key: known[key] for key in ("motion_only", "static", "nn_ratio", "speed_ratio", "jerk_ratio")}
        found[candidate.name] = {**meta, **kept, "own": [row["motion_only"]["own"] for row in rows]}
    if found and all("failed" in cell for cell in found.values()):
        sys.exit(f"every candidate failed; the first: {next(iter(found.values()))['failed']}")
    return found


# --- the whole ----------------------------------------------------------------------------------------------------


def plan_of(
    args: SimpleNamespace, config: Config, everyone: Sequence[Candidate], files: Files, begun: float
) -> list[Rung]:
    """The plan recorded in the folder, or a new one, recorded."""
    count = len(everyone)
    names = sorted(c.name for c in everyone)
    made_for = [names, args.actions, to_flagfile(config), args.minutes, args.quick]
    if files.plan.exists():
        recorded = json.loads(files.plan.read_text())
        if recorded["made_for"] != made_for:
            sys.exit(f"{files.plan} was made for other candidates, flags or times: name another folder with --out.")
        return [Rung(**rung) for rung in recorded["rungs"]]
    if args.quick:
        rungs = [Rung(count, count, 2, 1, 0.0), Rung(2, 2, 3, 1, 0.0), Rung(2, 1, 4, 2, 0.0)]
    else:
        cost = measure(config, len(args.actions))
        print(f"a step of {len(args.actions)} motions takes {cost.fixed + cost.each * len(args.actions):.2f} s,"
              f" a candidate {cost.start:.0f} s to start", flush=True)  # fmt: skip
        try:
            left = 60 * args.minutes - (time.monotonic() - begun)
            rungs = make_plan(cost, count, len(args.actions), config.steps, PLANNED * left)
        except ValueError as error:
            sys.exit(str(error))
    files.plan.write_text(json.dumps({"made_for": made_for, "rungs": [dataclasses.asdict(r) for r in rungs]}))
    return rungs


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Plan, run, judge and tell."""
    args = parse_simple(
        __doc__, "benchmarks.optimizers", argv, rest="job_flags", pass_on=True,
        quick=(False, "does it run? 2 optimisers, 2 actions, a few steps"),
        minutes=(110.0, "for everything"),
        optimizers=([], "names in md_jax/fit/optimizers.py, or 'all'"),
        rates=([], "learning rates; default: each one's own"),
        rates_each=(("3", "1", "2"), "how many of each one's own rates"),
        schedules=([], "constant, cosine, linear"),
        actions=(list(MAIN_ACTIONS), "what the motions show"),
        job=("configs/run.flags", "flag file of the main job"),
        out=("runs/optimizers", "folder of the finished candidates"),
        json=("", "also write the result here"),
        figure=("", "also draw it, as a PNG file"),
    )  # fmt: skip
    rest, args.rates_each, args.rates = args.job_flags, int(args.rates_each), numbers("rates", args.rates)
    if wrong := set(args.schedules) - {"constant", "cosine", "linear"}:
        raise UserError(f"--schedules takes constant, cosine and linear, got {', '.join(sorted(wrong))}.")
    begun, args.actions = time.monotonic(), list(dict.fromkeys(args.actions))
    if args.quick:
        args.optimizers, args.rates = args.optimizers or ["adam", "sgd"], args.rates or [0.01, 0.1]
        args.schedules, args.actions = args.schedules or ["constant"], args.actions[:2]
        rest = [*rest, "--views=1"]
    from md_jax.evaluate.yardstick import load_yardstick
    from md_jax.fit.optimizers import OPTIMIZERS as ALL
    from md_jax.fit.optimizers import make_optimizer

    names = list(ALL) if args.optimizers == ["all"] else args.optimizers or OPTIMIZERS
    files = Files(Path(args.out))
    if min(args.rates, default=1.0) <= 0:
        raise UserError(f"--rates must be positive, got {min(args.rates):g}.")
    config = config_of(args.job, args.actions, files.prompts, rest)
    baseline = Candidate(config.optimizer, config.learning_rate, config.schedule)
    everyone = list(dict.fromkeys([*candidates_of(names, args.rates, args.schedules, args.rates_each), baseline]))
    for candidate in everyone:  # a wrong name should not wait for its turn
        make_optimizer(candidate.optimizer, candidate.learning_rate, steps=1, schedule=candidate.schedule)
    keep_compiled()  # all candidates of a rung have the forward pass in common
    environment = timing.environment("jax", "torch", "optax", "diffusers")
    yardstick = load_yardstick()
    rungs = plan_of(args, config, everyone, files, begun)
    for number, rung in enumerate(rungs):
        minutes = rung.candidates * rung.seconds / 60
        print(f"rung {number}: {rung.candidates} candidates, {rung.steps} steps, {rung.copies} motions of each of"
              f" {len(args.actions)} actions, about {minutes:.0f} minutes", flush=True)  # fmt: skip
    by_name, running = {c.name: c for c in everyone}, everyone
    found: list[dict[str, dict[str, Any]]] = []
    for number, rung in enumerate(rungs):
        if number:
            scores = {name: np.array(cell["own"]) for name, cell in found[-1].items()}
            kept = promote(scores, rung.candidates, rung.most_each, lambda n: by_name[n].optimizer, baseline.name)
            running = [by_name[name] for name in kept]
        run_rung(config, rung, number, running, files, begun + 60 * args.minutes * LATEST[number])
        found.append(judge_rung(yardstick, number, running, files, args.actions))
        if not found[-1]:
            found.pop()
            break
    result = {
        "machine": environment,
        "flagfile": args.job,
        "flags": rest,
        "actions": list(args.actions),
        # of all candidates, those of earlier calls included
        "minutes": round(sum(cell.get("seconds", 0.0) for cells in found for cell in cells.values()) / 60, 1),
        "baseline": baseline.name,
        **summary(rungs, found),
        "controls": {name: row.get("motion_only_own_probability") for name, row in yardstick.controls.items()},
    }
    if args.json:
        timing.write_json(args.json, result)
    print_report(result)
    if args.figure:
        logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it announces the fonts that it finds
        from benchmarks.optimizers_figure import draw

        draw(result, Path(args.figure))
    return result


def program() -> None:
    """`main` as the command line runs it: what it returns is no exit code."""
    main()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in md_jax.main; torch reads it when it is first imported
    run_program(program, "stopped; the same command goes on")
