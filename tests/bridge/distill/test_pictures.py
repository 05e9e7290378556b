"""Pictures compared: the blur against scipy's, the critic against the renders that it stands for."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from bridge.distill.critic import CriticSettings, film
from bridge.distill.pictures import PictureCritic, blurred, distances
from bridge.errors import BridgeError
from bridge.render.mesh import make_mesh
from tests.bridge.distill.test_critic import octahedron

SETTINGS = CriticSettings(24, 24, 3.0, math.radians(40), (0.0, 0.0, 0.0), (0.9, 0.9, 0.9))


class Targets(NamedTuple):
    azimuth: Tensor
    elevation: Tensor
    video: Tensor
    blur: Tensor


@pytest.mark.parametrize("sigma", [0.1, 0.7, 3.0])
def test_the_blur_is_a_gaussian(sigma):
    pictures = torch.rand((2, 9, 12, 3), generator=torch.Generator().manual_seed(0))
    expected = pictures.numpy()
    if sigma >= 0.3:
        reach = math.ceil(3 * sigma)
        expected = scipy.ndimage.gaussian_filter(
            expected.astype(np.float64), (0, sigma, sigma, 0), mode="nearest", radius=reach
        )
    np.testing.assert_allclose(blurred(pictures, sigma), expected, atol=1e-5)


@pytest.fixture(scope="module")
def box():
    """A box in two colours, at two places in each of three frames."""
    corners = torch.tensor([[x, y, z] for x in (-0.3, 0.3) for y in (-0.5, 0.5) for z in (-0.2, 0.2)])
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    triangles = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
    colors = np.where(np.arange(8)[:, None] % 2, [0.9, 0.2, 0.1], [0.1, 0.3, 0.9]).astype(np.float32)
    places = torch.tensor([[-0.35, 0.0, 0.0], [-0.15, 0.0, 0.1], [0.0, 0.1, 0.0]])
    return make_mesh(triangles, colors, "cpu"), corners + places[:, None]


def test_the_loss_is_that_of_the_pictures_and_falls_downhill(box):
    mesh, verts = box
    angles = torch.tensor([0.3]), torch.tensor([0.1])
    with torch.no_grad():
        video = film(verts[None], *angles, mesh, SETTINGS, 24, 24)
    critic = PictureCritic(mesh, SETTINGS)
    loss, grad, _ = critic(verts[None], Targets(*angles, video, torch.tensor(2.0)))
    assert loss.item() < 1e-9 and grad.abs().max() < 1e-4
    shift = torch.tensor([0.25, 0.0, 0.0])  # five pixels: no edge overlaps
    targets = Targets(*angles, video, torch.tensor(2.0))
    moved = (verts + shift)[None]
    loss, grad, _ = critic(moved, targets)
    with torch.no_grad():
        away = film(moved, *angles, mesh, SETTINGS, 24, 24) - video
    blurred_away = scipy.ndimage.gaussian_filter(away[0].double().numpy(), (0, 2, 2, 0), mode="nearest", radius=6)
    assert loss.item() == pytest.approx(np.square(blurred_away).sum(), rel=1e-4)
    # the gradient, with scipy's blur and its adjoint (the same one, away from the border) in the place of ours
    leaf = moved.clone().requires_grad_()
    twice = scipy.ndimage.gaussian_filter(blurred_away, (0, 2, 2, 0), mode="nearest", radius=6)
    pictures = film(leaf, *angles, mesh, SETTINGS, 24, 24)
    (expected,) = torch.autograd.grad(pictures, leaf, torch.from_numpy(2 * twice)[None].float())
    torch.testing.assert_close(grad, expected, rtol=0.02, atol=0.02 * float(expected.abs().max()))
    assert (grad.sum(dim=(0, 1, 2)) * shift).sum() > 0


def test_distances_are_the_critic_s_losses(box):
    mesh, verts = box
    angles = torch.tensor([0.3, 0.9]), torch.tensor([0.1, 0.2])
    with torch.no_grad():
        video = film(verts[None].repeat(2, 1, 1, 1), *angles, mesh, SETTINGS, 24, 24)
    for m in range(2):
        costs = distances(verts, video[m], angles[0][m], angles[1][m], mesh, SETTINGS, 1.0)
        assert costs.argmin(dim=1).tolist() == [0, 1, 2] and costs.diagonal().max() < 1e-3
        one = [a[m : m + 1] for a in angles]
        targets = Targets(*one, video[m : m + 1, [1]], torch.tensor(1.0))
        loss = PictureCritic(mesh, SETTINGS)(verts[None, [2]], targets)[0]
        assert costs[1, 2].item() == pytest.approx(loss.item(), rel=1e-3)


def test_a_clip_of_two_cameras_holds_what_each_of_them_sees():
    corners, faces = octahedron()
    mesh = make_mesh(faces, torch.rand(6, 3, generator=torch.Generator().manual_seed(0)))
    verts = (corners + 0.1 * torch.randn(2, 3, 6, 3, generator=torch.Generator().manual_seed(1))).requires_grad_()
    azimuth, elevation = torch.tensor([0.3, 4.0]), torch.tensor([0.1, 0.3])
    pair = dataclasses.replace(SETTINGS, cameras=(0.0, math.pi / 2))
    both = film(verts, azimuth, elevation, mesh, pair, 24, 48)
    first, second = (film(verts, azimuth + turn, elevation, mesh, SETTINGS, 24, 24) for turn in (0.0, math.pi / 2))
    torch.testing.assert_close(both, torch.cat([first, second], dim=3))
    weight = torch.randn(both.shape, generator=torch.Generator().manual_seed(2))
    grads = [torch.autograd.grad((x * w).sum(), verts, retain_graph=True)[0]
             for x, w in ((both, weight), (first, weight[..., :24, :]), (second, weight[..., 24:, :]))]  # fmt: skip
    torch.testing.assert_close(grads[0], grads[1] + grads[2], rtol=1e-4, atol=1e-5)
    with pytest.raises(BridgeError, match="2 cameras share a picture's width: expected one that 2 divides, got 25"):
        film(verts, azimuth, elevation, mesh, pair, 24, 25)
