"""Putting the pieces of a run together: body, statistics, problem, and the torch side (`md_jax.run.torch_side`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from md_jax.body import lbs
from md_jax.body.detail import Surface
from md_jax.body.framing import Lens, cameras_on, check_framing, surface_of
from md_jax.body.model import Body, load_body
from md_jax.config import Config, prompts
from md_jax.control.reading import asked_of
from md_jax.control.targets import make_targets
from md_jax.draws.draw import ImageShape
from md_jax.errors import UserError
from md_jax.fit.posefield import Fields, Span, mean_pose
from md_jax.fit.problems import CriticLoss, Params, PoseProblem, Problem, followed, make_fields
from md_jax.fit.starts import check_fit, first_render, fitted_starts, with_coherence
from md_jax.fit.train import draws_at, optimizer_of, starts_at
from md_jax.mocap.poseprior import clips_for
from md_jax.mocap.statistics import PoseStatistics, load_statistics, resolve_action
from md_jax.options.memory import check_memory, estimate
from md_jax.presets import camera_of
from md_jax.prompts.parts import Part, lasts_one_clip, parts_of
from md_jax.prompts.views import arcs_of
from md_jax.run import torch_side
from md_jax.timeline.plan import Clip, Plan, length_line, plan

if TYPE_CHECKING:
    from bridge.build import TorchSide

Chosen = Sequence[tuple[PoseStatistics, str]]
"""The statistics of each part of a motion, and why these."""


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that a run needs, and what was chosen for it."""

    config: Config
    prompts: list[str]  # one a motion
    statistics: list[tuple[PoseStatistics, ...]]  # of each motion's parts
    body: Body
    baked: lbs.BakedBody  # all of it, in the run's shape
    surface: Surface  # the part that the problem moves and the critic sees
    problem: Problem
    params: Params  # before the first step
    op: CriticLoss
    control: CriticLoss  # guidance 0: the prior without the sentence (by SDS; CSD without guidance is no force at all)
    control_params: Params  # where that begins: a fit samples without the sentence, too
    clip: Clip  # that the prior judges; a motion may be longer
    device: str
    choices: list[tuple[str, str]]  # (name, value) of what was chosen, for the terminal
    measured: dict[str, float]  # before the first step, for the summary

    @property
    def actions(self) -> list[str]:
        """Whose statistics each motion uses."""
        return [actions_of(parts) for parts in self.statistics]

    @property
    def fps(self) -> float:
        """Frames a second of what is optimised."""
        return self.clip.fps


