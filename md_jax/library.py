"""The main job as a function: a sentence in, a motion out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from md_jax.errors import UserError
from md_jax.mocap.motion import Motion, load_motion

if TYPE_CHECKING:
    from md_jax.config import Config

Option = str | int | float | bool | tuple[float, ...]


def make_motion(prompt: str, *, workdir: str | Path = "", show: bool = False, **options: Option) -> Motion:
    """Turn a sentence into motion.

    Args:
        prompt: the sentence.
        workdir: the run's folder, as --workdir names it, with all its files; empty: a temporary one.
        show: print what a command line shows.
        options: any other option of the main job by its name: seed=3, prior="modelscope", prior_path="FOLDER" ...

    Returns:
        The motion as its file has it: 30 frames a second.

    Raises:
        UserError: an option or the sentence cannot be used.
        DivergedError: the optimisation broke down.
    """
    if options.get("num_motions", 1) != 1:
        raise UserError(
            f"make_motion makes one motion, got num_motions={options['num_motions']}: make_motions makes several."
        )
    (motion,) = make_motions([prompt], workdir=workdir, show=show, **options)
    return motion


def make_motions(
    prompts: Sequence[str], *, workdir: str | Path = "", show: bool = False, **options: Option
) -> list[Motion]:
    """Turn sentences into motions, all in one optimisation; arguments and errors as in `make_motion`.

    With num_motions=4 each sentence has four motions, one after the other.
    """
    from md_jax import main
    from md_jax.options.resolve import resolve
    from md_jax.run import torch_side
    from md_jax.run import workdir as folders

    taken = {"prompt", "prompts_file", "resume"} & set(options)
    if taken:
        raise UserError(f"make_motion takes the sentences themselves: leave out {', '.join(sorted(taken))}.")
    if not prompts or any(not prompt.strip() or prompt.lstrip().startswith("#") for prompt in prompts):
        raise UserError(f"make_motions needs sentences, got {list(prompts)!r}.")
    with tempfile.TemporaryDirectory(prefix="md_jax-") as temporary, torch_side.threads():
        given = {"control_run": False, **options, "workdir": str(workdir or Path(temporary, "run"))}
        if len(prompts) == 1:
            given["prompt"] = prompts[0]
        else:
            lines = Path(temporary, "prompts.txt")
            lines.write_text("\n".join(" ".join(prompt.split()) for prompt in prompts) + "\n", encoding="utf-8")
            given["prompts_file"] = str(lines)
        config: Config = resolve(given)
        if config.mode == "latent":
            raise UserError(f"--mode={config.mode} makes videos, not motions: use the command line.")
        config, home = folders.open_run(config, set())
        written = main.run_job(config, home, Console(quiet=not show))
        return [load_motion(each / "motion.npz") for each in written]
