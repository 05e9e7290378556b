"""The next prior's autoencoder: principal components of one camera's pictures (tools/prior_autoencoder.py)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn


class LinearAutoencoder(nn.Module):
    """A camera's picture as C numbers; pictures of several cameras, side by side, as several.

    Each row of the encoder is a unit direction in the space of pictures, scaled; directions are at right angles. So the
    decoder follows from it.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.encoder = nn.Parameter(torch.empty(channels, 3, height, width))
        self.mean = nn.Parameter(torch.empty(3, height, width))

    def encode(self, pictures: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C 1 cameras"]:
        """Latents of pictures in [-1, 1] of all cameras."""
        cameras = pictures.shape[-1] // self.mean.shape[-1]
        each = torch.stack(pictures.to(self.mean.dtype).chunk(cameras, dim=-1), dim=1) - self.mean
        return (each.flatten(2) @ self.encoder.flatten(1).T).transpose(1, 2).unsqueeze(2)

    def decode(self, latents: Float[Tensor, "N C 1 cameras"]) -> Float[Tensor, "N 3 H W"]:
        """The pictures of latents, in [-1, 1] but for what lies outside."""
        rows = self.encoder.flatten(1)
        each = latents.to(rows.dtype).squeeze(2).transpose(1, 2) / rows.square().sum(1) @ rows
        return torch.cat((each.unflatten(2, self.mean.shape) + self.mean).unbind(1), dim=-1)
