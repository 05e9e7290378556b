"""A critic that compares renders with given pictures, blurred: what fits a body to a clip."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from bridge.critic import Judgement, Stopwatch
from bridge.distill.critic import CriticSettings, film
from bridge.render.mesh import Mesh

_AT_ONCE = 64  # poses filmed at once
_SHARP = 0.3  # pixels: a narrower blur is none


class ClipTargets(Protocol):
    """What N clips should look like, one a motion."""

    azimuth: Float[Tensor, "N"]  # radians
    elevation: Float[Tensor, "N"]  # radians
    video: Float[Tensor, "N F H W 3"]  # in [0, 1]
    blur: Float[Tensor, ""]  # standard deviation, pixels


class PictureCritic:
    """The squared distance of a motion's renders to the pictures of a clip (a `bridge.critic.Critic`).

    Edges alone carry a gradient, and it reaches one pixel; of blurred pictures it reaches as far as the blur. The loss
    is summed over pixels and colours.
    """

    metric_names = ()

    def __init__(self, mesh: Mesh, settings: CriticSettings) -> None:
        """Put a critic together; `settings` says how is filmed, the target's size wins over theirs."""
        self._mesh, self._settings = mesh, settings
        self.parts = Stopwatch(mesh.device)

    def __call__(
        self, verts: Float[Tensor, "M F V 3"], draws: ClipTargets, grad_out: Float[Tensor, "M F V 3"] | None = None
    ) -> Judgement:
        """(loss (M,), gradient (M, F, V, 3), no metrics); see `bridge.critic.Critic`."""
        grad = torch.empty_like(verts) if grad_out is None else grad_out
        losses, height, width = [], *draws.video.shape[2:4]
        for m in range(len(verts)):
            one = slice(m, m + 1)
            with self.parts("render"), torch.enable_grad():
                leaf = verts[one].detach().requires_grad_()
                camera = (draws.azimuth[one], draws.elevation[one])
                pictures = film(leaf, *camera, self._mesh, self._settings, height, width)
                away = blurred((pictures - draws.video[one]).flatten(0, 1), float(draws.blur))
                loss = away.square().sum()
                grad[one] = torch.autograd.grad(loss, leaf)[0]
            losses.append(loss.detach())
        return torch.stack(losses), grad, {}


@torch.no_grad()
def distances(
    verts: Float[Tensor, "K V 3"],
    video: Float[Tensor, "F H W 3"],
    azimuth: Float[Tensor, ""],
    elevation: Float[Tensor, ""],
    mesh: Mesh,
    settings: CriticSettings,
    blur: float,
) -> Float[Tensor, "F K"]:
    """Squared distance of each frame of a clip to the render of each of K poses, blurred by `blur` pixels.

    Args:
        verts: posed bodies, metres.
        video: in [0, 1].
        azimuth, elevation: of the camera, radians.
        mesh, settings: how is filmed.
        blur: standard deviation, pixels.
    """
    height, width = video.shape[1:3]
    seen = blurred(video, blur).flatten(1)
    camera = (azimuth.reshape(1), elevation.reshape(1))
    columns = []
    for part in verts.split(_AT_ONCE):
        pictures = film(part[None], *camera, mesh, settings, height, width)[0]
        columns.append(torch.cdist(seen, blurred(pictures, blur).flatten(1)).square())
    return torch.cat(columns, dim=1)


def blurred(pictures: Float[Tensor, "N H W C"], sigma: float) -> Float[Tensor, "N H W C"]:
    """Pictures under a Gaussian of so many pixels; at the border the nearest pixel goes on."""
    if sigma < _SHARP:
        return pictures
    reach = math.ceil(3 * sigma)
    places = torch.arange(-reach, reach + 1, dtype=pictures.dtype, device=pictures.device)
    weights = torch.softmax(-places.square() / (2 * sigma**2), dim=0)
    flat = pictures.movedim(-1, 1).flatten(0, 1)[:, None]
    flat = functional.pad(flat, (reach, reach, reach, reach), mode="replicate")
    flat = functional.conv2d(functional.conv2d(flat, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
    return flat[:, 0].unflatten(0, (len(pictures), -1)).movedim(1, -1)
