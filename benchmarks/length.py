"""Motions of 1, 4 and 10 seconds: python -m benchmarks.length [--lengths=1,4,10] [--seams=4].

Each length in a process of its own: median time of a step and the most memory. Then a whole motion of --seams seconds
with the embedded prior: mean joint speed and jerk where a window begins or ends, over those elsewhere.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import numpy as np

from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

STEPS = 60


def cost(seconds: float) -> dict[str, float]:
    """Frames, milliseconds of a step and MiB of the process, of a walk of so many seconds."""
    import jax

    from md_jax.config import Config
    from md_jax.fit import train
    from md_jax.fit.problems import PoseProblem
    from md_jax.run.build import make_job
    from md_jax.run.torch_side import peak_memory

    config = Config(seconds=seconds, steps=STEPS, control_run=False)
    job = make_job(config)
    assert isinstance(job.problem, PoseProblem)
    times = []
    last = time.perf_counter()
    for state, _ in train.steps(config, job.problem, train.init_state(config, job.params), job.op):
        jax.block_until_ready(state.step)
        now = time.perf_counter()
        times.append(now - last)
        last = now
    median = 1000 * statistics.median(times[10:])
    return {"frames": job.problem.fields.frames, "step_ms": median, "peak_mib": peak_memory()["host"]}


def seams(seconds: float, loop: bool) -> dict[str, float]:
    """Speed and jerk at the borders of windows, over those elsewhere, of a distilled walk."""
    import jax.numpy as jnp

    from md_jax.config import Config
    from md_jax.evaluate import measures
    from md_jax.fit import posefield, train
    from md_jax.fit.optimizers import final_params
    from md_jax.fit.problems import PoseProblem
    from md_jax.run.build import make_job

    config = Config(seconds=seconds, loop=loop, control_run=False)
    job = make_job(config)
    assert isinstance(job.problem, PoseProblem) and job.problem.windows is not None
    *_, (state, _) = train.steps(config, job.problem, train.init_state(config, job.params), job.op)
    params, windows = final_params(state.opt_state, state.params), job.problem.windows
    fine = 3  # samples a frame
    tau = jnp.arange(0, (windows.frames - (0 if loop else 1)) * fine) / fine
    joints = measures.joints(np.asarray(posefield.poses(job.problem.fields, params, tau).body[0]))
    rate = job.fps * fine
    speed = np.linalg.norm(np.diff(joints, axis=0), axis=-1).mean(axis=1) * rate
    jerk = np.linalg.norm(np.diff(joints, n=3, axis=0), axis=-1).mean(axis=1) * rate**3
    starts = np.unique(windows.starts)
    borders = np.r_[starts, starts + windows.length - 1]
    if len(starts) > windows.frames // 2:  # windows begin everywhere: the ends of the motion are the only borders
        borders = np.array([0, windows.frames - 1])

    def ratio(values: np.ndarray, middle: float) -> float:
        frame = (np.arange(len(values)) + middle) / fine
        away = np.abs(frame[:, None] - borders)
        if loop:
            away = np.minimum(away, windows.frames - away)
        near = (away <= 0.5).any(axis=1)
        return float(values[near].mean() / values[~near].mean())

    return {"windows": len(starts), "speed": ratio(speed, 0.5), "jerk": ratio(jerk, 1.5)}


def main() -> None:
    """Parse, measure, print."""
    options = parse_simple(
        __doc__,
        "benchmarks.length",
        lengths=(["1", "4", "10"], "seconds"),
        seams=(4.0, "seconds of the motion whose seams are measured; 0: none"),
        one=(0.0, "measure one length in this process, and print JSON"),
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.one:
        print(json.dumps(cost(options.one)))
        return
    print(f"A walk by the embedded prior, {STEPS} steps of each length\n")
    print("| seconds | frames | ms a step | most memory, MiB |\n|---|---|---|---|")
    for seconds in options.lengths:
        command = [sys.executable, "-m", "benchmarks.length", f"--one={seconds}"]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
        print(f"| {seconds} | {found['frames']} | {found['step_ms']:.1f} | {found['peak_mib']:.0f} |", flush=True)
    if options.seams:
        print("\nAt the borders of windows, over elsewhere\n\n| motion | windows | speed | jerk |\n|---|---|---|---|")
        for loop in (False, True):
            found = seams(options.seams, loop)
            name = f"{options.seams:g} s{', a loop' if loop else ''}"
            print(f"| {name} | {found['windows']} | {found['speed']:.2f} | {found['jerk']:.2f} |", flush=True)


if __name__ == "__main__":
    run_program(main)
