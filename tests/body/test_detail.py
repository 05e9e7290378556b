"""Coarser meshes: vertices of the body alone, whole surfaces, and a gradient and a silhouette like the full mesh's."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.render_quality import captured_poses
from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import make_mesh
from md_jax.body import detail, lbs
from md_jax.body.model import load_body
from md_jax.errors import UserError
from md_jax.outside import npz


@pytest.fixture(scope="module")
def body():
    return load_body()


def coarse(body, count=3000):
    return detail.choose(body, str(count), 0.0)


@pytest.mark.parametrize("count", detail.LEVELS)
def test_a_level_is_a_choice_of_vertices_with_closed_triangles(body, count):
    drawn = coarse(body, count)
    assert 0.9 * count < len(drawn.triangles) <= count
    assert (np.diff(drawn.vertices) > 0).all() and 0 <= drawn.vertices[0] <= drawn.vertices[-1] < len(body.v_template)
    np.testing.assert_array_equal(np.unique(drawn.triangles), np.arange(len(drawn.vertices)))
    np.testing.assert_array_equal(drawn.vertex_colors, body.vertex_colors[drawn.vertices])

    def boundary(triangles):  # each edge of a closed surface is walked as often in one direction as in the other
        edges = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
        return int((np.unique(edges, axis=0, return_counts=True)[1] % 2).sum())

    assert boundary(drawn.triangles) <= boundary(np.asarray(body.triangles))


def test_a_part_moves_as_the_whole_does(body):
    poses, few = captured_poses()[:2], np.array([3, 77, 10000])
    dirs = jnp.asarray(np.random.default_rng(0).normal(size=(486, 3 * len(body.v_template))).astype(np.float32) / 1e3)
    for each in (body, dataclasses.replace(body, posedirs=dirs)):
        for hands in ({}, {"left_hand_pose": np.full(45, 0.2)}):
            baked = lbs.bake(each, betas=np.array([1.0, -2.0]), **hands)
            whole, part = lbs.pose(baked, poses), lbs.pose(lbs.select(baked, few), poses)
            np.testing.assert_allclose(part, whole[:, few], atol=1e-6)


def test_the_picture_chooses(body):
    metre = 41.2  # samples, as the embedded prior's pictures have them
    counts = [len(detail.choose(body, "auto", metre * factor).triangles) for factor in (0.1, 1, 1.4, 2)]
    assert counts == [6000, 6000, 12000, len(body.triangles)]
    other = dataclasses.replace(body, v_template=body.v_template + np.float32([0, 1, 0]))  # none of the shipped meshes
    assert [len(detail.choose(other, "auto", metre * f).triangles) for f in (1, 1.4)] == [12000, len(body.triangles)]
    assert len(detail.choose(body, "full", metre).triangles) == len(body.triangles)


def test_joint_angle_gradients_and_silhouettes_are_the_full_meshs(body):
    """In the embedded prior's pictures, for differences to other poses; `benchmarks.detail` has the prior's own."""
    poses, baked, size = captured_poses(), lbs.bake(body), 32
    height = float(np.ptp(body.v_template[:, 1]))
    target = torch.tensor([0.0, float(body.v_template[:, 1].min()) + height / 2, 0.0])
    camera = Camera(torch.arange(len(poses)) * 1.1, torch.full((len(poses),), 0.2), 3.2, math.radians(40), target)

    def drawn(surface, wanted=None):
        verts, pull = jax.vjp(lambda p: lbs.pose(lbs.select(baked, surface.vertices), p), jnp.asarray(poses))
        leaf = torch.tensor(np.asarray(verts)).requires_grad_()
        image = render(leaf, camera, make_mesh(surface.triangles, surface.vertex_colors), size, size, 2, (0.9,) * 3)
        white = make_mesh(surface.triangles, np.ones_like(surface.vertex_colors), ambient=1.0, diffuse=0.0)
        outline = render(leaf.detach(), camera, white, size, size, 2, (0.0,) * 3)[..., 0]
        wanted = image.detach().roll(1, 0) if wanted is None else wanted
        (grad,) = torch.autograd.grad(image, leaf, image.detach() - wanted)
        return wanted, np.asarray(pull(jnp.asarray(grad.numpy()))[0]).ravel(), outline

    wanted, full, outline = drawn(detail.whole(body))
    _, ours, ours_outline = drawn(detail.choose(body, "auto", size * 2 / (6.4 * math.tan(math.radians(20)))), wanted)
    assert full @ ours / np.linalg.norm(full) / np.linalg.norm(ours) > 0.98
    edge = ((outline > 0.02) & (outline < 0.98)).sum()
    assert (outline - ours_outline).abs().sum() / edge < 0.1  # pixels


def test_another_body_is_decimated_when_it_is_needed_and_kept(body, tmp_path, monkeypatch):
    simplification = pytest.importorskip("fast_simplification")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    other = dataclasses.replace(body, v_template=body.v_template * 1.1)
    first = coarse(other, 6000)
    assert 5900 < len(first.triangles) < 6100
    distances = np.linalg.norm(np.asarray(other.v_template)[first.vertices], axis=1)
    assert len(distances) < 0.3 * len(body.v_template)

    def never(*args, **kwargs):
        raise AssertionError("made again")

    monkeypatch.setattr(simplification, "simplify", never)
    again = coarse(other, 6000)
    np.testing.assert_array_equal(again.triangles, first.triangles)
    assert detail.surface_digest(again) == detail.surface_digest(first) != detail.surface_digest(coarse(other, 3000))
    (kept,) = (tmp_path / "md_jax" / "detail").iterdir()
    kept.write_bytes(kept.read_bytes()[:1000])  # damaged: made again, and not read
    with pytest.raises(AssertionError, match="made again"):
        coarse(other)


def test_the_shipped_levels_are_the_shipped_bodys(body):
    held = npz.read_npz(detail.SHIPPED)
    assert held.pop("digest").tobytes().hex() == detail.digest(body)
    assert sorted(int(count) for count in held) == list(detail.LEVELS)
    with pytest.raises(UserError):
        npz.read_npz(detail.SHIPPED.with_name("nothing.npz"))
