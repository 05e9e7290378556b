"""What the flags say about guidance: the objective and its texts, the image prior, the tiny VAE."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from md_jax.config import Config
from md_jax.draws import ImageShape
from md_jax.errors import UserError
from md_jax.machine import tune_prior
from md_jax.train import LatentProblem, Problem, TorchLoss, draws_at


def embed(config: Config, prior: Any, sentences: list[str]) -> Any:
    """The embedded prompts (`bridge.prompts.Prompts`) of every motion, with the texts that the objective needs.

    Raises:
        bridge.errors.BridgeError: the prior knows no action in a prompt.
    """
    from bridge.prompts import NEGATIVE, SOURCE, embed_prompts

    negative, sources = config.negative_prompt, None
    if config.distillation == "nfsd":
        negative = negative or NEGATIVE
    if config.distillation == "bridge":
        sources = [config.source_prompt or SOURCE.format(sentence.rstrip(" .,")) for sentence in sentences]
    draws = [int(np.random.default_rng([config.seed, m]).integers(2**31)) for m in range(len(sentences))]
    return embed_prompts(prior, sentences, negative, config.view_prompts, sources, draws)


@dataclasses.dataclass(frozen=True)
class ImageTerm:
    """An image prior beside the video prior."""

    term: Any  # bridge.teacher.Term
    shape: ImageShape  # of its draws
    words: str  # for the terminal


def load_image_term(config: Config, sentences: list[str], frames: int, device: str, dtype: str) -> ImageTerm:
    """The image term that the flags describe.

    Args:
        config: the options; `image_prior` is not "none".
        sentences: the prompt of each motion.
        frames: F of the clips.
        device, dtype: where the prior goes, and its precision.

    Raises:
        UserError: it is to see more frames than there are.
        bridge.errors.BridgeError: the prior cannot be loaded, or takes no pictures of this size.
    """
    from bridge import distill
    from bridge.priors import load_prior
    from bridge.teacher import Term

    if config.image_frames > frames:
        raise UserError(f"--image_frames must be at most the clip's {frames} frames, got {config.image_frames}.")
    prior = load_prior(config.image_prior, config.image_prior_path, device, dtype)
    tune_prior(prior, config, device)
    size = config.image_size or prior.spec.height
    shape = ImageShape(frames, prior.spec.latent_shape_of(config.image_frames, size, size))
    scale = config.guidance_scale if config.image_guidance_scale is None else config.image_guidance_scale
    term = Term(
        prior=prior,
        prompts=embed(config, prior, sentences),
        height=size,
        width=size,
        guidance=distill.Guidance(
            objective=config.distillation,
            scale=scale,
            weighting=config.image_weighting,
            clip=config.residual_clip,
        ),
        weight=config.image_weight / config.sds_weight,  # the trainer scales both losses by sds_weight
    )
    words = f"{config.image_prior}: {config.image_frames} of {frames} frames, {size}x{size} pixels, scale {scale:g}"
    return ImageTerm(term, shape, words)


def tiny_vae_cosine(config: Config, problem: Problem | LatentProblem, params: Any, prior: Any, op: TorchLoss) -> float:
    """Cosine between the first step's gradient through the tiny VAE and through the VAE itself, in the pixels.

    Args:
        prior: a `bridge.priors.tiny_vae.TinyGradient`, which keeps it.
        op: with this prior; called once.
    """
    motions = jax.tree.leaves(params)[0].shape[0]
    verts, _ = problem.show(params, *problem.arrays)
    op.loss_and_grad(verts, draws_at(config, problem, motions, jnp.zeros((), jnp.int32), problem.key))
    return round(prior.cosine, 6)
