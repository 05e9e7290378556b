"""The main job's options, for benchmarks that make motions of several actions with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.options.command import parse
from md_jax.options.flags import define_flags, from_flags
from md_jax.options.help import config_groups
from md_jax.prompts.vocabulary import prompt_of_action


def config_of(flagfile: str, actions: Sequence[str], file: Path, more: Sequence[str]) -> Config:
    """The options of a flag file with one prompt an action.

    Args:
        flagfile: of the main job.
        actions: what the motions show, in this order.
        file: where the prompts are written.
        more: further flags of the main job.

    Raises:
        UserError: an action, a flag or a value that does not exist, or a flag file that cannot be read.
    """
    prompts = list(map(prompt_of_action, actions))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(prompts) + "\n", encoding="utf-8")
    argv = [f"--flagfile={flagfile}", f"--prompts_file={file}", *more]
    values, left = parse(argv, define_flags, config_groups, usage="", summary="")
    if left:
        raise UserError(f"flags start with --; not understood: {' '.join(left)}")
    return from_flags(values)