def make_job(config: Config, sentences: Sequence[str] | None = None) -> Job:
    """Load and check everything before anything is computed.

    Args:
        config: the options.
        sentences: the prompt of each motion, where they have been read already; default: `prompts(config)`.

    Raises:
        UserError: an option does not fit the prior, the body or the statistics, or the torch side cannot be built.
    """
    optimizer_of(config)  # an unknown name should not wait until everything is loaded
    if config.mode == "fit":
        check_fit(config.prior)
    device = torch_side.start(config.device)
    sentences = prompts(config) if sentences is None else list(sentences)
    parts = [parts_of(sentence) for sentence in sentences]
    if config.mode == "latent" and any(len(each) > 1 for each in parts):
        raise UserError("--mode=latent makes one clip of one sentence: leave the bars out of the prompt.")
    asked = asked_of(config)
    chosen = [statistics_of(config, each) for each in parts]
    body = load_body(config.body, config.gender)
    if len(config.betas) > body.shapedirs.shape[-1]:
        raise UserError(
            f"--betas: this body has {body.shapedirs.shape[-1]} shape axes, got {len(config.betas)} numbers."
        )
    size = (config.frames or 2, config.height or 64, config.width or 64)  # None: the prior's own, not loaded yet
    check_memory(estimate(config, len(sentences), *size, len(body.v_template)))
    baked = lbs.bake(body, betas=jnp.asarray(config.betas) if config.betas else None)
    arcs = arcs_of(sentences, config.azimuths)
    check_start(config, sentences, chosen, body, baked, arcs)
    spoken = [part.sentence for each in parts for part in each]
    alone = [lasts_one_clip(each, config.seconds) and not config.loop for each in parts]  # no windows, no seam
    motions = [config.first_motion + m if alone[m] else None for m, each in enumerate(parts) for _ in each]
    built, surface = torch_side.build(config, device, spoken, body, motions=motions)
    check_memory(estimate(config, len(sentences), built.frames, built.height, built.width, len(body.v_template)))

    elevation = tuple(math.radians(e) for e in config.elevation) or built.spec.elevation
    clip = Clip(built.frames, built.fps, built.spec.frame_stride)
    length = plan(config, parts, clip)
    fields, params = fields_of(config, chosen, length, clip)
    targets = None
    if asked:
        targets = make_targets(asked, body, baked, frames=length.frames, fps=clip.fps, loop=config.loop)
    posed = PoseProblem(
        fields=fields,
        baked=lbs.select(baked, surface.vertices),
        key=jax.random.key(config.seed),
        latent_shape=built.latent_shape,
        azimuth_ranges=arcs,
        elevation_range=(elevation[0], elevation[-1]),
        image=None if built.image is None else ImageShape(built.frames, built.image.latent_shape),
        windows=length.windows,
        targets=targets,
    )
    problem: Problem = posed
    if config.mode == "latent":
        problem, params = first_render(config, posed, params, built)
    elif config.noise == "coherent":
        problem = with_coherence(posed, params, built)
    control_params = params
    if config.mode == "fit":
        likely = [each[0][0] if len(each) == 1 else load_statistics() for each in chosen]
        clips = clips_for({each.action for each in likely}, config.statistics)
        scales = [config.guidance_scale, 0.0] if config.control_run else [config.guidance_scale]
        starts = fitted_starts(config, posed, params, built, likely, clips, scales)
        params, control_params = starts[0], starts[-1]
    measured = _measure(config, problem, params, built)
    return Job(
        config=config,
        prompts=sentences,
        statistics=[tuple(statistics for statistics, _ in each) for each in chosen],
        body=body,
        baked=baked,
        surface=surface,
        problem=problem,
        params=params,
        op=built.guided,
        control=built.unguided,
        control_params=control_params,
        clip=clip,
        device=device,
        choices=_choices(
            config,
            device,
            sentences,
            [why for each in chosen for _, why in each],
            body,
            surface,
            built,
            length_line(length, clip, config.loop) if length.windows else "",
            measured,
        ),
        measured=measured,
    )


def check_start(
    config: Config,
    sentences: Sequence[str],
    chosen: Sequence[Chosen],
    body: Body,
    baked: lbs.BakedBody,
    arcs: Sequence[Sequence[tuple[float, float]]],
) -> None:
    """Refuse a start that the cameras see too little of, before the prior's weights are read.

    Nothing moves at the start: it is the mean pose of each part of a motion.

    Args:
        config, sentences, chosen: the options, and of each motion its prompt and the statistics of its parts.
        body, baked: what is filmed.
        arcs: of each motion (`md_jax.prompts.views.arcs_of`).

    Raises:
        UserError: less than `LEAST` of the body is in the picture.
    """
    prior = camera_of(config.prior, config.prior_path)
    if prior is None:
        return
    height = config.height or prior.height
    width = config.width // prior.cameras if config.width else prior.width
    lens = Lens(
        distance=config.distance or prior.distance,
        fov=math.radians(config.fov) if config.fov else prior.fov,
        aspect=width / height if height and width else None,
        target=torch_side.body_centre(body),
    )
    elevation = tuple(math.radians(e) for e in config.elevation) or prior.elevation
    areas = surface_of(body)
    seen = set()
    for sentence, parts, own in zip(sentences, chosen, arcs, strict=True):
        cameras = cameras_on(own, (elevation[0], elevation[-1]))
        for statistics, _ in parts:
            if (key := (id(statistics), tuple(own))) in seen:
                continue
            seen.add(key)
            pose = followed(mean_pose(statistics, config.root, config.rotation))
            verts = lbs.pose(baked, pose.body, pose.root, pose.transl)
            check_framing(np.asarray(verts[0]), areas, cameras, lens, sentence, config.root)


