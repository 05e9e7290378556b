"""The main job as a function: a sentence in, a motion out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
        workdir: folder of the run, with all its files; empty: a temporary one that goes again.
        show: print what a command line shows.
        options: any other option of the main job by its name: seed=3, prior="modelscope", prior_path="FOLDER" ...

    Returns:
        The motion as its file has it: 30 frames a second.

    Raises:
        UserError: an option or the sentence cannot be used.
        DivergedError: the optimisation broke down.
    """
    (motion,) = make_motions([prompt], workdir=workdir, show=show, **options)
    return motion


def make_motions(
    prompts: Sequence[str], *, workdir: str | Path = "", show: bool = False, **options: Option
) -> list[Motion]:
    """Turn sentences into motions, all in one optimisation; arguments and errors as in `make_motion`."""
    from md_jax import main
    from md_jax.options.resolve import resolve
    from md_jax.run import workdir as folders

    taken = {"prompt", "prompts_file", "resume"} & set(options)
    if taken:
        raise UserError(f"make_motion takes the sentences themselves: leave out {', '.join(sorted(taken))}.")
    if not prompts or any(not prompt.strip() or prompt.lstrip().startswith("#") for prompt in prompts):
        raise UserError(f"make_motions needs sentences, got {list(prompts)!r}.")
    with _folder(workdir) as folder:
        given = {"control_run": False, **options, "workdir": str(folder / "run")}
        if len(prompts) == 1:
            given["prompt"] = prompts[0]
        else:
            lines = folder / "prompts.txt"
            lines.write_text("\n".join(" ".join(prompt.split()) for prompt in prompts) + "\n", encoding="utf-8")
            given["prompts_file"] = str(lines)
        config: Config = resolve(given)
        if config.mode != "pose":
            raise UserError(f"--mode={config.mode} makes videos, not motions: use the command line.")
        config, home = folders.open_run(config, set())
        written = main.run_job(config, home, Console(quiet=not show))
        return [load_motion(each / "motion.npz") for each in written]


@contextmanager
def _folder(workdir: str | Path) -> Iterator[Path]:
    if workdir:
        Path(workdir).mkdir(parents=True, exist_ok=True)
        yield Path(workdir)
    else:
        with tempfile.TemporaryDirectory(prefix="md_jax-") as name:
            yield Path(name)
