"""Principal components of one camera's pictures: the linear half of the embedded prior's autoencoder.

A picture of H×W pixels in [-1, 1] becomes COUNT numbers: its coefficients, each over the square root of its own
standard deviation, so that what varies little still counts for something.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

COUNT = 256
FILE = "components.safetensors"
MORE, ITERATIONS = 100, 4  # of the randomised decomposition

Linear = dict[str, Tensor]
""""axes" (K, 3, H, W), scaled directions at right angles, and "mean" (3, H, W): as `Autoencoder` has them."""


def fit(pictures: Float[Tensor, "N H W 3"], count: int = COUNT) -> Linear:
    """The components of pictures in [0, 1], scaled so that their variance is 1 on average."""
    height, width = pictures.shape[1:3]
    x = 2 * pictures.permute(0, 3, 1, 2).flatten(1) - 1
    mean = x.mean(dim=0)
    x = x - mean
    _, lengths, axes = torch.svd_lowrank(x, q=min(count + MORE, len(x)), niter=ITERATIONS)
    std = (lengths / len(x) ** 0.5)[:count]
    scale = 1 / std.sqrt()
    scale = scale / (std * scale).square().mean().sqrt()
    size = (3, height, width)
    return {
        "axes": (scale[:, None] * axes[:, :count].T).unflatten(1, size).contiguous(),
        "mean": mean.unflatten(0, size),
    }


def save(linear: Linear, path: Path) -> None:
    """Write what `fit` found."""
    save_file(linear, path)


def load(path: Path) -> Linear:
    """Read what `save` wrote."""
    return load_file(path)


def components(linear: Linear, pictures: Float[Tensor, "*N H W 3"]) -> Float[Tensor, "*N K"]:
    """Components of pictures in [0, 1], each of one camera."""
    rows = (2 * pictures.flatten(0, -4).movedim(-1, -3) - 1 - linear["mean"]).flatten(1)
    return (rows @ linear["axes"].flatten(1).T).unflatten(0, pictures.shape[:-3])
