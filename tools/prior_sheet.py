"""Draw a sheet of samples from the embedded prior: one row a prompt, its frames from left to right.

python -m tools.prior_sheet --prior=FOLDER --out=sheet.png
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from bridge.distill.sample import alpha_sigma_of, ddim, denoiser
from bridge.priors import Prior, Text, load_prior
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program


def sample_latents(
    prior: Prior, texts: tuple[Text, Text], scale: float, steps: int, seed: int = 0
) -> Float[Tensor, "N C f h w"]:
    """Latents by deterministic DDIM (Song et al. 2021) with classifier-free guidance, one a row of `texts`."""
    z = torch.randn(len(texts[0].hidden), *prior.spec.latent_shape, generator=torch.Generator().manual_seed(seed))
    times = torch.linspace(0.999, 0.0, steps + 1)[:-1].tolist()
    return ddim(denoiser(prior, texts, scale), alpha_sigma_of(prior), z, times)


def sheet(videos: Float[Tensor, "N 3 F H W"], zoom: int = 3) -> Image.Image:
    """All frames of all videos as one picture."""
    n, _, f, h, w = videos.shape
    pixels = (videos.permute(0, 3, 2, 4, 1).reshape(n * h, f * w, 3) * 255).round().byte().numpy()
    return Image.fromarray(np.ascontiguousarray(pixels)).resize((f * w * zoom, n * h * zoom), Image.Resampling.NEAREST)


def main() -> None:
    args = parse_simple(
        __doc__, "tools.prior_sheet", rest="prompts",
        prior=("", "diffusers folder; default: the shipped one"),
        out=("samples.png", "the picture to write"),
        scale=(3.0, "guidance scale"),
        steps=(40, "sampling steps"),
        seed=(0, "of the noise"),
    )  # fmt: skip
    prior = load_prior("embedded", args.prior)
    views = ("left side view", "front view")
    words = {"washwindow": "washing a window", "directing_traffic": "directing traffic"}
    actions = [words.get(action, action) for action in prior.spec.actions]
    prompts = args.prompts or [f"a person is {action}, {view}" for action in actions for view in views]
    texts = prior.embed(prompts).pair(torch.arange(len(prompts)))
    videos = prior.decode(sample_latents(prior, texts, args.scale, args.steps, args.seed))
    sheet(videos).save(args.out)
    print("\n".join(f"row {i}: {prompt}" for i, prompt in enumerate(prompts)))


if __name__ == "__main__":
    run_program(main)
