"""What a run tells while it goes: metrics.jsonl and a live progress line."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from md_jax.errors import UserError

METRICS_FILE = "metrics.jsonl"


class Metrics:
    """Appends one JSON line a logged step; on resume, lines from after the checkpoint are dropped first."""

    def __init__(self, folder: Path, resumed_at: int) -> None:
        self._path = folder / METRICS_FILE
        kept = [line for line in read_metrics(folder) if line["step"] <= resumed_at]
        self._write("".join(json.dumps(line) + "\n" for line in kept), "w")

    def append(self, step: int, line: dict[str, Any]) -> None:
        self._write(json.dumps({"step": step, **line}) + "\n", "a")

    def _write(self, text: str, mode: str) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            raise UserError(f"{self._path} cannot be written: {error.strerror or error}. Free some space, then go on"
                            " with --resume.") from error  # fmt: skip


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl; a last line cut off by a kill is left out."""
    lines = []
    path = folder / METRICS_FILE
    for text in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            break
    return lines


@contextmanager
def progress_line(console: Console, title: str, steps: int, done: int = 0) -> Iterator[Any]:
    """A live line "title bar step loss steps/s time left"; in a log file, one plain line every tenth of the way.

    Yields `update(step, line)`, to be called with the steps done and a line of metrics.
    """
    start, first = time.perf_counter(), done

    def words(step: int, line: dict[str, Any]) -> str:
        rate = (step - first) / max(time.perf_counter() - start, 1e-9)
        mean = {name: sum(line[name]) / len(line[name]) for name in ("loss_sds", "loss_reg") if name in line}
        terms = "  ".join(f"{name.removeprefix('loss_')} {value:.4g}" for name, value in mean.items())
        skipped = sum(line.get("skipped", []))
        return f"{terms}  {rate:.1f} steps/s" + (f"  {skipped} skipped" if skipped else "")

    if not console.is_terminal:
        printed = -1

        def update_plain(step: int, line: dict[str, Any]) -> None:
            nonlocal printed
            if step * 10 // steps > printed or step == steps:
                printed = step * 10 // steps
                left = (time.perf_counter() - start) / max(step - first, 1) * (steps - step)
                console.print(f"{title}  step {step}/{steps}  {words(step, line)}  {left:.0f} s left", soft_wrap=True)

        yield update_plain
        return

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=steps, completed=done, words="compiling ...")

        def update(step: int, line: dict[str, Any]) -> None:
            progress.update(task, completed=step, words=words(step, line))

        yield update
