"""The table that benchmarks/README.md opens with, measured again: python -m benchmarks.all (or make bench).

Runs the benchmarks one after another in processes of their own, in ten to eighteen minutes on two idle cores; keeps
every ratio in benchmarks/ratios.json, and writes the table and the date into benchmarks/README.md and
docs/benchmarks.md.
`python -m benchmarks.check` measures the same and compares with what is kept.
"""

from __future__ import annotations

import datetime
import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import step_time, timing
from benchmarks.step_worker import Task, run
from md_jax.files import write_bytes
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

ROOT = Path(__file__).parents[1]
RATIOS = ROOT / "benchmarks" / "ratios.json"
PAGES = (ROOT / "benchmarks" / "README.md", ROOT / "docs" / "benchmarks.md")
BEGIN, END = "<!-- written by python -m benchmarks.all -->", "<!-- end -->"
# What each benchmark is run with, to be done in ten minutes together.
RUNS: dict[str, tuple[str, ...]] = {
    "lbs": ("--rounds=20",),
    "render": ("--quick",),
    "bridge": (),
    "step_time": ("--rounds=2", "--steps=60", f"--arms={','.join(step_time.QUICK)}"),
    "startup": ("--rounds=2",),
    "detail": ("--quick",),
}  # fmt: skip
FLAGFILE, MOTIONS = "configs/run.flags", 8


class Row(NamedTuple):
    """One line of the table."""

    name: str  # what is measured
    ours: str
    peer: str  # with its name; empty: there is none
    ratio: float | None  # how many times better than the peer; None: nothing to compare, or no matter of speed
    floor: str = ""  # what was asked for


