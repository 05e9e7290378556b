"""A study's cells: each is one run of the main job in a folder of its own, skipped when done, resumed when begun."""

from __future__ import annotations

import dataclasses
import hashlib
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from md_jax import main as main_job
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.files import read_json
from md_jax.options.flags import from_flagfile
from md_jax.run import workdir
from md_jax.run.workdir import FLAGS_FILE

CELLS = "cells"  # folder of the runs inside the study's
OF_A_CELL = ("prompt", "prompts_file", "prior", "prior_path", "seed")  # options in which cells differ
Record = dict[str, Any]


class Cell(NamedTuple):
    """One run: its folder and the options it is made with."""

    folder: Path
    config: Config

    @property
    def record(self) -> Path:
        """Says whether it is done; beside the folder, which a run that cannot start takes away."""
        return self.folder.with_suffix(".json")

    @property
    def log(self) -> Path:
        """What a run without a terminal says."""
        return self.folder.with_suffix(".log")


def cells_of(
    config_of: Callable[[str, str], Config],
    sentences: Sequence[str],
    priors: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    folder: Path,
) -> list[Cell]:
    """The cells of a study, seeds outermost, so that a study cut short has some of everything.

    Args:
        config_of: the main job's options for a prior's name and path (its recipe and a preset depend on them).
        sentences: the prompts.
        priors: (name, path) of each; path "" is the shipped one.
        seeds: of everything random.
        folder: the study's.
    """
    cells = []
    for seed in seeds:
        for sentence in sentences:
            for name, path in priors:
                config = config_of(name, path)
                key = hashlib.sha256(f"{sentence}\n{path}".encode()).hexdigest()[:6]
                own = folder / CELLS / f"{config.mode}-{name}-{workdir.slug(sentence)}-{key}-seed-{seed}"
                config = dataclasses.replace(
                    config, prompt=sentence, prompts_file="", prior=name, prior_path=path, seed=seed, workdir=str(own),
                    resume=False,
                )  # fmt: skip
                cells.append(Cell(own, config))
    return cells


def is_done(cell: Cell) -> bool:
    """Whether a cell's run is finished and its folder still there."""
    try:
        record = read_json(cell.record)
    except UserError:
        return False
    return isinstance(record, dict) and record.get("state") == "done" and (cell.folder / "summary.json").is_file()


def check_unchanged(cells: Iterable[Cell]) -> None:
    """Refuse options other than those that runs in the folder were made with, of the same prior and mode.

    Raises:
        UserError: they differ; a study compares nothing if its cells do.
    """
    own = {cell.folder: cell.config for cell in cells}
    alike = {(config.mode, config.prior): config for config in own.values()}
    for file in sorted(file for folder in {path.parent for path in own} for file in folder.glob(f"*/{FLAGS_FILE}")):
        was = from_flagfile(file)
        config = own.get(file.parent) or alike.get((was.mode, was.prior), was)
        for name in sorted(computed() - set(() if file.parent in own else OF_A_CELL)):
            old, new = getattr(was, name), getattr(config, name)
            if old != new:
                raise UserError(
                    f"{file.parent} was made with --{name}={old}, and the command says --{name}={new}: give the same"
                    " flags, or another --workdir."
                )


def run_cell(cell: Cell, console: Console | None = None) -> Record:
    """Run a cell, or go on with it; what goes wrong is recorded, not raised.

    Args:
        cell: what to run.
        console: where it tells about itself; None: its log file.

    Returns:
        state ("done" or "failed"), name, prompt, prior, prior_path, mode, seed, seconds, error.
    """
    config, begun = cell.config, time.perf_counter()
    record: Record = {"state": "done", "name": cell.folder.name, "seconds": 0.0, "error": ""}
    record |= {name: getattr(config, name) for name in ("prompt", "prior", "prior_path", "mode", "seed")}
    cell.folder.parent.mkdir(parents=True, exist_ok=True)
    with cell.log.open("a", encoding="utf-8") as log:
        try:
            started = (cell.folder / FLAGS_FILE).is_file()
            config, folder = workdir.open_run(dataclasses.replace(config, resume=started), computed())
            main_job.run_job(config, folder, console or Console(file=log, width=110, highlight=False))
        except Exception as error:
            record |= {"state": "failed", "error": f"{type(error).__name__}: {error}"}
            traceback.print_exc(file=log)
    return record | {"seconds": round(time.perf_counter() - begun, 1)}


def run_study(
    cells: Sequence[Cell], launch: Callable[[Sequence[Cell], Callable[[Cell, Record], None]], None], console: Console
) -> None:
    """Run the cells that are not done, and record each.

    Args:
        cells: all of them.
        launch: runs cells and calls its second argument with each and its record.
        console: one line a finished cell.
    """
    check_unchanged(cells)
    missing = [cell for cell in cells if not is_done(cell)]
    console.print(f"{len(cells)} cells, {len(cells) - len(missing)} of them done already")
    finished = 0

    def on_done(cell: Cell, record: Record) -> None:
        nonlocal finished
        finished += 1
        workdir.write_json(cell.record, record)
        told = f"failed: {record['error']} (see {cell.log})" if record["state"] == "failed" else "done"
        console.print(f"{finished} of {len(missing)}, {cell.folder.name}: {told}, {record['seconds']:.0f} s",
                      markup=False, soft_wrap=True)  # fmt: skip

    if missing:
        launch(missing, on_done)


def launch_here(cells: Sequence[Cell], on_done: Callable[[Cell, Record], None], console: Console) -> None:
    """One after the other, in this process."""
    for cell in cells:
        console.rule(cell.folder.name)
        on_done(cell, run_cell(cell, console))


def computed() -> set[str]:
    """Names of the options that say what is computed."""
    return {field.name for field in dataclasses.fields(Config)} - set(workdir.FREE_ON_RESUME)
