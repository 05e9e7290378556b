"""What every benchmark here shares: one core, interleaved rounds, the machine's description, a table."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Times(NamedTuple):
    """Seconds of one case."""

    median: float
    minimum: float
    rounds: int


def pin_to_one_core(core: int | None = None) -> str:
    """Confine this process to one core; call it before jax and torch are imported, as both size thread pools then.

    Args:
        core: which one; None takes the last that this process may use.

    Returns:
        What was done, for the table.
    """
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        return "not pinned (this system cannot); XLA may use several cores"
    chosen = max(os.sched_getaffinity(0)) if core is None else core
    os.sched_setaffinity(0, {chosen})
    return f"one core (number {chosen})"


def interleave(cases: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 2) -> dict[str, Times]:
    """Time the cases in turns, so that a slow spell of the machine hits all of them and ratios stay fair.

    Args:
        cases: functions that return once their work is done (block on asynchronous results inside).
        rounds: how many times each is timed.
        warmup: untimed calls of each before (compilation, caches).
    """
    for case in cases.values():
        for _ in range(warmup):
            case()
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for _ in range(rounds):
            for name, case in cases.items():
                start = time.perf_counter()
                case()
                seconds[name].append(time.perf_counter() - start)
    finally:
        if collecting:
            gc.enable()
    return {name: Times(statistics.median(x), min(x), rounds) for name, x in seconds.items()}


def environment(*packages: str) -> dict[str, str]:
    """Versions and hardware, as they belong beside any figure."""
    found = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    load = f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown"
    return {
        "cpu": f"{_cpu_name()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "load average at the start": load,
        **found,
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table, aligned so that it also reads well in a terminal; the first column is text."""
    lines = [list(columns), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    cells = [
        [c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(x, widths, strict=True))] for x in lines
    ]
    rule = ["-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(x) + " |" for x in [cells[0], rule, *cells[1:]])


def milliseconds(seconds: float) -> str:
    """For a cell of the table."""
    return f"{1e3 * seconds:.2f}" if seconds < 0.1 else f"{1e3 * seconds:.0f}"


def write_json(path: str, results: Any) -> None:
    """Write the figures for a machine to read."""
    Path(path).write_text(json.dumps(results, indent=1) + "\n")
