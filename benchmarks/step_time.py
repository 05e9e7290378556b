"""A training step by JAX and by PyTorch: python -m benchmarks.step_time [--quick] [--prior embedded].

Arms take turns in fresh processes (`benchmarks.step_worker`), each with its own warm-up; what the rounds measured is
pooled. Three headlines (`benchmarks.arms`): the step without prior and renderer, the step without the prior, and the
full step. The first step, compilation included, is told apart. Parts come from further steps with waits between them.
Peak memory is what the process, and on CUDA each framework's allocator, took at most after the setup.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import chart, timing
from benchmarks.step_worker import Task, cores, run
from bridge.configure import cuda_problem
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program

HEADLINES = {
    "kernel": "step without prior and renderer",
    "null": "step without the prior",
    "full": "full step",
}
ARMS = (
    "torch smplx foreach", "torch smplx fused", "torch smplx compiled", "torch ours foreach", "torch ours fused",
    "torch ours compiled", "torch ours coarse", "jax staged", "jax jit",
)  # fmt: skip
BASE, TWIN, COARSE = "torch smplx foreach", "torch ours foreach", "torch ours coarse"  # with our coarser mesh
QUICK = (BASE, TWIN, COARSE, "jax staged", "jax jit")  # torch.compile takes longer than all else
PARTS = ("pose + LBS", "render", "encode", "UNet", "optimiser", "bridge", "rest")
FLAGFILES = {"embedded": "configs/run.flags", "random-modelscope": "configs/modelscope.flags"}

Results = dict[str, dict[str, dict[str, Any]]]  # case -> arm -> summary


def main() -> None:
    args = parse_simple(
        __doc__, "benchmarks.step_time",
        quick=(False, f"is it working? few steps, once, of {', '.join(QUICK)}"),
        prior=(tuple(FLAGFILES), "of the full step; sets the clip's size"),
        cases=(",".join(HEADLINES), "which headlines, separated by commas"),
        arms=("", "which arms, separated by commas; default: all"),
        rounds=(2, "fresh processes of each arm"),
        steps=(100, "timed steps of each arm, over all rounds"),
        warmup=(20, "untimed steps in each process"),
        threads=(0, "CPU cores; 0 = all"),
        device=(("auto", "cpu", "cuda"), "where both frameworks run"),
        json=("", "also write the figures here"),
        chart=("", "also draw them, as a PNG file"),
    )  # fmt: skip
    cases = args.cases.split(",")
    arms = args.arms.split(",") if args.arms else list(QUICK if args.quick else ARMS)
    unknown = {*cases} - {*HEADLINES} | {*arms} - {*ARMS}
    if unknown:
        stop(f"unknown: {', '.join(sorted(unknown))}; cases {', '.join(HEADLINES)}; arms {', '.join(ARMS)}")
    if args.prior != "embedded" and (problem := cuda_problem()):
        stop(f"--prior={args.prior} is timed on a GPU alone (a step takes minutes on a CPU): {problem}")
    rounds, steps, warmup = (1, 3, 2) if args.quick else (args.rounds, args.steps, args.warmup)
    options = (("prior", args.prior), ("device", args.device))

    def task(case: str, arm: str) -> Task:
        return Task(
            arm, case, FLAGFILES[args.prior], options, warmup, math.ceil(steps / rounds), math.ceil(steps / 5 / rounds),
            args.threads,
        )  # fmt: skip

    environment = timing.environment("jax", "jaxlib", "torch", "optax", "smplx", "warp-lang", "diffusers", "numpy")
    results = measure([(case, arm) for case in cases for arm in arms], task, rounds)
    print(report(results, judged=not args.quick))
    threads = args.threads or cores()
    words = f"prior {args.prior}; {steps} steps timed in {rounds} fresh process{'es' * (rounds > 1)} an arm, each after"
    words += f" {warmup} of warm-up; {threads} core{'s' * (threads > 1)}"
    words = "; ".join([words, *(f"{name} {value}" for name, value in environment.items())])
    print("\n" + words)
    if args.json:
        settings = {"prior": args.prior, "rounds": rounds, "steps": steps, "warmup": warmup, "threads": threads}
        timing.write_json(args.json, {"environment": environment, "settings": settings, "results": results})
    if args.chart:
        draw(Path(args.chart), results, words)
    if any("failed" in row for rows in results.values() for row in rows.values()):
        sys.exit(1)


def measure(
    pairs: Sequence[tuple[str, str]],
    task: Callable[[str, str], Task],
    rounds: int,
    run_task: Callable[[Task], dict[str, Any]] = run,
) -> Results:
    """Summaries of all (case, arm), the arms taking turns; one that fails once is left out of later rounds.

    Ctrl-C ends the measuring and keeps what there is.
    """
    outcomes: dict[tuple[str, str], list[dict[str, Any]]] = {pair: [] for pair in pairs}
    with contextlib.suppress(KeyboardInterrupt):
        for number in range(rounds):
            for case, arm in pairs:
                seen = outcomes[case, arm]
                if any("failed" in outcome for outcome in seen):
                    continue
                seen.append(run_task(task(case, arm)))
                told = seen[-1].get("failed") or timing.milliseconds(statistics.median(seen[-1]["times"])) + " ms"
                print(f"round {number + 1}: {HEADLINES[case]}, {arm}: {told}", flush=True)
    results: Results = {case: {} for case, _ in pairs}
    for (case, arm), seen in outcomes.items():
        if seen:
            results[case][arm] = summarise(seen)
    return results


def summarise(outcomes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the rounds of one arm measured, pooled: seconds and bytes."""
    failed = [outcome["failed"] for outcome in outcomes if "failed" in outcome]
    if failed:
        return {"failed": failed[0]}
    times = sorted(time for outcome in outcomes for time in outcome["times"])
    first = outcomes[0]
    return {
        "median": statistics.median(times),
        "p10": percentile(times, 0.1),
        "p90": percentile(times, 0.9),
        "count": len(times),
        "first_step": statistics.median(outcome["first_step"] for outcome in outcomes),
        "parts": {name: statistics.median(o["parts"][name] for o in outcomes) for name in first["parts"]},
        "memory": {name: max(outcome["memory"][name] for outcome in outcomes) for name in first["memory"]},
        **{name: first[name] for name in ("device", "motions", "views", "frames", "vertices")},
    }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the sorted values lie, interpolated."""
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def report(results: Results, judged: bool = True) -> str:
    """Tables of all cases and the headlines that were asked for; `judged`: were they reached?"""
    sections = []
    for case, arms in results.items():
        good = {arm: row for arm, row in arms.items() if "failed" not in row}
        base = good.get(BASE, {}).get("median")
        rows = []
        for arm, row in good.items():
            speed = f"{base / row['median']:.1f}×" if base else "–"
            quantiles = [timing.milliseconds(row[name]) for name in ("median", "p10", "p90")]
            memory = " + ".join(f"{size / 2**20:,.0f} {name}" for name, size in row["memory"].items())
            rows.append([arm, *quantiles, speed, f"{row['first_step']:.1f}", memory])
        columns = ["", "median ms", "p10", "p90", "vs " + BASE, "first step s", "peak MiB"]
        parts = [[a, *(_part(row["parts"][p]) for p in PARTS)] for a, row in good.items() if row["parts"]]
        sections += [f"### {HEADLINES[case].capitalize()}", timing.table(columns, rows)]
        if parts:
            sections.append(timing.table(["parts, ms", *PARTS], parts))
        sections += [f"{arm} failed: {row['failed']}" for arm, row in arms.items() if "failed" in row]
    return "\n\n".join([*sections, *headlines(results, judged)])


def headlines(results: Results, judged: bool = True) -> list[str]:
    """What was asked of the steps, beside what was measured."""
    lines = []
    for case, arms in results.items():
        medians = {arm: row["median"] for arm, row in arms.items() if "failed" not in row}
        jax = min((arm for arm in medians if arm.startswith("jax")), key=medians.__getitem__, default=None)
        if jax is None:
            continue
        best = _best(medians)
        asked_of = {("kernel", BASE): 4.0, ("full", best): 1.0}
        for name in dict.fromkeys((BASE, TWIN, best, COARSE)):
            if name in medians:
                ratio, asked = medians[name] / medians[jax], asked_of.get((case, name))
                words = f" (asked: ≥ {asked:g}×{_verdict(ratio >= asked, judged)})" if asked else ""
                lines.append(f"{HEADLINES[case]}: {jax} is {ratio:.2f}× as fast as {name}{words}")
        parts = arms.get("jax staged", {}).get("parts")
        if case == "full" and parts:
            share = 100 * parts["bridge"] / medians["jax staged"]
            lines.append(f"bridge: {share:.2f} % of the full step (asked: < 2 %{_verdict(share < 2, judged)})")
    return ["\n".join(lines)]


def _verdict(reached: bool, judged: bool) -> str:
    """Nothing from a run too short to tell."""
    return ("; reached" if reached else "; missed") if judged else ""


def _part(seconds: float) -> str:
    """A cell; nothing where an arm has no such part, or cannot tell it apart."""
    return timing.milliseconds(seconds) if seconds else "–"


def _best(medians: dict[str, float]) -> str:
    """The fastest of the torch arms that draw the full mesh."""
    torch = [arm for arm in medians if arm.startswith("torch") and arm != COARSE]
    return min(torch, key=medians.__getitem__) if torch else ""


def draw(path: Path, results: Results, words: str) -> None:
    """A bar chart of the medians, with p10 to p90."""
    panels = [
        chart.Panel(
            HEADLINES[case] + ", ms (median, p10 to p90)",
            [
                chart.Bar(arm, 1e3 * row["median"], 1e3 * row["p10"], 1e3 * row["p90"], arm.startswith("jax"))
                for arm, row in arms.items()
                if "failed" not in row
            ],
        )
        for case, arms in results.items()
    ]
    chart.bars(path, panels, words)


if __name__ == "__main__":
    run_program(main)
