"""Prompts x priors x seeds: ``python -m md_jax.study --prompts="a person is walking; a person is running"``.

A cell is one run of `md_jax.main` in a folder of its own under --workdir; flags of the main job are passed on. The
same command again skips what is finished, goes on with what was interrupted and tries again what failed. At the end
come a figure (rows prompts x priors, columns frames, latent mode below pose mode where both are there), a table and
study.json.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags
from rich.console import Console

from md_jax import config as options
from md_jax import main as main_job  # defines the main job's flags
from md_jax import workdir
from md_jax.config import Config, from_flagfile, prompts
from md_jax.errors import UserError
from md_jax.workdir import FLAGS_FILE

CELLS = "cells"  # folder of the runs inside the study's
OF_A_CELL = ("prompt", "prompts_file", "prior", "prior_path", "seed")  # options in which cells differ
DEFAULT_FOLDER = "study"
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
    config_of: Callable[[str], Config],
    sentences: Sequence[str],
    priors: Sequence[tuple[str, str]],
    seeds: Sequence[int],
    folder: Path,
) -> list[Cell]:
    """The cells of a study, seeds outermost, so that a study cut short has some of everything.

    Args:
        config_of: the main job's options for a prior's name (a preset depends on it).
        sentences: the prompts.
        priors: (name, path) of each; path "" is the shipped one.
        seeds: of everything random.
        folder: the study's.
    """
    cells = []
    for seed in seeds:
        for sentence in sentences:
            for name, path in priors:
                config = config_of(name)
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
        state = json.loads(cell.record.read_text(encoding="utf-8"))["state"]
    except (OSError, ValueError, KeyError):
        return False
    return state == "done" and (cell.folder / "summary.json").is_file()


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
        for name in sorted(_computed() - set(() if file.parent in own else OF_A_CELL)):
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
            config, folder = workdir.open_run(dataclasses.replace(config, resume=started), _computed())
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


def parse_priors(texts: Sequence[str]) -> list[tuple[str, str]]:
    """(name, path) of each "name" or "name=path".

    Raises:
        UserError: there is none, or one comes twice.
    """
    found = [(name.strip(), path.strip()) for name, _, path in (text.partition("=") for text in texts if text.strip())]
    if not found or len(set(found)) < len(found) or not all(name for name, _ in found):
        raise UserError(f"--priors takes names, or name=PATH, each once; got {','.join(texts)!r}.")
    return found


# --- the entry point ----------------------------------------------------------------------------------------------


def main(argv: list[str]) -> None:
    """Parse, run all cells, report."""
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=110)
    if len(argv) > 1:
        raise app.UsageError(f"flags start with --; not understood: {' '.join(argv[1:])}")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in md_jax.main: a cell is the run that its flags make there
    for name in ("jax._src.xla_bridge", "matplotlib"):  # they tell of absent accelerators, of the fonts that they find
        logging.getLogger(name).setLevel(logging.WARNING)
    from bridge.errors import BridgeError

    values = flags.FLAGS
    folder = Path(values.workdir or DEFAULT_FOLDER).resolve()
    try:
        cells = _cells_of_flags(values, folder)
        run_study(cells, _launcher(values, console), console)
        from md_jax.study_report import report

        report(folder, console, judge=values.evaluate)
    except (UserError, BridgeError) as error:
        console.print(f"error: {error}", markup=False, soft_wrap=True, style="red")
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on", style="yellow")
        sys.exit(130)
    if failed := sum(not is_done(cell) for cell in cells):  # earlier commands' failures are theirs
        console.print(f"{failed} cells failed; the same command tries them again", style="yellow")
        sys.exit(1)


def _cells_of_flags(values: flags.FlagValues, folder: Path) -> list[Cell]:
    from bridge.priors import check_name

    priors = _priors_of(values)
    for prior, _ in priors:  # a wrong name should leave nothing in the folder
        check_name(prior)

    def config_of(name: str) -> Config:
        values["prior"].value = name
        return options.from_flags(values)

    config = config_of(priors[0][0])
    if config.num_motions != 1:
        raise UserError(f"a study takes --seeds, one motion a cell; got --num_motions={config.num_motions}.")
    sentences = [part.strip() for text in values.prompts for part in text.split(";") if part.strip()]
    try:
        seeds = [int(text) for text in values.seeds]
    except ValueError:
        raise UserError(f"--seeds takes whole numbers separated by commas, got {','.join(values.seeds)!r}.") from None
    return cells_of(config_of, list(dict.fromkeys(sentences or prompts(config))), priors, seeds, folder)


def _priors_of(values: flags.FlagValues) -> list[tuple[str, str]]:
    """What --priors names; without it the main job's --prior and --prior_path, as its flag files give them."""
    name, path = values["prior"], str(values["prior_path"].value)
    if values["priors"].present or not name.present:
        if path:
            raise UserError(f"a study takes --priors=NAME=PATH,..., not --prior_path; got --prior_path={path}.")
        return parse_priors(values.priors)
    return [(str(name.value), path)]


def _launcher(
    values: flags.FlagValues, console: Console
) -> Callable[[Sequence[Cell], Callable[[Cell, Record], None]], None]:
    if values.launcher == "local":
        return lambda cells, on_done: launch_here(cells, on_done, console)
    from md_jax.study_ray import Resources, launch

    resources = Resources(values.cpus_per_cell, values.gpus_per_cell, values.retries, values.ray_address)
    return lambda cells, on_done: launch(cells, on_done, resources, run_cell)


def _computed() -> set[str]:
    """Names of the options that say what is computed."""
    return {field.name for field in dataclasses.fields(Config)} - set(workdir.FREE_ON_RESUME)


def _define_flags() -> None:
    flags.DEFINE_multi_string("prompts", [], "Prompts, separated by semicolons or given one a flag; or --prompts_file.")
    flags.DEFINE_list("priors", ["embedded"], "Priors: name, or name=PATH of its folder; default: the flag file's.")
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_boolean("evaluate", True, "Compare the motions with real ones.")
    flags.DEFINE_enum("launcher", "local", ["local", "ray"], "Where cells run: here, or each as a Ray task.")
    flags.DEFINE_float("cpus_per_cell", 1.0, "Ray: CPU cores a cell is given.", lower_bound=0)
    flags.DEFINE_float("gpus_per_cell", 0.0, "Ray: GPUs a cell is given; 0.5 puts two on one.", lower_bound=0)
    flags.DEFINE_integer("retries", 2, "Ray: how often a cell whose worker died is started again.", lower_bound=0)
    flags.DEFINE_string("ray_address", "", "Ray: the cluster ('auto': the one running here); empty: start one here.")


if __name__ == "__main__":
    from md_jax import study  # by its name, under which Ray's workers find what they are sent

    study._define_flags()
    flags.adopt_module_key_flags(study)
    flags.adopt_module_key_flags(options)
    app.run(study.main)
