"""An AutoencoderTiny (TAESD) in place of a VAE's encoder, in the gradient alone: less memory, biased."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.base import pull_back
from bridge.priors.spec import PRECISIONS, Conditioning, Prior, PriorError, PriorSpec, Setup, ShownPoses, Text
from bridge.priors.weights.networks import frozen, read_network


class TinyGradient:
    """A prior whose `encode_vjp` goes through a tiny encoder; everything else is the prior's own.

    The first gradient is also taken through the prior's own encoder, a frame at a time, and their cosine kept.
    """

    def __init__(self, prior: Prior, tiny: Any) -> None:
        self._prior, self._tiny = prior, tiny
        self.cosine: float | None = None  # None: no gradient has been taken

    @property
    def spec(self) -> PriorSpec:
        """The prior's own, as is everything down to `poses`."""
        return self._prior.spec

    def configure(self, setup: Setup) -> tuple[str, ...]:
        return self._prior.configure(setup)

    def embed(self, prompts: Sequence[str], negative: str = "") -> Conditioning:
        return self._prior.embed(prompts, negative)

    def encode(self, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N C f h w"]:
        return self._prior.encode(video)

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        return self._prior.alpha_sigma(t)

    def predict(
        self, z_t: Float[Tensor, "N C f h w"], t: Float[Tensor, "N"], texts: Sequence[Text]
    ) -> tuple[Float[Tensor, "N C f h w"], ...]:
        return self._prior.predict(z_t, t, texts)

    def decode(self, z: Float[Tensor, "N C f h w"]) -> Float[Tensor, "N 3 F H W"]:
        return self._prior.decode(z)

    def poses(self, z: Float[Tensor, "N C f h w"]) -> ShownPoses | None:
        return self._prior.poses(z)

    def encode_vjp(
        self, video: Float[Tensor, "N 3 F H W"], g: Float[Tensor, "N C f h w"], chunk: int = 0
    ) -> Float[Tensor, "N 3 F H W"]:
        """g·∂tiny_encode/∂video, `chunk` frames at a time."""
        parts = []
        chunk = chunk or video.shape[2]
        with torch.enable_grad():
            for frames, g_frames in zip(video.split(chunk, dim=2), g.split(chunk, dim=2), strict=True):
                leaf = frames.detach().requires_grad_()
                parts.append(pull_back(self._encode(leaf), leaf, g_frames))
        gradient = torch.cat(parts, dim=2)
        if self.cosine is None:
            exact = self._prior.encode_vjp(video, g, 1)
            self.cosine = float(torch.cosine_similarity(gradient.flatten().double(), exact.flatten().double(), dim=0))
        return gradient

    def encode_and_vjp(self, video: Float[Tensor, "N 3 F H W"]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(latents by the prior's own encoder, g -> gradient through the tiny one)."""
        return self._prior.encode(video), lambda g: self.encode_vjp(video, g)

    def _encode(self, video: Tensor) -> Tensor:
        """Latents in the prior's scale, which is what such encoders are trained for."""
        frames = (2 * video.transpose(1, 2).flatten(0, 1) - 1).to(self._tiny.dtype)
        z = self._tiny.encode(frames).latents.float() * self._tiny.config.scaling_factor
        return z.unflatten(0, (len(video), -1)).transpose(1, 2)


def with_tiny_vae(prior: Prior, path: str, device: torch.device | str = "cpu") -> TinyGradient:
    """`prior` with the AutoencoderTiny in the folder `path`, in the prior's precision, in its gradient.

    Raises:
        PriorError: the folder is missing or damaged, or its latents are not the prior's.
    """
    spec, folder = prior.spec, Path(os.path.realpath(os.path.expanduser(path)))
    if spec.pixel_stride == 1 or spec.frame_stride > 1:
        kind = "has no VAE" if spec.pixel_stride == 1 else "encodes frames together"
        raise PriorError(f"--tiny_vae replaces an encoder of single frames, and prior '{spec.name}' {kind}.")
    if not folder.is_dir():
        raise PriorError(f"--tiny_vae={path}: there is no such folder; expected one with an AutoencoderTiny.")
    tiny = read_network(folder.parent, folder.name, "AutoencoderTiny", PRECISIONS[spec.dtype])
    frozen(tiny, device)
    tiny.decoder = None  # never used
    stride = 2 ** (len(tiny.config.encoder_block_out_channels) - 1)
    found = (tiny.config.latent_channels, stride)
    if found != (spec.latent_channels, spec.pixel_stride):
        raise PriorError(
            f"--tiny_vae={path} makes {found[0]} channels for {found[1]}x{found[1]} pixels, and prior '{spec.name}'"
            f" {spec.latent_channels} for {spec.pixel_stride}x{spec.pixel_stride}: another VAE's."
        )
    return TinyGradient(prior, tiny)
