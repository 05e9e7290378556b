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

from bridge.priors.embedded.autoencoder import LinearAutoencoder

CHANNELS = 256
MORE, ITERATIONS = 100, 4  # of the randomised decomposition


def fit(pictures: Float[Tensor, "N H W 3"], channels: int = CHANNELS) -> LinearAutoencoder:
    """The autoencoder of pictures in [0, 1], scaled so that a channel's variance is 1 on average."""
    height, width = pictures.shape[1:3]
    x = 2 * pictures.permute(0, 3, 1, 2).flatten(1) - 1
    mean = x.mean(dim=0)
    x = x - mean
    _, lengths, axes = torch.svd_lowrank(x, q=min(channels + MORE, len(x)), niter=ITERATIONS)
    std = (lengths / len(x) ** 0.5)[:channels]
    axes = axes[:, :channels].T
    scale = 1 / std.sqrt()
    scale = scale / (std * scale).square().mean().sqrt()
    found = LinearAutoencoder(channels, height, width).requires_grad_(False)
    found.encoder.copy_((scale[:, None] * axes).unflatten(1, (3, height, width)))
    found.mean.copy_(mean.unflatten(0, (3, height, width)))
    return found


def save(autoencoder: LinearAutoencoder, path: Path) -> None:
    """Write its weights."""
    save_file(autoencoder.state_dict(), path)


def load(path: Path) -> LinearAutoencoder:
    """Read what `save` wrote."""
    weights = load_file(path)
    channels, _, height, width = weights["encoder"].shape
    found = LinearAutoencoder(channels, height, width).requires_grad_(False)
    found.load_state_dict(weights)
    return found


def encode(autoencoder: LinearAutoencoder, pictures: Float[Tensor, "*N H W 3"]) -> Float[Tensor, "*N C"]:
    """Latents of pictures in [0, 1], each of one camera."""
    rows = autoencoder.encode(2 * pictures.flatten(0, -4).movedim(-1, -3) - 1)
    return rows.flatten(1).unflatten(0, pictures.shape[:-3])
