"""Putting the pieces of a run together: body, statistics, problem, and the torch side (`md_jax.run.torch_side`)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from md_jax.body import lbs
from md_jax.body.model import Body, load_body
from md_jax.config import Config, prompts
from md_jax.errors import UserError
from md_jax.fit.draws import ImageShape
from md_jax.fit.losses import CriticLoss
from md_jax.fit.match import field_at, fit_clips
from md_jax.fit.problems import LatentProblem, Params, PoseProblem, Problem, make_fields
from md_jax.fit.train import draws_at, optimizer_of
from md_jax.mocap.poseprior import pose_prior, prior_clips
from md_jax.mocap.statistics import PoseStatistics, load_statistics, resolve_action
from md_jax.outside.memory import check_memory, estimate
from md_jax.prompts.views import azimuth_arcs
from md_jax.run import torch_side

if TYPE_CHECKING:
    from bridge.build import TorchSide

CIRCLE = [(-math.pi, math.pi)]
SIDE = math.radians(75)  # where a sample is filmed from, if nothing says otherwise: from here no limb hides another
_SAMPLE = 2**31 - 2  # folded into a motion's key for the noise of its sample


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything that a run needs, and what was chosen for it."""

    config: Config
    prompts: list[str]  # one a motion
    actions: list[str]  # whose statistics each motion uses
    body: Body
    problem: Problem
    params: Params  # before the first step
    op: CriticLoss
    control: CriticLoss  # guidance 0: the prior without the sentence (by SDS; CSD without guidance is no force at all)
    frames: int
    fps: float
    device: str
    choices: list[tuple[str, str]]  # (name, value) of what was chosen, for the terminal
    measured: dict[str, float]  # before the first step, for the summary


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
        _check_fit(config)
    device = torch_side.start(config.device)
    sentences = prompts(config) if sentences is None else list(sentences)
    chosen = [_statistics(config, sentence) for sentence in sentences]
    body = load_body(config.body, config.gender)
    if len(config.betas) > body.shapedirs.shape[-1]:
        raise UserError(
            f"--betas: this body has {body.shapedirs.shape[-1]} shape axes, got {len(config.betas)} numbers."
        )
    size = (config.frames or 2, config.height or 64, config.width or 64)  # None: the prior's own, not loaded yet
    check_memory(estimate(config, len(sentences), *size, len(body.v_template)))
    baked = lbs.bake(body, betas=jnp.asarray(config.betas) if config.betas else None)
    built = torch_side.build(config, device, sentences, body)

    # A view in the prompt wins over the circle, --azimuths over both.
    arcs = [azimuth_arcs(sentence) or CIRCLE for sentence in sentences]
    if config.azimuths:
        arcs = [[(math.radians(a), math.radians(a)) for a in config.azimuths]] * len(sentences)
    elevation = tuple(math.radians(e) for e in config.elevation) or built.spec.elevation
    fields, params = make_fields(config, [statistics for statistics, _ in chosen], built.frames)
    posed = PoseProblem(
        fields=fields,
        baked=baked,
        key=jax.random.key(config.seed),
        latent_shape=built.latent_shape,
        azimuth_ranges=arcs,
        elevation_range=(elevation[0], elevation[-1]),
        image=None if built.image is None else ImageShape(built.frames, built.image.latent_shape),
    )
    problem: Problem = posed
    if config.mode == "latent":
        problem, params = first_render(config, posed, params, built)
    if config.mode == "fit":
        params = fitted_start(config, posed, params, built, [statistics for statistics, _ in chosen])
    measured = _measure(config, problem, params, built)
    return Job(
        config=config,
        prompts=sentences,
        actions=[statistics.action for statistics, _ in chosen],
        body=body,
        problem=problem,
        params=params,
        op=built.guided,
        control=built.unguided,
        frames=built.frames,
        fps=built.fps,
        device=device,
        choices=_choices(config, device, sentences, [why for _, why in chosen], body, built, measured),
        measured=measured,
    )


def first_render(
    config: Config, problem: PoseProblem, params: Params, built: TorchSide
) -> tuple[LatentProblem, Params]:
    """Film every motion once, from the camera that its first step draws, and keep that camera for the sentence.

    Args:
        config, problem, params: as pose mode would begin.
        built: films and encodes.

    Returns:
        What stays fixed from here on, and the parameters {"z": latents of the first render}.
    """
    drawn = draws_at(config, problem, len(problem.azimuth_ranges), jnp.zeros((), jnp.int32), problem.key)
    azimuth, elevation = (x[:: config.views] for x in (drawn.azimuth, drawn.elevation))
    z = built.first_latents(problem.vertices(params), azimuth, elevation)
    cameras = [[(angle, angle)] for angle in np.asarray(azimuth, float).tolist()]
    latent = LatentProblem(problem.key, problem.latent_shape, cameras, problem.elevation_range, decode=built.decode)
    return latent, {"z": z}


