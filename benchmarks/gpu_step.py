"""A full step at the sizes of the big priors, beside what its arithmetic takes at least: python -m benchmarks.gpu_step.

Full-size networks with random weights in half precision, which cost what trained ones cost: the three priors share one
architecture and differ in the size of the clip. Each row is a fresh process (`benchmarks.step_worker`). The floor is
the multiplications of the two networks at the speed of a large matrix product, measured here first; VAE encoding counts
forward and backward once, so encoding anew in chunks costs half the VAE's share more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from benchmarks import timing
from benchmarks.step_worker import Task, run
from bridge.configure import cuda_problem
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

FLAGFILE = "configs/modelscope.flags"
RANDOM = "random-modelscope"


class Case(NamedTuple):
    """A clip, and what one step on one view of it multiplies."""

    frames: int
    height: int
    width: int
    unet: float  # 1e12 floating-point operations: the pair of classifier-free guidance
    vae: float  # the same: encoding, forward and backward


# Counted by torch.utils.flop_counter on the meta device.
CASES = {
    "ModelScope 256x256, 10 frames": Case(10, 256, 256, 6.1, 5.5),
    "ModelScope 256x256, 16 frames": Case(16, 256, 256, 9.8, 8.8),
    "VideoCrafter2 512x320, 10 frames": Case(10, 320, 512, 15.7, 13.9),
    "ZeroScope 576x320, 24 frames": Case(24, 320, 576, 42.8, 37.8),
}


class Way(NamedTuple):
    """How a step is taken."""

    arm: str  # of benchmarks.arms.ARMS
    options: tuple[tuple[str, Any], ...]


WAYS = {
    "staged": Way("jax staged", ()),
    "staged, compiled": Way("jax staged", (("compile", "on"),)),
    "staged, CUDA graphs": Way("jax staged", (("compile", "graphs"),)),
    "jit, CUDA graphs": Way("jax jit", (("compile", "graphs"),)),
    "staged, encoded in chunks of 4": Way("jax staged", (("compile", "graphs"), ("encode_chunk", 4))),
    "low VRAM": Way("jax staged", (("low_vram", True),)),
    "peer: torch alone, CUDA graphs": Way("torch ours fused", (("compile", "graphs"),)),
}
GOAL, LIMIT = 2.0, 3.0  # times the floor
RENDER_LIMIT = 0.1  # of a step, for the first two cases


def matmul_rate(size: int = 8192, rounds: int = 20) -> float:
    """1e12 floating-point operations a second of a large half-precision matrix product on this GPU."""
    import torch

    a, b = (torch.randn(size, size, device="cuda", dtype=torch.float16) for _ in range(2))
    best = float("inf")
    for _ in range(rounds):
        torch.cuda.synchronize()
        start = time.perf_counter()
        a @ b
        torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e12


def measure(
    cases: Sequence[str],
    ways: Sequence[str],
    rate: float,
    steps: int,
    prior: str = RANDOM,
    worker: Callable[[Task], dict[str, Any]] = run,
) -> list[dict[str, Any]]:
    """One row for each case and way: times in seconds, memory in bytes, or why it failed.

    Args:
        cases: of CASES.
        ways: of WAYS.
        rate: from `matmul_rate`.
        steps: timed steps of each.
        prior: whose networks run.
        worker: `benchmarks.step_worker.run`.
    """
    rows = []
    for name in cases:
        case = CASES[name]
        size = (("frames", case.frames), ("height", case.height), ("width", case.width), ("views", 1))
        floor = (case.unet + case.vae) / rate
        for way in ways:
            arm, options = WAYS[way]
            chosen = (*size, ("prior", prior), ("device", "auto"), *options)
            found = worker(Task(arm, "full", FLAGFILE, chosen, warmup=10, steps=steps, apart=max(2, steps // 5)))
            row: dict[str, Any] = {"case": name, "way": way, "floor": floor, **found}
            if "times" in found:
                times = sorted(found["times"])
                row |= {"median": times[len(times) // 2], "p10": times[len(times) // 10]}
                row |= {"p90": times[9 * len(times) // 10], "over_floor": times[len(times) // 2] / floor}
                inside = sum(found["parts"].values())
                row["render_share"] = found["parts"].get("render", 0.0) / inside if inside else 0.0
            rows.append(row)
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A table for each case."""
    columns = ["ms a step", "median", "p10", "p90", "× floor", "render", "VAE", "UNet", "pose + LBS", "rest"]
    columns += ["first step, s", "GiB torch", "GiB jax"]
    parts = []
    for case in dict.fromkeys(row["case"] for row in rows):
        mine = [row for row in rows if row["case"] == case]
        cells = []
        for row in mine:
            if "times" not in row:
                cells.append([row["way"], row.get("failed", "?")[:60], *[""] * (len(columns) - 2)])
                continue
            p, memory = row["parts"], row["memory"]
            rest = sum(p.get(name, 0.0) for name in ("optimiser", "bridge", "rest"))
            times = [row["median"], row["p10"], row["p90"]]
            shares = [p.get("render", 0.0), p.get("encode", 0.0), p.get("UNet", 0.0), p.get("pose + LBS", 0.0), rest]
            cells.append(
                [row["way"], *(f"{1e3 * x:.1f}" for x in times), f"{row['over_floor']:.2f}",
                 *(f"{1e3 * x:.1f}" for x in shares), f"{row['first_step']:.0f}",
                 *(f"{memory.get(name, 0) / 2**30:.1f}" for name in ("torch", "jax"))]
            )  # fmt: skip
        parts.append(f"{case}; floor {1e3 * mine[0]['floor']:.1f} ms\n\n{timing.table(columns, cells)}")
    return "\n\n".join(parts)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What was asked for, and what came out."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        done = {row["way"]: row for row in rows if row["case"] == case and "times" in row}
        ours = [row for way, row in done.items() if not way.startswith("peer")]
        if not ours:
            lines.append(f"{case}: nothing ran")
            continue
        best = min(ours, key=lambda row: row["median"])
        line = f"{case}: {best['over_floor']:.2f} times the floor by {best['way']} (asked: {LIMIT:g}, goal {GOAL:g})"
        line += f"; renderer {100 * best['render_share']:.0f} % (asked: {100 * RENDER_LIMIT:.0f} %)"
        for way, peer in done.items():
            if way.startswith("peer"):
                line += f"; {peer['median'] / best['median']:.2f} times as fast as torch alone (asked: 1)"
        lines.append(line)
    return lines