def measured() -> dict[str, Any]:
    """The figures of every benchmark by name, and the seconds of a full step of one and of several motions."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in RUNS.items():
            print(f"benchmarks.{name} {' '.join(options)}", flush=True)
            path = Path(folder, f"{name}.json")
            command = [sys.executable, "-m", f"benchmarks.{name}", *options, f"--json={path}"]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode or not path.is_file():
                raise SystemExit(f"benchmarks.{name} ended with {done.returncode}: {done.stderr[-500:]}")
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    for motions in (1, MOTIONS):
        print(f"full step of {motions} motions", flush=True)
        result = run(Task("jax staged", "full", FLAGFILE, (("num_motions", motions),), 3, 12, 0, 0))
        if "failed" in result:
            raise SystemExit(f"a step of {motions} motions failed: {result['failed']}")
        found[f"motions {motions}"] = statistics.median(result["times"])
    return found


def rows_of(found: dict[str, Any]) -> list[Row]:
    """The table of `measured` figures."""
    ms = timing.milliseconds

    def against(name: str, ours: float, peer: float, of: str, floor: str = "") -> Row:
        return Row(name, f"{ms(ours)} ms", f"{ms(peer)} ms {of}", peer / ours, floor)

    rows = []
    for key, words, floor in (("shipped body", "free body", "5×"), ("dense correctives", "dense correctives", "2.5×")):
        seconds = {name: case["times"]["median"] for name, case in found["lbs"][key].items()}
        what, ours = f"skinning, forward + backward, 10 frames, {words}", seconds["md_jax, baked"]
        rows.append(against(what, ours, seconds["smplx (torch)"], "`smplx`", floor))
        rows.append(against(what, ours, seconds["our baked algorithm in torch"], "our algorithm in torch", "1×"))
    drawn = {(row["size"], row["supersample"], row["antialias"]): row for row in found["render"]["rows"]}
    largest = max(size for size, *_ in drawn)
    ours, peer = (drawn[largest, 2, name] for name in ("edge", "visible"))
    took, took_peer = (1e-3 * (row["forward_ms"] + row["backward_ms"]) for row in (ours, peer))
    what = f"render + gradient, 27k triangles, {largest}² ss2, a frame"
    rows.append(against(what, took, took_peer, "nvdiffrast's rule"))
    rows.append(Row("its silhouette gradient over the finite difference", f"{ours['inflation']:.2f}",
                    f"{peer['inflation']:.2f} nvdiffrast's rule", None, "1"))  # fmt: skip
    copied = {arm["step"]: arm["copied"] for arm in found["bridge"]["arms"]}
    rows.append(Row("bytes copied in a step", f"{copied['staged (two jits)']}",
                    f"{copied['peer: pure_callback'] / 1e6:.1f} MB `pure_callback`", None, "0"))  # fmt: skip
    rows.append(Row("coarser mesh of the main job: cosine of the prior's joint-angle gradient with the full mesh's",
                    f"{found['detail']['auto']['cosine']:.3f}", "", None, ".99"))  # fmt: skip
    steps = {case: {arm: row["median"] for arm, row in arms.items() if "failed" not in row}
             for case, arms in found["step_time"]["results"].items()}  # fmt: skip
    for case, words, floor in (("kernel", "step without prior and renderer", "4×"), ("full", "full step", "1.5×")):
        arms = steps[case]
        best = min(arms["jax staged"], arms["jax jit"])
        rows.append(against(words, best, arms["torch smplx foreach"], "torch + `smplx`", floor))
        rows.append(against(words, best, arms["torch ours foreach"], "torch + our skinning", "1.5×" * (case == "full")))
        rows.append(against(words, best, arms["torch ours coarse"], "the same with our coarser mesh"))
    one, many = found["motions 1"], found[f"motions {MOTIONS}"] / MOTIONS
    rows.append(against(f"a step and motion, {MOTIONS} motions at once", many, one, "one at a time", "1.5×"))
    starts = {name: statistics.median(times) for name, times in found["startup"]["seconds"].items()}
    first = [f"{starts[f'{cache} cache: first step done']:.1f} s" for cache in ("filled", "empty")]
    rows.append(Row("first step after the command, caches filled / empty", " / ".join(first), "", None, "3 s"))
    return rows


def kept(rows: Sequence[Row]) -> dict[str, float]:
    """The ratios by what is measured and against what."""
    return {f"{row.name} | {_peer_of(row)}": round(row.ratio, 3) for row in rows if row.ratio is not None}


def _peer_of(row: Row) -> str:
    return re.sub(r"^[\d.,]+ (ms|s|MB) ", "", row.peer)


def table(rows: Sequence[Row], day: str, machine: str) -> str:
    """The rows as Markdown, with the date and the machine."""
    lines = [f"Measured on {day}; {machine}. The floor is what was asked for.", "",
             "| | ours | the peer | ratio | floor |", "|---|---:|---:|---:|---:|"]  # fmt: skip
    before = ""
    for row in rows:
        name, ours = ("", "") if row.name == before else (row.name, row.ours)
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}×"
        lines.append(f"| {name} | {ours} | {row.peer} | {ratio} | {row.floor} |")
        before = row.name
    return "\n".join(lines)


def put(page: str, text: str) -> str:
    """A page with `text` between the two marks.

    Raises:
        ValueError: the page has no marks.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"expected a page with {BEGIN!r} and, after it, {END!r}.")
    return f"{before}{begin}\n{text}\n{end}{after}"


def main() -> None:
    parse_simple(__doc__, "benchmarks.all")
    environment = timing.environment("jax", "torch", "warp-lang", "smplx")
    rows = rows_of(measured())
    text = table(rows, datetime.date.today().isoformat(), "; ".join(f"{k} {v}" for k, v in environment.items()))
    print("\n" + text)
    write_bytes(RATIOS, (json.dumps(kept(rows), indent=1) + "\n").encode())
    for page in PAGES:
        write_bytes(page, put(page.read_text(encoding="utf-8"), text).encode())
    print(f"\nwrote {RATIOS.name} and the tables of {', '.join(str(page.relative_to(ROOT)) for page in PAGES)}")


if __name__ == "__main__":
    run_program(main)
