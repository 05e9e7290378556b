"""The one door from a run to the torch side: what the options mean there, and its errors as the user's.

Everything else in `md_jax.run` sees torch as plain values and JAX functions (`bridge.build.TorchSide`).
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from md_jax.config import Config
from md_jax.options.command import ending_in_one_line
from md_jax.outside.environment import THREADS
from md_jax.presets import user_errors
from md_jax.prompts.checks import sentence_for_prior
from md_jax.prompts.manner import draw_moment
from md_jax.prompts.reading import read_prompt
from md_jax.prompts.views import as_seen
from md_jax.prompts.vocabulary import PriorWords, shipped, words_of_prior

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from bridge.build import Request, TorchSide
    from md_jax.body.detail import Surface
    from md_jax.body.model import Body


def run_program(main: Callable[[], int | None], stopped: str = "stopped") -> NoReturn:
    """Run a program of `benchmarks` or `tools`: any error ends it with one line, also one of the torch side.

    This imports neither JAX nor torch: a program may still have to set up the process for them.

    Args:
        main: returns the exit code; None: 0.
        stopped: what an interruption prints.
    """
    with ending_in_one_line(stopped), user_errors():
        sys.exit(main())


@contextlib.contextmanager
def threads() -> Iterator[None]:
    """Compute with as many threads as a command line would, in a process that has its own idea of them.

    That is what OMP_NUM_THREADS says, else one (see `md_jax.outside.environment.prepare`).
    """
    from bridge.configure import torch_threads

    said = os.environ.get(THREADS)
    count = int(said) if said and said.isdecimal() else 1
    with torch_threads(max(count, 1)):  # this loads torch: with the variable set, it would keep the number for good
        os.environ.setdefault(THREADS, "1")
        try:
            yield
        finally:
            if said is None:
                os.environ.pop(THREADS, None)


def start(device: str) -> str:
    """Choose the device of both frameworks and start them, before any JAX computation: "cpu" or "cuda".

    Raises:
        UserError: the device cannot be used (`bridge.configure.configure`).
    """
    with user_errors():
        from bridge.configure import configure

        return configure(device)


def build(
    config: Config,
    device: str,
    sentences: Sequence[str],
    body: Body,
    surface: Surface | None = None,
    motions: Sequence[int | None] = (),
) -> tuple[TorchSide, Surface]:
    """The torch side of a run, with everything loaded and checked, and what it draws of the body.

    Args:
        config: the options.
        device: from `start`.
        sentences: one a motion, or one a part of it.
        body: what is drawn.
        surface: the part of it; None: in as much detail as --detail and the pictures' size want.
        motions: the number of each sentence's motion, which draws its moment; None: of no moment, for a motion that is
            longer than a clip passes through all of them; default: 0, 1, …

    Raises:
        UserError: something cannot be found, loaded, or done as asked.
    """
    with user_errors():
        from bridge import build as torch_build
        from md_jax.body import detail

        words = words_of_prior(config.prior, config.prior_path)
        said = sentences_for(words, config.seed, sentences, motions or range(len(sentences)))
        wanted = "full" if config.mode == "latent" else config.detail
        chosen: list[Surface] = []

        def drawn(samples: float) -> torch_build.Drawn:
            chosen.append(detail.choose(body, wanted, samples) if surface is None else surface)
            (part,) = chosen
            return part.triangles, part.vertex_colors, np.asarray(body.v_template)[part.vertices]

        return torch_build.build(_request(config, device, said, body, words), drawn), chosen[0]


def sentences_for(words: PriorWords, seed: int, sentences: Sequence[str], motions: Sequence[int | None]) -> list[str]:
    """What a prior reads of sentences, each at a moment drawn by the seed and its motion's number (see `build`)."""
    if words.actions is None:
        return list(sentences)
    vocabulary, said = shipped().only(words.actions), []
    for sentence, motion in zip(sentences, motions, strict=True):
        heard = read_prompt(sentence, vocabulary).action
        moment = ""
        if heard and motion is not None:
            moment = draw_moment(heard.action, words.moments.get(heard.action, ()), seed, motion)
        text = sentence_for_prior(sentence, words.actions, words.manner)
        said.append(f"{text}, {moment}" if moment else text)
    return said


