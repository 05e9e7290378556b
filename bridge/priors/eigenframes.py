"""A small video prior in the space of its own pictures' principal components.

`EigenFrames` stands where other priors have a VAE: a frame becomes its coordinates along the principal components of
the frames that the prior was trained on. It is linear, so that gradients go back exactly and for nothing.
`FrameDenoiser` stands where others have a UNet: a residual MLP over all frames' coordinates. On a CPU without matrix
instructions a convolutional network of this size sees a tenth of the clips in the same time.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn


class Latents(NamedTuple):
    """What `encode` gives, as diffusers names it."""

    latents: Float[Tensor, "n K 1 1"]


class Sample(NamedTuple):
    """What `decode` and the denoiser give, as diffusers names it."""

    sample: Tensor


class EigenFrames(ModelMixin, ConfigMixin):
    """Frames in [-1, 1] as coordinates along K principal components, each divided by its scale.

    Args:
        components: K.
        height, width: of a frame, pixels.
        scaling_factor: as of any VAE; the scales make it 1.
    """

    @register_to_config
    def __init__(self, components: int, height: int, width: int, scaling_factor: float = 1.0) -> None:
        super().__init__()
        self.size = (height, width)
        pixels = 3 * height * width
        self.mean = nn.Parameter(torch.zeros(pixels), requires_grad=False)
        self.basis = nn.Parameter(torch.zeros(components, pixels), requires_grad=False)  # orthonormal rows
        self.scale = nn.Parameter(torch.ones(components), requires_grad=False)

    def encode(self, frames: Float[Tensor, "n 3 H W"]) -> Latents:
        """Coordinates of frames."""
        return Latents(((frames.flatten(1) - self.mean) @ self.basis.T / self.scale)[:, :, None, None])

    def decode(self, z: Float[Tensor, "n K 1 1"]) -> Sample:
        """Frames of coordinates."""
        return Sample((z.flatten(1) * self.scale @ self.basis + self.mean).unflatten(1, (3, *self.size)))


class Block(nn.Module):
    """A residual MLP whose normalised input is scaled and shifted by the condition."""

    def __init__(self, width: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulate = nn.Linear(condition, 2 * width)
        self.up, self.down = nn.Linear(width, width), nn.Linear(width, width)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)

    def forward(self, x: Float[Tensor, "N W"], condition: Float[Tensor, "N c"]) -> Float[Tensor, "N W"]:
        scale, shift = self.modulate(condition).chunk(2, dim=-1)
        return x + self.down(nn.functional.silu(self.up(self.norm(x) * (1 + scale) + shift)))


class FrameDenoiser(ModelMixin, ConfigMixin):
    """The clean coordinates of a clip from noisy ones, the time and a text.

    Args:
        frames, components: of a clip.
        width, depth: of the residual MLP.
        condition: width of what time and text become.
        text: width of the text encoder, whose last position sums up the sentence.
    """

    @register_to_config
    def __init__(self, frames: int, components: int, width: int, depth: int, condition: int, text: int) -> None:
        super().__init__()
        self.of_time = nn.Sequential(nn.Linear(64, condition), nn.SiLU(), nn.Linear(condition, condition))
        self.of_text = nn.Sequential(nn.LayerNorm(text), nn.Linear(text, condition), nn.SiLU(),
                                  nn.Linear(condition, condition))  # fmt: skip
        self.enter = nn.Linear(frames * components, width)
        self.blocks = nn.ModuleList([Block(width, condition) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, frames * components)
        self.skip = nn.Linear(condition, components)  # how much of each noisy coordinate stays
        nn.init.zeros_(self.leave.weight)

    def forward(self, z: Float[Tensor, "N K F 1 1"], times: Tensor, hidden: Float[Tensor, "N L D"], **_: Any) -> Sample:
        condition = nn.functional.silu(self.of_time(waves(times).to(z.dtype)) + self.of_text(hidden[:, -1]))
        x = self.enter(z.flatten(1))
        for block in self.blocks:
            x = block(x, condition)
        kept = self.skip(condition)[:, :, None, None, None] * z
        return Sample(self.leave(self.norm(x)).view_as(z) + kept)


def waves(times: Tensor) -> Float[Tensor, "N 64"]:
    """Sines and cosines of times in 0…1000, at wavelengths from 6 to 6000."""
    angles = times[:, None].float() * torch.exp(-math.log(1000.0) * torch.arange(32, device=times.device) / 31)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
