"""The main job: ``md-jax "a person is running"``, or ``python -m md_jax.main --flagfile=configs/run.flags``.

Heavy imports stand inside functions, so that --help answers at once.
"""

from __future__ import annotations

import functools
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags
from rich.console import Console
from rich.markup import escape

from md_jax.config import Config, prompts
from md_jax.errors import DivergedError, UserError, kept_traceback, of_surroundings, one_line
from md_jax.files import make_folder
from md_jax.options import command
from md_jax.options.flags import define_flags, define_quick, define_timeline, from_flags
from md_jax.options.help import config_groups
from md_jax.outside import environment, interrupts

if TYPE_CHECKING:
    from md_jax.fit.problems import CriticLoss, Params
    from md_jax.fit.train import TrainState
    from md_jax.run.build import Job

CONTROL = "control"  # folder of the control run inside the run's folder


USAGE = 'md-jax "a person is running" [flags]'


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, and turn what the user can put right into one line.

    Args:
        argv: what follows the program's name; default: the command line.
    """
    argv = sys.argv[1:] if argv is None else argv
    interrupts.notice()
    environment.prepare()
    console = Console(highlight=False)
    folder: Path | None = None
    try:
        from md_jax.run import workdir

        config, folder = workdir.open_run(*read_options(argv), functools.partial(_say, console))
        run_job(config, folder, console)
        interrupts.ignore()  # all is done: what comes now would only make noise
    except (UserError, DivergedError) as error:
        _stop(f"error: {one_line(error)}", 2)
    except KeyboardInterrupt as stopped:
        go_on = f"go on with: {_python()} -m md_jax.main --workdir={shlex.quote(str(folder))} --resume"
        code = stopped.code if isinstance(stopped, interrupts.Stopped) else 130
        resumable = folder is not None and (folder / "run.flags").exists()
        _stop(f"stopped; {go_on}" if resumable else "stopped before anything was made.", code)
    except (OSError, MemoryError) as error:
        _stop(f"error: {one_line(error)}", 2)
    except Exception as error:
        if (said := of_surroundings(error)) and folder is not None:
            workdir.discard_unused(folder)
        _stop(f"error: {said or kept_traceback(error, folder)}", 2 if said else 1)


def read_options(argv: Sequence[str]) -> tuple[Config, set[str]]:
    """The options of a command line, and the names of those that were typed (not read from a flag file).

    Raises:
        UserError: the command line cannot be used.
    """

    def define(values: flags.FlagValues) -> None:
        define_flags(values)
        define_quick(values)
        define_timeline(values)

    summary = "A sentence becomes human motion. Without flags: the embedded prior, the free body, this machine."
    values, rest = command.parse(argv, define, config_groups, usage=USAGE, summary=summary)
    typed = command.typed(argv)
    sentence = command.sentence_of(rest, "md-jax")
    if sentence is not None and "prompt" in typed:
        raise UserError(f"two prompts: {sentence!r} and --prompt={values['prompt'].value}; leave one of them out.")
    config = from_flags(values) if sentence is None else from_flags(values, prompt=sentence)
    if config.prior != Config.prior and not config.prior_path and not config.resume:
        raise UserError(f"--prior={config.prior} does not ship with the program: give --prior_path, its folder or"
                        f" hub id (configs/{config.prior}.flags names it).")  # fmt: skip
    return config, typed | ({"prompt"} if sentence is not None else set())


def run_job(config: Config, folder: Path, console: Console) -> list[Path]:
    """Make the motions of a config in `folder`, whose lock is given back at the end; returns the folder of each motion.

    Raises:
        UserError, DivergedError: what the user can put right.
    """
    from md_jax.outside import lock

    try:
        return _run_locked(config, folder, console)
    finally:
        lock.release(folder)


def _run_locked(config: Config, folder: Path, console: Console) -> list[Path]:
    from md_jax.run import workdir

    try:
        sentences = prompts(config)
        heard = _hear(config, sentences)  # before anything heavy: a refusal should come at once
        _look_at_character(config)
    except UserError:
        workdir.discard_unused(folder)
        raise
    _say(console, f"heard: {heard}".replace("\n", "\n       "))
    from md_jax.presets import user_errors

    with user_errors():
        return _run(config, sentences, folder, console)


def _run(config: Config, sentences: list[str], folder: Path, console: Console) -> list[Path]:
    from md_jax.body.detail import surface_digest
    from md_jax.output.export import make_renderer
    from md_jax.run import workdir
    from md_jax.run.build import make_job
    from md_jax.run.inputs import check_inputs
    from md_jax.run.results import RESULTS

    start = time.perf_counter()
    try:
        environment.keep_compiled()
        job = make_job(config, sentences)
    except Exception:
        workdir.discard_unused(folder)
        raise
    shown = escape(str(folder))
    console.print(f"[bold]md_jax[/] turns a sentence into motion; everything goes to [bold]{shown}[/]", soft_wrap=True)
    for name, value in job.choices:
        console.print(f"  {name:<9} {value}".replace("\n", "\n" + " " * 12), markup=False)
    check_inputs(folder, config, sentences, surface_digest(job.surface), functools.partial(_say, console))
    workdir.write_json(folder / "environment.json", workdir.environment(_devices(), job.clip))

    render_frames, results = make_renderer(job.body, job.device), RESULTS[config.mode]
    render_drawn = make_renderer(job.surface, job.device)  # what the previews show

    def on_preview(step: int, shown: Any) -> None:
        path = folder / "previews" / f"step-{step:05d}.png"
        make_folder(path.parent)
        results.write_preview(path, job, shown, f"step {step} of {config.steps}", render_drawn)

    op = job.control if config.guidance_scale == 0 else job.op
    state = _fit(job, config, op, job.params, folder, console, "motion ", on_preview)
    control = None
    if config.control_run:
        make_folder(folder / CONTROL)
        control = _fit(job, config, job.control, job.control_params, folder / CONTROL, console, "control")

    console.print("writing pictures, video and motion files ...")
    folders = results.write_outputs(job, folder, state, control, render_frames)
    took = f"{_minutes(time.perf_counter() - start)}, with {_memory()}"
    where = f"[bold]{shown}[/]" if len(folders) == 1 else f"each folder [bold]{shown}/motion-NN[/]"
    console.print(f"done in {took}. What came out, in {where}:", soft_wrap=True)
    for line in results.files(config, len(folders) > 1):
        _say(console, "  " + line)
    return folders


# --- the parts of the job ---------------------------------------------------------------------------------------


def _fit(
    job: Job,
    config: Config,
    op: CriticLoss,
    params: Params,
    folder: Path,
    console: Console,
    title: str,
    on_preview: Callable[[int, Any], None] | None = None,
) -> TrainState:
    """Optimise with a progress line and metrics."""
    from md_jax.fit.train import fit
    from md_jax.run.logs import Metrics, progress_line

    metrics: Metrics | None = None
    op.traffic.reset()  # what was counted before is not this run's
    with progress_line(console, title, config.steps) as update:

        def on_log(step: int, line: dict[str, Any]) -> None:
            nonlocal metrics
            metrics = metrics or Metrics(folder, step - 1, tell)
            traffic = op.traffic.snapshot()
            op.traffic.reset()
            parts = {name: round(seconds / traffic.calls, 5) for name, seconds in op.parts.take().items()}
            metrics.append(step, {**line, "parts_seconds": parts, "torch_calls": traffic.calls,
                                  "bytes_aliased": traffic.aliased, "bytes_copied": traffic.copied})  # fmt: skip
            update(step, line)

        def tell(text: str) -> None:
            _say(console, f"{title}  {text}")

        guided = op is job.op and config.guidance_scale > 0
        state = fit(config, job.problem, params, op, folder, on_log=on_log, on_preview=on_preview, tell=tell,
                    guided=guided)  # fmt: skip
    if metrics is not None:
        metrics.flush()
    return state


def _hear(config: Config, sentences: list[str]) -> str:
    """What is understood of the prompts, by the priors that read them."""
    from md_jax.prompts.checks import check_prompt, hear
    from md_jax.prompts.vocabulary import actions_of_prior, words_of_prior

    words = words_of_prior(config.prior, config.prior_path)
    if config.distillation == "source" and config.source_prompt:
        check_prompt(config.source_prompt, words.actions)
    if config.image_prior != "none":
        hear(sentences, actions_of_prior(config.image_prior, config.image_prior_path))
    return hear(sentences, words.actions, words.manner)


def _look_at_character(config: Config) -> None:
    if config.character:
        from md_jax.retarget.animate import read_character

        read_character(config.character, config.character_map)


def _python() -> str:
    """The interpreter as one would type it here."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _devices() -> str:
    import jax

    return ", ".join(f"{d.platform} {d.device_kind}" for d in jax.devices())


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _memory() -> str:
    """The most memory that was used so far, in words."""
    from md_jax.run.torch_side import peak_memory

    peaks = {name: f"{mib / 1024:.1f} GiB" for name, mib in peak_memory().items()}
    card = f" and {peaks['torch']} of the GPU's by torch" if "torch" in peaks else ""
    return f"at most {peaks['host']} of memory{card}"


def _say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: square brackets are no markup, and a path is not broken over lines."""
    console.print(text, markup=False, soft_wrap=True, style=style)


def _stop(message: str, code: int) -> None:
    _say(Console(stderr=True, highlight=False), message, "red" if code == 2 else "yellow")
    sys.exit(code)


def run() -> None:
    """Entry point of the console script."""
    main()


if __name__ == "__main__":
    run()
