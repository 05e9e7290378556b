"""Prompts x priors x seeds: ``python -m md_jax.study --prompts="a person is walking; a person is running"``.

A cell is one run of `md_jax.main` in a folder of its own under --workdir; flags of the main job are passed on. The
same command again skips what is finished, goes on with what was interrupted and tries again what failed. At the end
come a figure (rows prompts x priors, columns frames, latent mode below pose mode where both are there), a table and
study.json.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console

from md_jax.config import Config, prompts
from md_jax.errors import UserError
from md_jax.files import resolved
from md_jax.options import command
from md_jax.options.flags import define_flags, define_quick, from_flags
from md_jax.options.help import Group, config_groups, flag_group
from md_jax.outside.texts import check_text, folded
from md_jax.presets import own_values
from md_jax.study.cells import Cell, Record, cells_of, is_done, launch_here, run_cell, run_study

DEFAULT_FOLDER = "study"
OWN_FLAGS = ("prompts", "priors", "seeds", "evaluate", "launcher", "cpus_per_cell", "gpus_per_cell", "retries",
             "ray_address")  # fmt: skip


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


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run all cells, report, inside `md_jax.options.command.program`.

    Args:
        argv: what follows the program's name; default: the command line.

    Raises:
        UserError: what the user can put right.
    """
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=110)
    values, rest = command.parse(sys.argv[1:] if argv is None else argv, define, groups, usage=USAGE, summary=SUMMARY)
    if rest:
        raise UserError(f"flags start with --; not understood: {' '.join(rest)}. Sentences go into --prompts.")
    for name in ("jax._src.xla_bridge", "matplotlib"):  # they tell of absent accelerators, of the fonts that they find
        logging.getLogger(name).setLevel(logging.WARNING)
    folder = resolved(values.workdir or DEFAULT_FOLDER)
    cells = _cells_of_flags(values, folder)
    run_study(cells, _launcher(values, console), console)
    from md_jax.presets import user_errors
    from md_jax.study.report import report

    with user_errors():
        report(folder, console, judge=values.evaluate)
    if failed := sum(not is_done(cell) for cell in cells):  # earlier commands' failures are theirs
        console.print(f"{failed} cells failed; the same command tries them again", style="yellow")
        sys.exit(1)


def _cells_of_flags(values: flags.FlagValues, folder: Path) -> list[Cell]:
    priors = _priors_of(values)
    for prior, path in priors:  # a wrong name should leave nothing in the folder
        own_values(prior, values["mode"].value, path)

    def config_of(name: str, path: str) -> Config:
        return from_flags(values, prior=name, prior_path=path)

    config = config_of(*priors[0])
    if config.num_motions != 1:
        raise UserError(f"a study takes --seeds, one motion a cell; got --num_motions={config.num_motions}.")
    sentences = [part.strip() for text in values.prompts for part in folded(text).split(";") if part.strip()]
    for text in sentences:  # before a folder is named after one
        check_text("prompts", text, sentence=True)
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
    from md_jax.study.ray import Resources, launch

    resources = Resources(values.cpus_per_cell, values.gpus_per_cell, values.retries, values.ray_address)
    return lambda cells, on_done: launch(cells, on_done, resources, run_cell)


USAGE = 'python -m md_jax.study --prompts="a person is walking; a person is running" [flags]'
SUMMARY = "A grid of runs, prompts x priors x seeds, with a figure and a table. Flags of the main job are passed on."


def define(values: flags.FlagValues) -> None:
    """The study's flags, and those of the main job."""
    own: dict[str, Any] = {"flag_values": values}
    several = "Prompts, separated by semicolons or given one a flag; or --prompts_file."
    flags.DEFINE_multi_string("prompts", [], several, **own)
    flags.DEFINE_list("priors", ["embedded"], "Names, or name=PATH of a folder; default: the flag file's.", **own)
    flags.DEFINE_list("seeds", ["0"], "Seeds.", **own)
    flags.DEFINE_boolean("evaluate", True, "Compare the motions with real ones.", **own)
    flags.DEFINE_enum("launcher", "local", ["local", "ray"], "Where cells run: here, or each as a Ray task.", **own)
    flags.DEFINE_float("cpus_per_cell", 1.0, "Ray: CPU cores a cell is given.", lower_bound=0, **own)
    flags.DEFINE_float("gpus_per_cell", 0.0, "Ray: GPUs a cell is given; 0.5 puts two on one.", lower_bound=0, **own)
    flags.DEFINE_integer(
        "retries", 2, "Ray: how often a cell whose worker died is started again.", lower_bound=0, **own
    )
    flags.DEFINE_string("ray_address", "", "Ray: the cluster ('auto': the one running here); empty: start one here.",
                        **own)  # fmt: skip
    define_flags(values)
    define_quick(values)


def groups(values: flags.FlagValues) -> list[Group]:
    """The study's flags, then those of the main job."""
    return [flag_group("The study", values, OWN_FLAGS), *config_groups(values)]
