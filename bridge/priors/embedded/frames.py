"""The shipped prior's denoiser: a transformer over the frames of a clip (a DiT, Peebles and Xie 2023).

A frame is one token. Time and text shift, scale and gate every layer; all layers share the map that gives these (as
PixArt-α, Chen et al. 2023) and add offsets of their own.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

RATES = 128  # sines and cosines of a time
SPREAD = (-4.0, 1.0)  # log of a text's standard deviation over that of all clips, at the least and most
SHIFTS = 6  # shift, scale and gate, of attention and of the layers behind it


@dataclasses.dataclass(frozen=True)
class Shape:
    """Sizes of the networks: config.json of a folder.

    Attributes:
        frames, channels: of a clip's latents.
        cameras, components, hidden: of the autoencoder (`autoencoder.Autoencoder`).
        width, layers, heads: of the transformer.
        words: that the text encoder knows.
        tokens: of a text, at the most.
        text_width: numbers that the text encoder makes of a text.
    """

    frames: int
    channels: int
    cameras: int
    components: int
    hidden: int
    width: int
    layers: int
    heads: int
    words: int
    tokens: int
    text_width: int


class Denoised(NamedTuple):
    """As diffusers' output."""

    sample: Float[Tensor, "N c F 1 w"]


class Usual(NamedTuple):
    """Mean and standard deviation of the cosines over time of a text's clips."""

    mean: Float[Tensor, "N F C"]
    std: Float[Tensor, "N F C"]


def cosines(frames: int) -> Float[Tensor, "F F"]:
    """The orthonormal cosines of a clip's frames, one a row, slow ones first (DCT-II)."""
    rate, frame = torch.arange(frames, dtype=torch.float64), torch.arange(frames, dtype=torch.float64) + 0.5
    rows = (math.pi / frames * rate[:, None] * frame).cos() * math.sqrt(2 / frames)
    rows[0] /= math.sqrt(2)
    return rows.float()


@functools.lru_cache
def _on_device(frames: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "F F"]:
    """`cosines`, sent to a device once."""
    return cosines(frames).to(device, dtype)


class FrameTransformer(nn.Module):
    """Predicts the clean latents of noised ones ("sample" prediction).

    The network adds to what each rate of change alone would say. Of z = α x + σ ε and a cosine over time of mean μ and
    variance s² the best linear guess is μ + α s² / (α² s² + σ²) (z − α μ) (Karras et al. 2022, here per cosine and
    channel). Mean and variance are the text's own. So what the network has not learned moves as fast as real clips of
    that text do: without the cosines it would be noise in each frame, without the text a calm action would be restless.
    """

    std: Tensor  # (F, C), of the latents' cosines over time, of all clips

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("std", torch.ones(shape.frames, shape.channels))
        self.frame_in, self.frame_out = (nn.Linear(shape.channels, shape.width), nn.Linear(shape.width, shape.channels))
        self.position = nn.Parameter(torch.empty(shape.frames, shape.width))
        self.time, self.text = _two_layers(2 * RATES, shape.width), _two_layers(shape.text_width, shape.width)
        self.shifts = nn.Linear(shape.width, SHIFTS * shape.width)
        self.usual = _two_layers(shape.text_width, shape.width, 2 * shape.frames * shape.channels)
        self.layers = nn.ModuleList([Layer(shape.width, shape.heads) for _ in range(shape.layers)])
        self.last = nn.Linear(shape.width, 2 * shape.width)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.frame_in.weight.dtype

    def forward(
        self,
        sample: Float[Tensor, "N c F 1 w"],
        time: Float[Tensor, "N"],
        signal: Float[Tensor, "N"],
        text: Float[Tensor, "N 1 D"],
    ) -> Denoised:
        """Clean latents in the program's layout (see `denoise`)."""
        frames = sample.squeeze(3).transpose(1, 2)
        clean = self.denoise(frames.flatten(2), time, signal, text).view_as(frames)
        return Denoised(clean.transpose(1, 2).unsqueeze(3))

    def denoise(
        self,
        frames: Float[Tensor, "N F C"],
        time: Float[Tensor, "N"],
        signal: Float[Tensor, "N"],
        text: Float[Tensor, "N 1 D"],
    ) -> Float[Tensor, "N F C"]:
        """Clean latents.

        Args:
            frames: noised ones, z = α x + σ ε.
            time: t in (0, 1).
            signal: α at these times; σ² = 1 − α².
            text: from `text.WordEncoder`.
        """
        to_rates = _on_device(self.shape.frames, frames.device, frames.dtype)
        alpha = signal[:, None, None].to(frames.dtype)
        usual = self.usual_of(text)
        mean, variance = usual.mean.detach(), usual.std.detach().square()  # they learn from their likelihood alone
        total = alpha.square() * variance + 1 - alpha.square()  # variance of z
        rates = to_rates @ frames - alpha * mean
        x = self.frame_in(to_rates.T @ (rates * total.rsqrt())) + self.position
        condition = functional.silu(self.time(self._waves(time).to(x.dtype)) + self.text(text[:, 0]))
        shifts = self.shifts(condition).unflatten(1, (SHIFTS, -1))[:, :, None]
        for layer in self.layers:
            x = layer(x, shifts)
        shift, scale = self.last(condition)[:, None].chunk(2, dim=-1)
        x = self.frame_out(functional.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift)
        missing = (variance * (1 - alpha.square()) / total).sqrt()  # what the linear guess leaves open
        return to_rates.T @ (mean + alpha * variance / total * rates + missing * (to_rates @ x))

    def usual_of(self, text: Float[Tensor, "N 1 D"]) -> Usual:
        """What is usual under a text, before any noised clip is seen."""
        mean, log_std = self.usual(text[:, 0]).unflatten(1, (2, *self.std.shape)).unbind(1)
        return Usual(mean * self.std, log_std.clamp(*SPREAD).exp() * self.std)

    def _waves(self, time: Float[Tensor, "N"]) -> Float[Tensor, "N R"]:
        rates = torch.exp(torch.linspace(0, math.log(1000), RATES, device=time.device))
        angles = time[:, None].float() * rates * 2 * math.pi / 4
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _two_layers(inside: int, width: int, outside: int = 0) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inside, width), nn.SiLU(), nn.Linear(width, outside or width))


class Layer(nn.Module):
    """Frames attend to each other, then each passes two linear layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.offsets = nn.Parameter(torch.zeros(SHIFTS, 1, width))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "N F W"], shifts: Float[Tensor, "N 6 1 W"]) -> Float[Tensor, "N F W"]:
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = (shifts + self.offsets).unbind(1)
        size = x.shape[-1:]
        y = functional.layer_norm(x, size) * (1 + scale_a) + shift_a
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(y).chunk(3, dim=-1))
        y = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + gate_a * self.out(y)
        y = functional.layer_norm(x, size) * (1 + scale_b) + shift_b
        return x + gate_b * self.narrow(functional.gelu(self.wide(y), approximate="tanh"))
