"""The shipped prior's autoencoder: a few numbers for what all cameras see of a body (tools/train_autoencoder.py).

Pictures become principal components first, and components become latents by three layers. A third map reads the body's
pose from the latents: latents that are near each other show poses that are.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

JOINTS = 22  # the pelvis and the 21 body joints
READ = 6 * JOINTS + 1  # numbers of a pose: two columns of each rotation, and the pelvis's height
READER = 512  # width of the reader's layers


class Autoencoder(nn.Module):
    """The pictures of a frame, side by side, as C latents, and back.

    Each row of `axes` is a unit direction in the space of one camera's pictures, scaled; directions are at right
    angles. So pictures follow from components.
    """

    def __init__(self, channels: int, cameras: int, components: int, hidden: int, height: int, width: int) -> None:
        super().__init__()
        self.axes = nn.Parameter(torch.empty(components, 3, height, width))
        self.mean = nn.Parameter(torch.empty(3, height, width))
        self.encoder = three_layers(cameras * components, hidden, channels)
        self.decoder = three_layers(channels, hidden, cameras * components)
        self.reader = three_layers(channels, READER, READ)

    def encode(self, pictures: Float[Tensor, "N 3 H W"]) -> Float[Tensor, "N C"]:
        """Latents of pictures in [-1, 1] of all cameras."""
        cameras = pictures.shape[-1] // self.mean.shape[-1]
        each = torch.stack(pictures.to(self.mean.dtype).chunk(cameras, dim=-1), dim=1) - self.mean
        return self.encoder((each.flatten(2) @ self.axes.flatten(1).T).flatten(1))

    def decode(self, latents: Float[Tensor, "N C"]) -> Float[Tensor, "N 3 H W"]:
        """The pictures of latents, in [-1, 1] but for what lies outside."""
        rows = self.axes.flatten(1)
        components = self.decoder(latents.to(rows.dtype)).unflatten(1, (-1, len(rows)))
        each = components / rows.square().sum(1) @ rows
        return torch.cat((each.unflatten(2, self.mean.shape) + self.mean).unbind(1), dim=-1)

    def read(self, latents: Float[Tensor, "N C"]) -> tuple[Float[Tensor, "N 22 3 3"], Float[Tensor, "N"]]:
        """The pose that latents show.

        Returns:
            (rotations of the pelvis, as the first camera sees it, and of the 21 body joints; the pelvis's height above
            the first frame's, metres).
        """
        numbers = self.reader(latents.to(self.mean.dtype)).float()
        columns = numbers[:, :-1].unflatten(1, (JOINTS, 2, 3)) + torch.eye(3, device=numbers.device)[:2]
        first = functional.normalize(columns[..., 0, :], dim=-1)
        second = columns[..., 1, :]
        second = functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
        return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1), numbers[:, -1]


def three_layers(inside: int, hidden: int, outside: int) -> nn.Sequential:
    """Linear maps with SiLU between them."""
    return nn.Sequential(
        nn.Linear(inside, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outside)
    )
