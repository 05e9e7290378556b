"""From the command to the first step, and other waits: python -m benchmarks.startup [--quick] [--json PATH].

Fresh processes, timed from outside: `--help`, a prompt that is refused, the imports of the main job alone, the doctor;
the main job until its first step is done, with an empty cache folder (nothing compiled yet, neither by JAX nor by Warp)
and with the one that the run before has filled; then its files, and `md_jax.evaluate` of them.
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
# The first words of the lines that the job prints once everything is loaded, after its first step, before it writes its
# files, and at its end.
LOADED, STEPPED, WRITES, DONE = "machine", "motion", "writing", "done"
IMPORTS = "import md_jax.run.build, md_jax.output.export, bridge.build"
ASKED = {  # seconds
    "--help": 1.5, "a prompt that is refused": 1, "doctor": 3, "filled cache: first step done": 3,
    "filled cache: a motion's files": 4, "evaluate": 15,
}  # fmt: skip


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
    seconds: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        seconds.setdefault(name, []).append(value)

    for _ in range(rounds):
        note("--help", time_whole([*MAIN, "--help"], says="--prompt"))
        note("a prompt that is refused", time_whole([*MAIN, "--prompt=xyzzy"], code=2, says="xyzzy"))
        note("imports of the main job", time_whole([sys.executable, "-c", IMPORTS]))
        note("doctor", time_whole([sys.executable, "-m", "md_jax.doctor"]))
        with tempfile.TemporaryDirectory() as folder:
            for cache in ("empty", "filled"):
                command = [*JOB, f"--workdir={folder}/{cache}"]
                marks = (LOADED, STEPPED, WRITES, DONE)
                loaded, stepped, writes, done = time_until(command, marks, {"XDG_CACHE_HOME": f"{folder}/cache"})
                note(f"{cache} cache: all loaded", loaded)
                note(f"{cache} cache: first step done", stepped)
                note(f"{cache} cache: a motion's files", done - writes)
            note("evaluate", time_whole([sys.executable, "-m", "md_jax.evaluate", f"{folder}/filled"]))
    return seconds


def time_whole(command: Sequence[str], code: int = 0, says: str = "") -> float:
    """Seconds that a command takes to its end, which has an exit code, and what it says holds `says`."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != code or says not in done.stdout + done.stderr:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
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
    """The table, beside what was asked."""
    rows = [
        [name, f"{statistics.median(x):.2f}", f"{min(x):.2f}", f"{ASKED[name]:g}" if name in ASKED else "", f"{len(x)}"]
        for name, x in seconds.items()
    ]
    return timing.table(["", "median s", "minimum s", "asked s", "starts"], rows)


if __name__ == "__main__":
    run_program(main)