def statistics_of(config: Config, parts: Sequence[Part]) -> Chosen:
    """The statistics of a motion's parts, and why these."""
    chosen = []
    for part in parts:
        action, why = resolve_action(config.action, part.sentence, config.statistics)
        chosen.append((load_statistics(action, config.statistics), why))
    return chosen


def actions_of(parts: Iterable[PoseStatistics]) -> str:
    """The actions of a motion's parts, as one name."""
    return ", then ".join(part.action for part in parts)


def fields_of(config: Config, chosen: Sequence[Chosen], length: Plan, clip: Clip) -> tuple[Fields, Params]:
    """The PoseFields of a run's motions and their parameters before the first step.

    Args:
        config: the options.
        chosen: of each motion.
        length: of the motions.
        clip: that the prior judges.
    """
    over_time: list[PoseStatistics | Sequence[Span]] = []
    for each, stretches in zip(chosen, length.stretches, strict=True):
        spans = [Span(s, part.first, part.end) for (s, _), part in zip(each, stretches, strict=True)]
        over_time.append(spans[0].statistics if len(spans) == 1 else spans)
    return make_fields(config, over_time, length.frames, clip.frames)


def _measure(config: Config, problem: Problem, params: Params, built: TorchSide) -> dict[str, float]:
    """What is worth knowing before the first step: how well the gradient through a tiny VAE fits the VAE's own."""
    if not config.tiny_vae:
        return {}
    motions = jax.tree.leaves(params)[0].shape[0]
    start = starts_at(config, problem, jnp.zeros((), jnp.int32), problem.key)
    shown, _ = problem.show(params, problem.arrays, start)
    built.guided.loss_and_grad(shown, draws_at(config, problem, motions, jnp.zeros((), jnp.int32), problem.key))
    cosine = built.tiny_vae_cosine()
    assert cosine is not None  # a gradient has been taken
    return {"tiny_vae_gradient_cosine": round(cosine, 6)}


def _choices(
    config: Config,
    device: str,
    sentences: list[str],
    actions: list[str],
    body: Body,
    surface: Surface,
    built: TorchSide,
    length: str,
    measured: dict[str, float],
) -> list[tuple[str, str]]:
    """What was chosen, for the terminal."""
    frames, size = built.frames, f"{built.width}x{built.height}"
    seconds = (frames - 1) / built.fps
    coarse = len(surface.triangles) < len(body.triangles)
    drawn = f"; drawn with {len(surface.triangles):,} of {len(body.triangles):,} triangles" if coarse else ""
    lines = [
        ("prompt", "\n".join(dict.fromkeys(sentences))),
        ("action", "\n".join(dict.fromkeys(actions))),
        ("prior", f"{built.spec.name}: {frames} frames of {size} pixels over {seconds:.1f} s"),
    ]
    if length:
        lines.append(("motion", length))
    if config.prior_path:
        lines.append(("weights", f"{built.spec.origin}; licence: {built.spec.licence}"))
    if built.image is not None:
        scale, pixels = torch_side.image_scale(config), built.image.size
        seen = f"{config.image_frames} of {frames} frames, {pixels}x{pixels} pixels"
        lines.append(("images", f"{config.image_prior}: {seen}, scale {scale:g}"))
    lines += [
        ("guidance", f"{config.distillation}, scale {config.guidance_scale:g}, {config.views} views a step"),
        ("body", f"{config.body}, {len(body.v_template):,} vertices{drawn}"),
        ("machine", f"{device}, {config.steps} steps, pictures by {built.renderer}"),
    ]
    if config.preset == "paper" and config.renderer != "nvdiffrast":
        lines.append(("preset", "paper, but for its renderer: nvdiffrast is not installed, and ours stands in"))
    for cosine in measured.values():
        lines.append(("tiny VAE", f"{config.tiny_vae}: cosine {cosine:.3f} with the gradient through the VAE itself"))
    lines += [("ignored", line) for line in built.ignored]
    return lines