def main() -> None:
    """Measure, print the tables, and write JSON if asked to."""
    arguments = parse_simple(
        __doc__, "benchmarks.gpu_step",
        quick=(False, "the smallest case in two ways, few steps"),
        steps=(50, "timed steps of each row"),
        json=("", "also write the numbers there"),
    )  # fmt: skip
    if problem := cuda_problem():
        raise SystemExit(f"benchmarks.gpu_step needs a GPU: {problem}")
    import torch

    cases, ways, steps = list(CASES), list(WAYS), arguments.steps
    if arguments.quick:
        cases, ways, steps = cases[:1], ["staged", "peer: torch alone, CUDA graphs"], 10
    rate = matmul_rate()
    torch.cuda.empty_cache()
    environment = timing.environment("jax", "torch", "diffusers", "warp-lang") | {"gpu": torch.cuda.get_device_name()}
    rows = measure(cases, ways, rate, steps)
    print(f"One view a step, float16 networks, random weights; a matrix product runs at {rate:.0f} TFLOP/s here.\n")
    print(report(rows), *verdicts(rows), sep="\n\n")
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if arguments.json:
        timing.write_json(arguments.json, {"environment": environment, "matmul_tflops": rate, "rows": rows})


if __name__ == "__main__":
    run_program(main)