def fitted_start(
    config: Config, problem: PoseProblem, params: Params, built: TorchSide, statistics: Sequence[PoseStatistics]
) -> Params:
    """Sample a clip of every motion, and fit its PoseField to that (`md_jax.fit.match`).

    Args:
        config, problem, params: as pose mode would begin.
        built: samples, films and compares.
        statistics: of each motion, for what poses are likely.

    Returns:
        The parameters to go on from; the same for the same seed.
    """
    cameras, keys = [], []
    for m, arcs in enumerate(problem.azimuth_ranges):
        cameras.append(SIDE if arcs == CIRCLE else sum(arcs[0]) / 2)
        keys.append(jax.random.fold_in(jax.random.fold_in(problem.key, m), _SAMPLE))
    azimuth = jnp.asarray(cameras, jnp.float32)
    elevation = jnp.full_like(azimuth, sum(problem.elevation_range) / 2)
    noise = jnp.stack([jax.random.normal(key, problem.latent_shape) for key in keys])
    video = built.sample(azimuth, noise, config.sample_steps, config.guidance_scale)
    clips = prior_clips(config.statistics)
    by_action = {each.action: pose_prior(clips, each, problem.baked) for each in statistics}
    priors = [by_action[each.action] for each in statistics]
    poses = fit_clips(
        priors, problem.baked, azimuth, elevation, video, built.distances, built.pictures, config.fit_steps
    )
    return field_at(problem.fields, params, poses)


def _check_fit(config: Config) -> None:
    """Refuse what a fit cannot do, before anything is loaded."""
    if config.prior != "embedded":
        raise UserError(f"--mode=fit compares pictures of our own body pixel by pixel, and samples of"
                        f" --prior={config.prior} show others: use --prior=embedded, or --mode=pose.")  # fmt: skip
    if config.root != "fixed":
        raise UserError(f"--mode=fit fits the joints alone, got --root={config.root}: add --root=fixed.")


def _statistics(config: Config, sentence: str) -> tuple[PoseStatistics, str]:
    """The statistics of a motion, and why these."""
    action, why = resolve_action(config.action, sentence, config.statistics)
    return load_statistics(action, config.statistics), why


def _measure(config: Config, problem: Problem, params: Params, built: TorchSide) -> dict[str, float]:
    """What is worth knowing before the first step: how well the gradient through a tiny VAE fits the VAE's own."""
    if not config.tiny_vae:
        return {}
    motions = jax.tree.leaves(params)[0].shape[0]
    shown, _ = problem.show(params, problem.arrays)
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
    built: TorchSide,
    measured: dict[str, float],
) -> list[tuple[str, str]]:
    """What was chosen, for the terminal."""
    frames, size = built.frames, f"{built.width}x{built.height}"
    seconds = (frames - 1) / built.fps
    lines = [
        ("prompt", "\n".join(dict.fromkeys(sentences))),
        ("action", "\n".join(dict.fromkeys(actions))),
        ("prior", f"{built.spec.name}: {frames} frames of {size} pixels over {seconds:.1f} s"),
    ]
    if config.prior_path:
        lines.append(("weights", f"{built.spec.origin}; licence: {built.spec.licence}"))
    if built.image is not None:
        scale, pixels = torch_side.image_scale(config), built.image.size
        seen = f"{config.image_frames} of {frames} frames, {pixels}x{pixels} pixels"
        lines.append(("images", f"{config.image_prior}: {seen}, scale {scale:g}"))
    lines += [
        ("guidance", f"{config.distillation}, scale {config.guidance_scale:g}, {config.views} views a step"),
        ("body", f"{config.body}, {len(body.v_template):,} vertices"),
        ("machine", f"{device}, {config.steps} steps, pictures by {built.renderer}"),
    ]
    if config.preset == "paper" and config.renderer != "nvdiffrast":
        lines.append(("preset", "paper, but for its renderer: nvdiffrast is not installed, and ours stands in"))
    for cosine in measured.values():
        lines.append(("tiny VAE", f"{config.tiny_vae}: cosine {cosine:.3f} with the gradient through the VAE itself"))
    lines += [("ignored", line) for line in built.ignored]
    return lines
