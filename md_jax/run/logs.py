"""What a run tells while it goes: metrics.jsonl and a live progress line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

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
def progress_line(console: Console, title: str, steps: int) -> Iterator[Callable[[int, dict[str, Any]], None]]:
    """A live line "title bar step losses steps/s time left"; in a log file, one plain line every tenth of the way.

    Yields `update(step, line)`, to be called with the steps done and a line of metrics.
    """
    if not console.is_terminal:
        yield _plain_lines(console, title, steps)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[words]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=steps, words="compiling ...")

        def update(step: int, line: dict[str, Any]) -> None:
            progress.update(task, completed=step, words=_words(line))

        yield update


def _plain_lines(console: Console, title: str, steps: int) -> Callable[[int, dict[str, Any]], None]:
    tenth = -1

    def update(step: int, line: dict[str, Any]) -> None:
        nonlocal tenth
        if step * 10 // steps > tenth:
            tenth = step * 10 // steps
            left = line["step_seconds"] * (steps - step)
            console.print(f"{title}  step {step}/{steps}  {_words(line)}  {left:.0f} s left", soft_wrap=True)

    return update


def _words(line: dict[str, Any]) -> str:
    """Losses (means over the motions), speed and, if there were any, skipped steps."""
    told = [name for name in ("sds", "image", "reg") if f"loss_{name}" in line]
    losses = (f"{name} {sum(line[f'loss_{name}']) / len(line[f'loss_{name}']):.4g}" for name in told)
    skipped = sum(line["skipped"])
    rate = 1 / max(line["step_seconds"], 1e-9)
    return "  ".join([*losses, f"{rate:.1f} steps/s", *([f"{skipped} skipped"] if skipped else [])])
