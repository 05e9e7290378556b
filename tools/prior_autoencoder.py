"""The embedded prior's autoencoder: principal components of one camera's pictures.

A picture of H×W pixels in [-1, 1] becomes CHANNELS numbers: its coefficients, each over the square root of its own
standard deviation. So a component that varies much still counts for more than one that varies little, but at one noise
level less of the spectrum is lost than in pixels. The decoder is the inverse on their span.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

CHANNELS = 256
MORE, ITERATIONS = 100, 4  # of the randomised decomposition


def fit(pictures: Float[Tensor, "N H W 3"], channels: int = CHANNELS) -> dict[str, Tensor]:
    """The weights of `bridge.priors.embedded.autoencoder.LinearAutoencoder`, from pictures in [0, 1].

    Scaled so that a channel's variance is 1 on average.
    """
    height, width = pictures.shape[1:3]
    x = 2 * pictures.permute(0, 3, 1, 2).flatten(1) - 1
    mean = x.mean(dim=0)
    x = x - mean
    _, lengths, axes = torch.svd_lowrank(x, q=min(channels + MORE, len(x)), niter=ITERATIONS)
    std = (lengths / len(x) ** 0.5)[:channels]
    axes = axes[:, :channels].T
    scale = std.mean().sqrt() / std.sqrt()  # so that the mean of the variances std² · scale² is ... std mean squared
    scale = scale / (std * scale).square().mean().sqrt()
    encoder = (scale[:, None] * axes).unflatten(1, (3, height, width))
    return {"encoder": encoder, "mean": mean.unflatten(0, (3, height, width))}


def save(weights: dict[str, Tensor], path: Path) -> None:
    """Write the weights."""
    save_file({name: value.contiguous() for name, value in weights.items()}, path)


def load(path: Path) -> dict[str, Tensor]:
    """Read the weights."""
    return load_file(path)


def encode(weights: dict[str, Tensor], pictures: Float[Tensor, "*N H W 3"]) -> Float[Tensor, "*N C"]:
    """Latents of pictures in [0, 1]."""
    x = 2 * pictures.movedim(-1, -3) - 1 - weights["mean"]
    return x.flatten(-3) @ weights["encoder"].flatten(1).T


def decode(weights: dict[str, Tensor], latents: Float[Tensor, "*N C"]) -> Float[Tensor, "*N H W 3"]:
    """Pictures of latents."""
    encoder = weights["encoder"].flatten(1)
    x = latents / encoder.square().sum(1) @ encoder + weights["mean"].flatten()
    return (x.unflatten(-1, weights["mean"].shape) / 2 + 0.5).clamp(0, 1).movedim(-3, -1)
