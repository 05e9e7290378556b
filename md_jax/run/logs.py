"""What a run tells while it goes: metrics.jsonl and a live progress line."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from md_jax.errors import UserError
from md_jax.files import MIB, WriteError, is_file, parse_json, read_bytes, to_json, write_bytes

METRICS_FILE = "metrics.jsonl"
LIMIT = 1024 * MIB  # bytes of it


class Metrics:
    """Appends one JSON line a logged step; on resume, lines from after the checkpoint are dropped first.

    Lines that cannot be written, as on a full disk, wait for the next one. `tell` is called with what is damaged.
    """

    def __init__(self, folder: Path, resumed_at: int, tell: Callable[[str], None] = lambda text: None) -> None:
        self._path = folder / METRICS_FILE
        self._waiting = ""
        lines, damaged = _read(folder)
        text = "".join(to_json(line) + "\n" for line in lines if line["step"] <= resumed_at).encode()
        self._end = len(text)  # bytes of the file that stay: those after them are dropped by the next write
        if not lines and not damaged:
            return
        if damaged:
            tell(f"{self._path}: {damaged} damaged lines are left out")
        if not read_bytes(self._path, LIMIT).startswith(text):
            write_bytes(self._path, text)

    def append(self, step: int, line: dict[str, Any]) -> None:
        """Write the line of a step, and those that wait.

        Raises:
            WriteError: there is no room; the line waits for the next.
        """
        self._waiting += to_json({"step": step, **line}) + "\n"
        self.flush()

    def flush(self) -> None:
        """Write what waits.

        Raises:
            WriteError: there is no room for it.
        """
        data = self._waiting.encode()
        try:
            with open(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as file:
                file.truncate(self._end)  # half a line, written when the disk ran full
                file.seek(self._end)
                file.write(data)
        except OSError as error:
            raise WriteError(f"{self._path} cannot be written: {error.strerror or error}.") from error
        self._end, self._waiting = self._end + len(data), ""


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics.jsonl, without those that are damaged, such as a last one cut off by a kill."""
    return _read(folder)[0]


def _read(folder: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole lines, and how many are damaged; one cut off at the end is no damage."""
    lines: list[dict[str, Any]] = []
    path, damaged = folder / METRICS_FILE, 0
    if not is_file(path):
        return lines, 0
    pieces = read_bytes(path, LIMIT).decode("utf-8", errors="replace").split("\n")
    for number, piece in enumerate(pieces, 1):
        try:
            line = parse_json(piece, path)
        except UserError:
            line = None
        if isinstance(line, dict) and isinstance(line.get("step"), int):
            lines.append(line)
        elif number < len(pieces):
            damaged += 1
    return lines, damaged


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
