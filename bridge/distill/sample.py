"""Sampling whole clips from a frozen prior: DDIM, without added noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.distill import objectives as distill
from bridge.distill.prompts import Prompts
from bridge.priors.spec import Prior, Text

FIRST, LAST = 0.98, 0.02  # diffusion times of the first and the last step


def ddim(
    denoise: Callable[[Float[Tensor, "N *z"], float], Float[Tensor, "N *z"]],
    alpha_sigma: Callable[[float], tuple[float, float]],
    z: Float[Tensor, "N *z"],
    times: Sequence[float],
) -> Float[Tensor, "N *z"]:
    """Latents that the probability-flow ODE leads from noise to, by one step of DDIM a time.

    Args:
        denoise: (z_t, t) -> x̂0.
        alpha_sigma: t -> (α, σ).
        z: standard normal, z_t at the first time.
        times: diffusion times in (0, 1), falling; what is returned is x̂0 of the last.

    Source: Song, Meng, Ermon 2021, eq. 12 with η = 0.
    """
    guess = z
    for t, after in zip(times, [*times[1:], None], strict=True):
        alpha, sigma = alpha_sigma(t)
        guess = denoise(z, t)
        if after is not None:
            noise = (z - alpha * guess) / sigma
            alpha, sigma = alpha_sigma(after)
            z = alpha * guess + sigma * noise
    return guess


def denoiser(prior: Prior, texts: tuple[Text, ...], scale: float) -> Callable[[Tensor, float], Tensor]:
    """(z_t, t) -> x̂0 by a prior under (the text, what guidance leads away from); scale 1 asks under the text alone."""
    asked = texts[:1] if scale == 1 else texts
    of_pixels = prior.spec.pixel_stride == 1  # then x̂0 is kept in [-1, 1]

    def denoise(z: Tensor, t: float) -> Tensor:
        times = torch.full((len(z),), t, device=z.device)
        alpha, sigma = prior.alpha_sigma(times)
        raws = prior.predict(z, times, asked)
        raw = distill.cfg(raws[0], raws[-1], scale)
        guess = distill.to_sample(raw, z, alpha, sigma, prior.spec.prediction)
        return guess.clamp(-1, 1) if of_pixels else guess

    return denoise


def alpha_sigma_of(prior: Prior) -> Callable[[float], tuple[float, float]]:
    """t -> (α, σ) of a prior."""

    def alpha_sigma(t: float) -> tuple[float, float]:
        alpha, sigma = prior.alpha_sigma(torch.tensor([t]))
        return alpha.item(), sigma.item()

    return alpha_sigma


@dataclasses.dataclass(frozen=True)
class ClipSampler:
    """Samples clips of a run's motions: the sentence is the motion's, as its camera sees it."""

    prior: Prior
    prompts: Prompts
    prior_batch: int = 16  # clips denoised at once

    @torch.no_grad()
    def __call__(
        self, azimuth: Float[Tensor, "M"], noise: Float[Tensor, "M C f h w"], steps: int, scale: float, frames: int
    ) -> Float[Tensor, "M F H W 3"]:
        """One clip a motion, in [0, 1].

        Args:
            azimuth: of the cameras, radians.
            noise: standard normal; the same noise, the same clip.
            steps: of DDIM.
            scale: of classifier-free guidance; 1 is the prior under the sentence.
            frames: F; what the prior has filled up beyond them is cut off.
        """
        clips = []
        for part in torch.arange(len(azimuth), device=noise.device).split(self.prior_batch):
            texts = self.prompts.of_clips(part, azimuth[part])
            z = ddim(denoiser(self.prior, texts, scale), alpha_sigma_of(self.prior), noise[part], times_of(steps))
            clips.append(self.prior.decode(z)[:, :, :frames].movedim(1, -1))
        return torch.cat(clips)


def times_of(steps: int) -> list[float]:
    """The diffusion times of so many steps, evenly spaced."""
    return torch.linspace(FIRST, LAST, steps, dtype=torch.float64).tolist()
