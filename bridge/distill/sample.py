"""Sampling whole clips from a frozen prior: DDIM, without added noise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
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


def over_windows(
    denoise: Callable[[Float[Tensor, "n C f h w"], float], Float[Tensor, "n C f h w"]],
    starts: Int[Tensor, "n"],
    length: int,
) -> Callable[[Float[Tensor, "1 C F h w"], float], Float[Tensor, "1 C F h w"]]:
    """(z_t, t) -> x̂0 of a clip that is longer than the prior's: the mean of what its windows say of each frame.

    A window says most of its middle. Source: Bar-Tal, Yariv, Lipman, Dekel 2023 (MultiDiffusion), eq. 5.

    Args:
        denoise: the same of the windows.
        starts: their first frames, each once; windows go on from the last frame to the first, and cover all.
        length: f, of a window.
    """
    places = torch.arange(length, device=starts.device)
    say = torch.minimum(places + 1, length - places).float()[:, None, None]

    def whole(z: Tensor, t: float) -> Tensor:
        index = (starts[:, None] + places) % z.shape[2]
        guesses = denoise(z[0, :, index].transpose(0, 1), t)
        total = torch.zeros_like(z[0])
        total.index_add_(1, index.flatten(), (guesses * say).transpose(0, 1).flatten(1, 2))
        weight = torch.zeros_like(z[0, 0, :, :1, :1])
        weight.index_add_(0, index.flatten(), say.repeat(len(starts), 1, 1))
        return (total / weight)[None]

    return whole


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
        texts = self.prompts.of_clips(torch.arange(len(azimuth), device=noise.device), azimuth)
        z = ddim(self._in_parts(texts, scale), alpha_sigma_of(self.prior), noise, times_of(steps))
        parts = [self.prior.decode(part) for part in z.split(self.prior_batch)]
        return torch.cat(parts)[:, :, :frames].movedim(1, -1)

    @torch.no_grad()
    def long(
        self,
        azimuth: Float[Tensor, "M"],
        noise: Float[Tensor, "M C F h w"],
        steps: int,
        scale: float,
        starts: Int[Tensor, "n"],
        sentences: Int[Tensor, "M n"],
    ) -> Float[Tensor, "M F H W 3"]:
        """One clip of any length a motion, in [0, 1], of a prior with a latent a frame (see `over_windows`).

        Args:
            azimuth, noise, steps, scale: as of one clip.
            starts: first frames of the windows; one may come more often.
            sentences: of each motion's windows, their numbers among the run's sentences.
        """
        clips, length = [], self.prior.spec.frames
        for m in range(len(noise)):
            first, said = torch.unique(torch.stack([starts, sentences[m]]), dim=1)
            texts = self.prompts.of_clips(said, azimuth[m].expand(len(said)))
            windows = over_windows(self._in_parts(texts, scale), first, length)
            z = ddim(windows, alpha_sigma_of(self.prior), noise[m : m + 1], times_of(steps))
            clips.append(self.prior.decode(z).movedim(1, -1))
        return torch.cat(clips)

    def _in_parts(self, texts: tuple[Text, ...], scale: float) -> Callable[[Tensor, float], Tensor]:
        """The denoiser, `prior_batch` clips at a time."""
        parts = torch.arange(len(texts[0].hidden), device=texts[0].hidden.device).split(self.prior_batch)
        each = [(part, denoiser(self.prior, tuple(text.rows(part) for text in texts), scale)) for part in parts]
        return lambda z, t: torch.cat([denoise(z[part], t) for part, denoise in each])


def times_of(steps: int) -> list[float]:
    """The diffusion times of so many steps, evenly spaced."""
    return torch.linspace(FIRST, LAST, steps, dtype=torch.float64).tolist()
