"""Motions an hour against M, and what a step costs: python -m benchmarks.throughput [--quick] [--json P] [--chart P].

First the main job's step with M = 1 … 16 motions at once, from which motions an hour follow (optimisation alone:
start-up, control run and files are left out). Then scans of the step without the prior over M, frames, views, pixels
and vertices, and a fit of all of them:

    t = fixed + skinning · M F V + mesh · M n F V + pixels · M n F H W s² + prior · M n

with n views a motion and s² samples a pixel; `prior` counts only where the prior runs. Every measurement is a fresh
process (`benchmarks.step_worker`), transport staged. Coefficients are not negative, errors are relative.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks import chart, priors, synthetic, timing
from benchmarks.step_worker import ROOT, Task, run
from md_jax.options.command import parse_simple
from md_jax.options.flags import from_flagfile
from md_jax.run.torch_side import run_program

FLAGFILE = "configs/run.flags"
MOTIONS = (1, 2, 4, 8, 16)
SCANS: dict[str, tuple[Any, ...]] = {
    "num_motions": (2, 4, 8),
    "frames": (5, 20, 40),
    "views": (1, 6),
    "side": (64, 128, 256),
    "cell": (0.02, 0.04),  # of benchmarks.synthetic.coarser_free_body, metres
}
TERMS = ("fixed", "skinning", "mesh", "pixels", "prior")
UNITS = {
    "fixed": (1e3, "ms a step"),
    "skinning": (1e9, "ns a frame and vertex"),
    "mesh": (1e9, "ns a filmed frame and vertex"),
    "pixels": (1e9, "ns a sample"),
    "prior": (1e3, "ms a clip"),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """What the step time depends on."""

    motions: int
    views: int
    frames: int
    vertices: int
    height: int
    width: int
    supersample: int
    prior: bool  # does it run?

    def terms(self) -> list[float]:
        """The factors of TERMS."""
        clips = self.motions * self.views
        samples = self.height * self.width * self.supersample**2
        return [
            1.0,
            self.motions * self.frames * self.vertices,
            clips * self.frames * self.vertices,
            clips * self.frames * samples,
            clips * self.prior,
        ]


def main() -> None:
    args = parse_simple(
        __doc__, "benchmarks.throughput",
        quick=(False, "M = 1, 2, two points of each scan, few steps"),
        steps=(20, "timed steps of each measurement"),
        warmup=(3, "untimed steps before"),
        threads=(0, "CPU cores; 0 = all"),
        device=(("auto", "cpu", "cuda"), "where both frameworks run"),
        json=("", "also write the figures here"),
        chart=("", "also draw them, as a PNG file"),
    )  # fmt: skip
    config = from_flagfile(ROOT / FLAGFILE)
    spec = priors.spec_of(config.prior)
    steps, warmup = (3, 2) if args.quick else (args.steps, args.warmup)
    motions = MOTIONS[:2] if args.quick else MOTIONS
    environment = timing.environment("jax", "torch", "warp-lang", "diffusers", "numpy")

    failed: list[str] = []

    def measured(case: str, **options: Any) -> list[tuple[Size, float]]:
        """The point, or none where it fails (M = 16 may not fit a GPU)."""
        given = (("device", args.device), *options.items())
        result = run(Task("jax staged", case, FLAGFILE, given, warmup, steps, 0, args.threads))
        told = ", ".join(f"{name} {Path(str(value)).name}" for name, value in options.items()) or "as in the main job"
        what = f"{'full step' if case == 'full' else 'step without the prior'}, {told}"
        if "failed" in result:
            failed.append(f"{what} failed: {result['failed']}")
            print(failed[-1], flush=True)
            return []
        seconds = statistics.median(result["times"])
        print(f"{what}: {timing.milliseconds(seconds)} ms", flush=True)
        return [
            (size_of(result, options.get("height", spec.height), config.supersample, prior=case == "full"), seconds)
        ]

    full = [point for m in motions for point in measured("full", num_motions=m)]
    scanned = measured("null")
    with tempfile.TemporaryDirectory() as folder:
        for name, values in SCANS.items():
            for value in values[:1] if args.quick else values:
                scanned += measured("null", **options_of(name, value, Path(folder)))
    if not full:
        raise SystemExit(failed[0])
    points = [*full, *scanned]
    model, errors = fit(points)
    print("\n" + report(full, config.steps, model, errors))
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if args.json:
        rows = [
            {**dataclasses.asdict(size), "seconds": t, "model_error": e}
            for (size, t), e in zip(points, errors, strict=True)
        ]
        results = {"environment": environment, "steps_a_motion": config.steps, "points": rows, "model": model}
        timing.write_json(args.json, results)
    if args.chart:
        draw(Path(args.chart), full, config.steps)
    if failed:
        raise SystemExit("\n".join(failed))


def options_of(name: str, value: Any, folder: Path) -> dict[str, Any]:
    """The Config fields of one point of a scan; bodies are written into `folder`."""
    if name == "side":
        return {"height": value, "width": value}
    if name == "cell":
        path = synthetic.write(folder / f"body-{value}.npz", synthetic.coarser_free_body(value))
        return {"body": str(path), "detail": "full"}
    return {name: value}


def size_of(result: dict[str, Any], side: int, supersample: int, *, prior: bool) -> Size:
    """The size of what a worker measured, in square pictures."""
    counts = {name: result[name] for name in ("motions", "views", "frames", "vertices")}
    return Size(**counts, height=side, width=side, supersample=supersample, prior=prior)


def fit(points: Sequence[tuple[Size, float]]) -> tuple[dict[str, float], list[float]]:
    """Coefficients of TERMS in seconds (least squares of the relative errors, none negative), and those errors."""
    seconds = np.array([t for _, t in points])
    relative = np.array([size.terms() for size, _ in points]) / seconds[:, None]
    scale = np.maximum(np.abs(relative).max(axis=0), 1e-300)  # the factors differ by seven orders
    scaled, _ = nnls(relative / scale, np.ones(len(points)))
    coefficients = scaled / scale
    errors = relative @ coefficients - 1
    return dict(zip(TERMS, coefficients.tolist(), strict=True)), errors.tolist()


def predict(model: dict[str, float], size: Size) -> float:
    """Seconds of a step by the model."""
    return float(np.dot([model[term] for term in TERMS], size.terms()))


def motions_an_hour(size: Size, seconds: float, steps: int) -> float:
    """Motions optimised in an hour of steps of this many seconds."""
    return 3600 * size.motions / (steps * seconds)


def report(full: Sequence[tuple[Size, float]], steps: int, model: dict[str, float], errors: Sequence[float]) -> str:
    """The two tables."""
    base, first = motions_an_hour(*full[0], steps), f"vs M = {full[0][0].motions}"
    rows = []
    for size, t in full:
        rate = motions_an_hour(size, t, steps)
        cells = [timing.milliseconds(t), timing.milliseconds(t / size.motions), f"{rate:.0f}", f"{rate / base:.2f}×"]
        rows.append([f"{size.motions}", *cells, timing.milliseconds(predict(model, size))])
    columns = ["M", "ms a step", "ms a step and motion", f"motions an hour ({steps} steps)", first, "model, ms"]
    throughput = timing.table(columns, rows)
    size = full[0][0]
    whole = predict(model, size)
    costs = [
        [term, f"{model[term] * UNITS[term][0]:.3g} {UNITS[term][1]}", f"{model[term] * count / whole:.0%}"]
        for term, count in zip(TERMS, size.terms(), strict=True)
    ]
    costs_table = timing.table(["term", "cost", f"share at M = {size.motions}"], costs)
    worst, typical = max(map(abs, errors)), statistics.median(map(abs, errors))
    words = f"{len(errors)} points; error of the model: {typical:.0%} typically, {worst:.0%} at most."
    return f"{throughput}\n\n{costs_table}\n\n{words}"


def draw(path: Path, full: Sequence[tuple[Size, float]], steps: int) -> None:
    """A bar for each M."""
    rates = [chart.Bar(f"M = {size.motions}", motions_an_hour(size, t, steps), strong=True) for size, t in full]
    times = [chart.Bar(f"M = {size.motions}", 1e3 * t / size.motions) for size, t in full]
    chart.bars(path, [chart.Panel("motions an hour", rates), chart.Panel("ms a step and motion", times)])


if __name__ == "__main__":
    run_program(main)