def _request(config: Config, device: str, sentences: Sequence[str], body: Body, words: PriorWords) -> Request:
    """The options as `bridge.build.build` takes them."""
    from bridge.build import Guidance, ImageRequest, Request
    from bridge.distill.prompts import NEGATIVE, SOURCE

    def seen(texts: Sequence[str]) -> list[tuple[str, ...]]:
        return [as_seen(text, config.view_prompts) for text in texts]

    negative, sources = config.negative_prompt, None
    if config.distillation == "nfsd":
        negative = negative or NEGATIVE
    if config.distillation == "source":
        given = config.source_prompt and sentence_for_prior(config.source_prompt, words.actions, words.manner)
        sources = seen([given or SOURCE.format(text.rstrip(" .,")) for text in sentences])
    guidance = Guidance(
        objective=config.distillation,
        scale=config.guidance_scale,
        scale_low=config.guidance_low,
        weighting=config.weighting,
        motion_amp=config.motion_amp,
        clip=config.residual_clip,
    )
    image = None
    if config.image_prior != "none":
        image = ImageRequest(
            prior=config.image_prior,
            path=config.image_prior_path,
            frames=config.image_frames,
            size=config.image_size,
            guidance=Guidance(
                objective=config.distillation,
                scale=image_scale(config),
                weighting=config.image_weighting,
                clip=config.residual_clip,
            ),
            weight=config.image_weight / config.distillation_weight,  # which scales both losses
        )
    background = config.background
    return Request(
        device=device,
        prior=config.prior,
        prior_path=config.prior_path,
        sentences=seen(sentences),
        guidance=guidance,
        target=body_centre(body),
        negative=negative,
        sources=sources,
        latent=config.mode == "latent",
        image=image,
        frames=config.frames,
        fps=config.fps,
        height=config.height,
        width=config.width,
        distance=config.distance,
        fov=math.radians(config.fov) if config.fov else None,
        background=(background[0], background[1], background[2]) if background else None,
        supersample=config.supersample,
        renderer=config.renderer,
        antialias=config.antialias,
        dtype=config.dtype,
        prior_batch=config.prior_batch,
        encode_chunk=config.encode_chunk,
        scale_latents=config.scale_arr,
        low_memory=config.low_vram,
        retry=config.oom == "retry",
        compile=config.compile,
        tiny_vae=config.tiny_vae,
        transport=config.transport,
    )


def image_scale(config: Config) -> float:
    """The guidance scale of the image prior."""
    return config.guidance_scale if config.image_guidance_scale is None else config.image_guidance_scale


def body_centre(body: Body) -> tuple[float, float, float]:
    """Where cameras look: the middle of the body's height in the rest pose, on its axis (metres)."""
    low, high = float(body.v_template[:, 1].min()), float(body.v_template[:, 1].max())
    return (0.0, (low + high) / 2, 0.0)


def peak_memory() -> dict[str, float]:
    """The most memory used so far, in MiB (`bridge.diagnose.peak_memory`)."""
    from bridge.diagnose import peak_memory

    return peak_memory()


def prompt_losses(
    name: str, path: str, body: Body, vertices: Float[Array, "M F V 3"], sentences: Sequence[Sequence[str]]
) -> Float[np.ndarray, "M P"]:
    """Mean squared error with which a prior denoises motions under each of P sentences; `start` comes first.

    Args:
        name, path: the prior, as in --prior and --prior_path.
        body: whose vertices move.
        vertices: metres, at the prior's rate and frame count.
        sentences: (P, 4), each as it reads from the front, the left, the back and the right.

    Raises:
        UserError: the prior cannot be loaded or takes other clips.
    """
    with user_errors():
        from bridge.distill import prompt_losses as losses
        from bridge.exchange import to_torch
        from bridge.priors import load_prior
        from bridge.render.mesh import make_mesh

        shared = to_torch(vertices)
        prior = load_prior(name, path, shared.device, "float16" if shared.is_cuda else "float32")
        mesh = make_mesh(body.triangles, body.vertex_colors, shared.device)
        return losses.prompt_losses(prior, mesh, shared, sentences, body_centre(body)).numpy()
