"""A run that is going on, seen from outside: its newest checkpoint as motions, and how far it has come.

Nothing here writes into the run's folder or takes its lock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from md_jax.body.model import Body, load_body
from md_jax.config import Config, prompts
from md_jax.errors import UserError
from md_jax.files import is_file, read_json
from md_jax.fit.checkpoint import Checkpoints
from md_jax.fit.optimizers import final_params
from md_jax.fit.posefield import Fields
from md_jax.fit.train import TrainState, init_state
from md_jax.ground.floor import on_floor
from md_jax.options.flags import from_flagfile
from md_jax.outside.lock import is_held
from md_jax.page.page import PAGE, data_of, page, previews_in
from md_jax.page.scene import MOST_COMPARED, Shown, body_of, motions_of
from md_jax.prompts.parts import parts_of
from md_jax.run.build import actions_of, fields_of, statistics_of
from md_jax.run.logs import read_metrics
from md_jax.run.outputs import made_of, motions_at, title_of
from md_jax.run.workdir import FLAGS_FILE
from md_jax.timeline.plan import Clip, plan

ENVIRONMENT = "environment.json"


@dataclasses.dataclass(frozen=True)
class Watched:
    """What stays as it is while a run goes on."""

    folder: Path
    config: Config
    prompts: list[str]
    actions: list[str]
    body: Body
    fps: float
    fields: Fields
    start: TrainState  # before the first step


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Args:
        step: the last one that is logged.
        going_on: whether a process works on it.
        finished: whether its page is written.
        text: all of it, for people.
    """

    step: int
    going_on: bool
    finished: bool
    text: str


def is_ready(folder: Path) -> bool:
    """Whether a run has loaded its prior, so that it can be watched.

    Raises:
        UserError: there is no run, or it ended before.
    """
    if not is_file(folder / FLAGS_FILE):
        raise UserError(f"there is no run in {folder}: it holds no {FLAGS_FILE}.")
    if is_file(folder / ENVIRONMENT):
        return True
    if not is_held(folder):
        raise UserError(f"the run in {folder} ended before it began to optimise.")
    return False


def watch(folder: Path) -> Watched:
    """Read what a run is made from.

    Raises:
        UserError: it has no body to show, or a file of it is missing, damaged or of another version.
    """
    config = from_flagfile(folder / FLAGS_FILE)
    if config.mode == "latent":
        raise UserError(f"--mode={config.mode} moves no body; its pictures so far are in {folder / 'previews'}.")
    clip = _clip(folder)
    sentences = prompts(config)
    parts = [parts_of(sentence) for sentence in sentences]
    chosen = [statistics_of(config, each) for each in parts]
    fields, params = fields_of(config, chosen, plan(config, parts, clip), clip)
    return Watched(
        folder=folder,
        config=config,
        prompts=sentences,
        actions=[actions_of(statistics for statistics, _ in each) for each in chosen],
        body=load_body(config.body, config.gender),
        fps=clip.fps,
        fields=fields,
        start=init_state(config, params),
    )


def progress(run: Watched, metrics: list[dict[str, Any]]) -> Progress:
    """How far the run is, from its files and its lock file alone."""
    step, steps = (metrics[-1]["step"] if metrics else 0), run.config.steps
    going_on, finished = is_held(run.folder), is_file(run.folder / PAGE)
    text = f"step {step} of {steps}"
    if going_on:
        text += "; its control or its files are being made" if step >= steps else ""
    else:
        text = f"finished, {text}" if finished else f"stopped at {text}"
    return Progress(step, going_on, finished, text)


def newest(run: Watched) -> tuple[int, list[Shown]]:
    """The step of the newest whole checkpoint, 0 where there is none yet, and its motions on the floor.

    Raises:
        UserError: there are checkpoints, but none is whole and of this run.
    """
    state = Checkpoints(run.folder / "checkpoints").restore(run.start)
    motions = motions_at(run, run.fields, final_params(state.opt_state, state.params))
    several = len(motions) > 1
    shown = [
        Shown(motion.prompt, on_floor(motion, run.body).motion, note=f"motion-{m:02d}" if several else "")
        for m, motion in enumerate(motions[:MOST_COMPARED])
    ]
    return int(state.step), shown


def answer(run: Watched, seen: int) -> dict[str, Any]:
    """What the page asks for again and again: how far the run is, and its motions where they are other than those of
    the step `seen`."""
    metrics = read_metrics(run.folder)
    now = progress(run, metrics)  # before the checkpoint: what is called finished below is the last one
    step, shown = newest(run)
    body = f"the body is that of step {step}"
    if step == 0 and run.config.mode == "fit":
        body = "the body stands in the mean pose until the first checkpoint holds what was fitted"
    made = made_of(run.config, run.actions, metrics, previews_in(run.folder), ())
    told: dict[str, Any] = {
        "step": step,
        "status": f"{now.text}; {body}",
        "going_on": now.going_on,
        "finished": PAGE if now.finished and not now.going_on else "",
        **data_of(made),
    }
    return {**told, "motions": motions_of(shown)} if step != seen else told


def whole_page(run: Watched, told: Mapping[str, Any]) -> str:
    """The page that a browser opens; `told` is an answer with motions."""
    shape = motions_at(run, run.fields, run.start.params)[0]
    return page(title_of(run.prompts), {**told, "body": body_of(run.body, shape), "left_out": 0, "live": True})


def _clip(folder: Path) -> Clip:
    """The clip that is judged, as the run has recorded it."""
    recorded = read_json(folder / ENVIRONMENT)
    stated = recorded.get("clip") if isinstance(recorded, dict) else None
    try:
        clip = Clip(**stated)  # type: ignore[arg-type]  # a TypeError where it is none
        if clip.frames >= 2 and clip.fps > 0 and clip.frame_stride >= 1:
            return clip
    except TypeError:
        pass
    raise UserError(f"{folder / ENVIRONMENT} does not say what clip is optimised: an older version began this run.")
