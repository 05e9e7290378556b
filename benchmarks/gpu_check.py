"""Everything that needs a GPU, in one go and one report: python -m benchmarks.gpu_check (or make gpu-check).

Runs the tests marked `gpu` and each benchmark on the GPU, in processes of their own, and writes what they said to
benchmarks/results/<date>-gpu-check.md and .json. A part that fails is reported and does not stop the others. Without a
GPU it says so in one line and exits with 1.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import timing
from bridge.configure import cuda_problem
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


class Part(NamedTuple):
    """One process of the check."""

    title: str
    command: tuple[str, ...]  # after `python -m`; {json} is a path to write figures to
    minutes: int  # after which it is given up


PARTS = (
    Part("Environment", ("md_jax.doctor", "--device=cuda"), 5),
    Part("Tests on the GPU", ("pytest", "-m", "gpu", "-q", "-ra"), 30),
    Part("Gradient crossing", ("benchmarks.bridge", "--device=cuda", "--json", "{json}"), 10),
    Part("Precision of guidance", ("benchmarks.precision", "--size=full", "--device=cuda", "--json", "{json}"), 15),
    Part("Memory, estimated", ("benchmarks.memory", "--json", "{json}"), 10),
    Part("Memory of the video transformers, estimated", ("benchmarks.memory_transformers", "--json", "{json}"), 10),
    Part("Full step beside its floor", ("benchmarks.gpu_step", "--json", "{json}"), 120),
    Part("Step by JAX and by PyTorch", ("benchmarks.step_time", "--device=cuda", "--json", "{json}"), 60),
    Part(
        "The same with ModelScope's size",
        ("benchmarks.step_time", "--device=cuda", "--prior=random-modelscope", "--cases=full", "--json", "{json}"),
        90,
    ),
)


def run(part: Part, quick: bool) -> dict[str, Any]:
    """Run one part.

    Returns:
        title, command, seconds, code (None: given up), output (its text) and figures (its JSON, or None).
    """
    import json

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        words = [word.replace("{json}", str(path)) for word in part.command]
        if quick and words[0].startswith("benchmarks."):
            words.append("--quick")
        environment = {**os.environ, "MD_JAX_TEST_GPU": "1"}
        start = time.perf_counter()
        code, output = run_group([sys.executable, "-m", *words], environment, 60 * part.minutes)
        figures = json.loads(path.read_text()) if path.exists() else None
    shown = " ".join(["python", "-m", *(word for word in words if word not in ("--json", str(path)))])
    seconds = time.perf_counter() - start
    return {
        "title": part.title,
        "command": shown,
        "seconds": seconds,
        "code": code,
        "output": output,
        "figures": figures,
    }


def run_group(command: Sequence[str], environment: dict[str, str], seconds: float) -> tuple[int | None, str]:
    """Exit code (None: given up) and output of a command; its children end with it, so none stays on the card."""
    with tempfile.TemporaryFile() as said:  # no pipe, which a child that stays behind would hold open
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            code: int | None = process.wait(seconds)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        return code, said.read().decode(errors="replace")


def report(results: Sequence[dict[str, Any]], environment: dict[str, str], date: str) -> str:
    """The report as Markdown: a summary, then what each part printed."""
    lines = [f"# GPU check, {date}", "", "; ".join(f"{name} {value}" for name, value in environment.items()), ""]
    cells = [[r["title"], _outcome(r), f"{r['seconds'] / 60:.1f}"] for r in results]
    lines += [timing.table(["part", "outcome", "minutes"], cells), ""]
    for r in results:
        lines += [f"## {r['title']}", "", f"`{r['command']}`", "", "```", _readable(r["output"]), "```", ""]
    return "\n".join(lines)


def _outcome(result: dict[str, Any]) -> str:
    if result["code"] is None:
        return "given up"
    summary = re.findall(r"^\d+ (?:passed|failed|skipped).*?(?= in )", result["output"], re.MULTILINE)
    words = f" ({summary[-1]})" if summary else ""
    return ("done" if result["code"] == 0 else f"FAILED, exit code {result['code']}") + words


def _readable(output: str, most: int = 400) -> str:
    """The output without progress that overwrote itself, at most its last `most` lines."""
    lines = [line.split("\r")[-1].rstrip() for line in output.strip().splitlines()]
    return "\n".join(["...", *lines[-most:]] if len(lines) > most else lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run every part, write the report, and return the exit code: 0 only where every part was done."""
    arguments = parse_simple(
        __doc__, "benchmarks.gpu_check", argv,
        quick=(False, "benchmarks with few steps: is it working?"),
        only=("", "titles of the parts to run, separated by commas"),
        out=(str(RESULTS), "folder of the report"),
    )  # fmt: skip
    if problem := cuda_problem():
        print(f"gpu-check needs a GPU that torch and JAX share: {problem}", file=sys.stderr)
        return 1
    chosen = [title for title in arguments.only.split(",") if title]
    unknown = set(chosen) - {part.title for part in PARTS}
    if unknown:
        stop(f"unknown parts {sorted(unknown)}; there are: {', '.join(part.title for part in PARTS)}")
    environment = timing.environment("jax", "jaxlib", "torch", "warp-lang", "diffusers", "nvdiffrast")
    environment["gpu"] = _gpu()
    results: list[dict[str, Any]] = []
    date = datetime.date.today().isoformat()
    folder = Path(arguments.out)
    folder.mkdir(parents=True, exist_ok=True)
    markdown = folder / f"{date}-gpu-check.md"
    for part in PARTS:
        if not chosen or part.title in chosen:
            print(f"{part.title} ...", flush=True)
            results.append(run(part, arguments.quick))
            print(f"  {_outcome(results[-1])}, {results[-1]['seconds'] / 60:.1f} min", flush=True)
            # Anew after each part: hours of work should not hang on the last one.
            markdown.write_text(report(results, environment, date), encoding="utf-8")
            timing.write_json(str(markdown.with_suffix(".json")), {"environment": environment, "parts": results})
    print(f"report: {markdown}")
    return 0 if all(result["code"] == 0 for result in results) else 1


def _gpu() -> str:
    """Name and memory of the GPU, and its driver; the process that asks leaves the card to the parts."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
        return lines[0] if lines else "unknown"
    except (OSError, subprocess.SubprocessError):
        return "unknown"


if __name__ == "__main__":
    run_program(main)
