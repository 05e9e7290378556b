"""From the command to the first step: python -m benchmarks.startup [--quick] [--json PATH].

Fresh processes, timed from outside: `--help`, and the main job until its first step is done, each with an empty cache
folder (nothing compiled yet, neither by JAX nor by Warp) and with the one that the run before has filled.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import timing
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program

ROOT = Path(__file__).parents[1]
MAIN = [sys.executable, "-m", "md_jax.main"]
JOB = [*MAIN, "--flagfile=configs/run.flags", "--steps=1", "--log_every=1", "--preview_every=0", "--nocontrol_run"]
# The first words of the lines that the job prints once everything is loaded, and after its first step.
LOADED, STEPPED = "machine", "motion"
HELP_LIMIT = 1.5  # seconds


def main() -> None:
    args = parse_simple(
        __doc__, "benchmarks.startup",
        quick=(False, "each once"),
        rounds=(5, "starts of each kind"),
        json=("", "also write the figures here"),
    )  # fmt: skip
    if args.rounds < 1:
        stop(f"--rounds must be 1 or more, got {args.rounds}")
    rounds = 1 if args.quick else args.rounds
    environment = timing.environment("jax", "torch", "diffusers", "transformers", "warp-lang")
    seconds = measure(rounds)
    print(report(seconds))
    print("\n" + "; ".join(f"{name} {value}" for name, value in environment.items()))
    if args.json:
        timing.write_json(args.json, {"environment": environment, "seconds": seconds})


def measure(rounds: int) -> dict[str, list[float]]:
    """Seconds of every start, by what was waited for."""
    seconds: dict[str, list[float]] = {"--help": [time_help() for _ in range(rounds)]}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("empty", "filled"):
                command = [*JOB, f"--workdir={folder}/{cache}"]
                loaded, stepped = time_until(command, (LOADED, STEPPED), {"XDG_CACHE_HOME": f"{folder}/cache"})
                seconds.setdefault(f"{cache} cache: all loaded", []).append(loaded)
                seconds.setdefault(f"{cache} cache: first step done", []).append(stepped)
    return seconds


def time_help() -> float:
    """Seconds that `--help` takes."""
    start = time.perf_counter()
    done = subprocess.run([*MAIN, "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    if "--prompt" not in done.stdout:
        raise SystemExit(f"--help failed: {done.stderr[-500:]}")
    return time.perf_counter() - start


def time_until(command: Sequence[str], words: Sequence[str], environment: dict[str, str]) -> list[float]:
    """Seconds until lines that begin with each of `words`, in this order, were printed; then the process is ended."""
    start = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1", **environment}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    found: list[float] = []
    lines = []
    with process:
        for line in process.stdout:
            lines.append(line)
            if line.split()[:1] == [words[len(found)]]:
                found.append(time.perf_counter() - start)
                if len(found) == len(words):
                    break
        process.kill()
    if len(found) < len(words):
        raise SystemExit(f"no line {words[len(found)]!r} from {' '.join(command)}:\n{''.join(lines[-10:])}")
    return found


def report(seconds: dict[str, list[float]]) -> str:
    """The table, and what was asked of `--help`."""
    rows = [[name, f"{statistics.median(x):.2f}", f"{min(x):.2f}", f"{len(x)}"] for name, x in seconds.items()]
    words = f"--help: {statistics.median(seconds['--help']):.2f} s (asked: < {HELP_LIMIT} s)"
    return timing.table(["", "median s", "minimum s", "starts"], rows) + "\n\n" + words


if __name__ == "__main__":
    run_program(main)
