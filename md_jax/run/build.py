"""Putting the pieces of a run together: body, statistics, prior, cameras and the torch op."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from md_jax.body import lbs
from md_jax.body.model import Body, load_body
from md_jax.config import Config, prompts
from md_jax.errors import UserError
from md_jax.fit.train import Problem, TorchLoss, make_fields, optimizer_of
from md_jax.mocap.statistics import PoseStatistics, load_statistics, resolve_action
from md_jax.prompts.views import azimuth_arcs
from md_jax.run.guidance import embed, load_image_term, tiny_vae_cosine
from md_jax.run.latent import Decode, first_render, make_decode
from md_jax.run.machine import amounts, choose_renderer, tune_prior

CIRCLE = [(-math.pi, math.pi)]


@dataclasses.dataclass(frozen=True)
class Job:
    """Everything a run needs, and a few words for the terminal about what was chosen."""

    config: Config
    prompts: list[str]  # one a motion
    actions: list[str]  # whose statistics each motion uses
    body: Body
    problem: Any  # Problem; in latent mode LatentProblem
    params: Any  # what is optimised, before the first step
    op: TorchLoss
    control: TorchLoss  # guidance 0: the prior without the sentence (by SDS; CSD without guidance is no force at all)
    fps: float
    device: str
    words: list[tuple[str, str]]
    facts: dict[str, Any]  # what was measured before the first step, for the summary
    decode: Decode | None = None  # latent mode: latents (M, C, f, h, w) to (M, F, H, W, 3) uint8


def make_job(config: Config) -> Job:
    """Load and check everything before anything is computed.

    Raises:
        UserError: an option does not fit the prior, the body or the statistics.
        bridge.errors.BridgeError: the prior cannot be loaded, or does not know a prompt.
    """
    from bridge.configure import configure
    from bridge.distill import objectives as distill
    from bridge.distill.critic import TeacherSettings, make_teacher
    from bridge.distill.latents import make_latent_teacher
    from bridge.op import torch_loss
    from bridge.priors import load_prior
    from bridge.render.mesh import make_mesh
    from bridge.retry import sparing

    optimizer_of(config)  # an unknown name should not wait until everything is loaded
    device = configure(config.device)
    sentences = prompts(config)
    chosen = [_statistics(config, sentence) for sentence in sentences]
    body = load_body(config.body, config.gender)
    if len(config.betas) > body.shapedirs.shape[-1]:
        raise UserError(
            f"--betas: this body has {body.shapedirs.shape[-1]} shape axes, got {len(config.betas)} numbers."
        )
    baked = lbs.bake(body, betas=jnp.asarray(config.betas) if config.betas else None)

    # --- prior: its native clip unless the flags say otherwise
    dtype = config.dtype if config.dtype != "auto" else "float16" if device == "cuda" else "float32"
    prior = load_prior(config.prior, config.prior_path, device, dtype)
    tune_prior(prior, config, device)
    spec = prior.spec
    if spec.kind != "video":
        raise UserError(
            f"--prior={config.prior} makes pictures, not videos: choose a video prior, e.g. --prior=embedded."
        )
    if hasattr(prior, "set_fps"):  # models that are told the frame rate
        prior.set_fps(config.fps or spec.fps)
    if not config.scale_arr:
        if not hasattr(prior, "set_scale"):
            raise UserError(f"--noscale_arr is for VideoCrafter, and prior '{spec.name}' scales no latents.")
        prior.set_scale(False)
    if config.tiny_vae:
        from bridge.priors.tiny_vae import with_tiny_vae

        prior = with_tiny_vae(prior, config.tiny_vae)
    frames = config.frames or spec.frames
    height, width = config.height or spec.height, config.width or spec.width
    latent_shape = spec.latent_shape_of(frames, height, width)
    if hasattr(prior, "set_clip"):  # models that shift their times by the size of the clip
        prior.set_clip(frames, height, width)
    embedded = embed(config, prior, sentences)

    # --- cameras: a view in the prompt wins over the circle, --azimuths over both
    arcs = [azimuth_arcs(sentence) or CIRCLE for sentence in sentences]
    if config.azimuths:
        arcs = [[(math.radians(a), math.radians(a)) for a in config.azimuths]] * len(sentences)
    elevation = tuple(math.radians(e) for e in config.elevation) or spec.elevation
    batch, chunk = amounts(config)
    settings = TeacherSettings(
        height=height,
        width=width,
        distance=config.distance or spec.distance,
        fov=math.radians(config.fov) if config.fov else spec.fov,
        target=body_centre(body),
        background=tuple(config.background) or spec.background,  # type: ignore[arg-type]
        supersample=config.supersample,
        guidance=distill.Guidance(
            objective=config.distillation,
            scale=config.guidance_scale,
            scale_low=config.guidance_low,
            weighting=config.weighting,
            motion_amp=config.motion_amp,
            clip=config.residual_clip,
        ),
        antialias=config.antialias,
        prior_batch=batch,
        encode_chunk=chunk,
    )
    mesh = make_mesh(body.triangles, body.vertex_colors, device)
    settings = dataclasses.replace(settings, renderer=choose_renderer(config, device, body, mesh, height, width))
    image = None
    if config.image_prior != "none":
        image = load_image_term(config, sentences, frames, device, dtype)

    fields, params = make_fields(config, [statistics for statistics, _ in chosen], frames)
    decode: Decode | None = None
    problem: Any = Problem(
        fields=fields,
        baked=baked,
        key=jax.random.key(config.seed),
        latent_shape=latent_shape,
        azimuth_ranges=arcs,
        elevation_range=(elevation[0], elevation[-1]),
        image=image.shape if image else None,
    )
    if config.mode == "latent":
        problem, params = first_render(config, problem, params, prior, mesh, settings)
        decode = make_decode(prior, frames)

    retry = config.oom == "retry"

    def op_with(objective: str) -> TorchLoss:
        guidance = dataclasses.replace(settings.guidance, objective=objective)
        if config.mode == "latent":
            teacher = sparing(lambda s: make_latent_teacher(prior, embedded, guidance, s.prior_batch), settings, retry)
            return torch_loss(teacher, config.transport)
        term = None
        if image is not None:
            of_images = dataclasses.replace(image.term.guidance, objective=objective)
            term = dataclasses.replace(image.term, guidance=of_images)
        filmed = dataclasses.replace(settings, guidance=guidance)
        teacher = sparing(lambda s: make_teacher(prior, embedded, mesh, s, term), filmed, retry)
        return torch_loss(teacher, config.transport)

    op = op_with(config.distillation)
    seconds = (frames - 1) / (config.fps or spec.fps)
    words = [
        ("prompt", "\n".join(dict.fromkeys(sentences))),
        ("action", "\n".join(dict.fromkeys(why for _, why in chosen))),
        ("prior", f"{spec.name}: {frames} frames of {width}x{height} pixels over {seconds:.1f} s"),
        ("guidance", f"{config.distillation}, scale {config.guidance_scale:g}, {config.views} views a step"),
        ("body", f"{config.body}, {len(body.v_template):,} vertices"),
        ("machine", f"{device}, {config.steps} steps, pictures by {settings.renderer}"),
    ]  # fmt: skip
    if image is not None:
        words.insert(3, ("images", image.words))
    if config.preset == "paper" and config.renderer != "nvdiffrast":
        words.append(("preset", "paper, but for its renderer: nvdiffrast is not installed, and ours stands in"))
    facts: dict[str, Any] = {}
    if config.tiny_vae:
        facts["tiny_vae_gradient_cosine"] = cosine = tiny_vae_cosine(config, problem, params, prior, op)
        words.append(("tiny VAE", f"{config.tiny_vae}: cosine {cosine:.3f} with the gradient through the VAE itself"))
    return Job(
        config=config,
        prompts=sentences,
        actions=[statistics.action for statistics, _ in chosen],
        body=body,
        problem=problem,
        params=params,
        op=op,
        control=op_with("unguided"),
        fps=config.fps or spec.fps,
        device=device,
        words=words,
        facts=facts,
        decode=decode,
    )


def body_centre(body: Body) -> tuple[float, float, float]:
    """Where cameras look: the middle of the body's height in the rest pose, on its axis (metres)."""
    low, high = float(body.v_template[:, 1].min()), float(body.v_template[:, 1].max())
    return (0.0, (low + high) / 2, 0.0)


def _statistics(config: Config, sentence: str) -> tuple[PoseStatistics, str]:
    """The statistics of a motion, and why these."""
    action, why = resolve_action(config.action, sentence, config.statistics)
    return load_statistics(action, config.statistics), why
