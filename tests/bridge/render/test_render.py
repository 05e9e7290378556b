"""bridge.render against its slow twin, finite differences of supersampled images, and bad or extreme input."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from bridge.errors import BridgeError
from bridge.render import passes as render_passes
from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.kernels import runtime
from bridge.render.mesh import make_mesh
from tests.bridge.render.render_oracle import icosphere, render_twin


def orbit(azimuth=(0.4,), elevation=0.3, distance=2.5, fov=0.8, target=(0.0, 0.0, 0.0)) -> Camera:
    return Camera(torch.tensor(azimuth), torch.full((len(azimuth),), elevation), distance, fov, torch.tensor(target))


def bumpy(level=2, seed=0, centre=(0.0, 0.0, 0.0), size=0.6):
    vertices, triangles = icosphere(level)
    rng = np.random.default_rng(seed)
    vertices = vertices * torch.tensor(1 + 0.1 * rng.normal(size=(len(vertices), 1))) * size
    return vertices + torch.tensor(centre, dtype=torch.float64), triangles, rng.uniform(size=(len(vertices), 3))


def one_ball():
    return bumpy()


def two_balls():
    """A small one in front of a large one."""
    (v, t, c), (u, s, d) = bumpy(1, 1, (0.1, 0.1, 0.6), 0.25), bumpy(1, 2)
    return torch.cat([v, u]), torch.cat([t, s + len(v)]), np.concatenate([c, d])


def open_sheet():
    """A wavy sheet with a boundary, one half of it wound the other way round."""
    x, y = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij")
    z = 0.3 * torch.sin(2.5 * x) * torch.cos(2 * y)
    vertices = torch.stack([x, y, z], -1).reshape(-1, 3).double() * 0.6
    at = torch.arange(64).reshape(8, 8)
    p, q, r, s = at[:-1, :-1].flatten(), at[1:, :-1].flatten(), at[1:, 1:].flatten(), at[:-1, 1:].flatten()
    triangles = torch.cat([torch.stack([p, q, r], 1), torch.stack([p, s, r], 1)])
    return vertices, triangles, np.random.default_rng(3).uniform(size=(64, 3))


# --- against the twin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("supersample", [1, 2])
@pytest.mark.parametrize("shape", [one_ball, two_balls, open_sheet])
def test_image_and_gradient_equal_the_twin(shape, supersample):
    vertices, triangles, colors = shape()
    mesh = make_mesh(triangles, colors)
    size = (36 // supersample, 44 // supersample)
    batch = torch.stack([vertices, vertices * 0.8])
    camera = orbit((0.4, 2.6))
    background = torch.tensor([[0.1, 0.5, 0.9], [1.0, 0.2, 0.3]])
    slow_leaf = batch.clone().requires_grad_()
    fast_leaf = batch.float().requires_grad_()
    slow = render_twin(slow_leaf, camera, mesh, *size, supersample, background)
    fast = render(fast_leaf, camera, mesh, *size, supersample, background)
    weight = torch.tensor(np.random.default_rng(0).normal(size=tuple(slow.shape)))
    (slow * weight).sum().backward()
    (fast * weight).sum().backward()
    assert fast.shape == (2, *size, 3) and fast.dtype == torch.float32
    assert (fast - slow).abs().max() < 1e-4
    error = (fast_leaf.grad - slow_leaf.grad).norm() / slow_leaf.grad.norm()
    assert error < 1e-3


def test_near_plane_cuts_triangles_like_rays_do():
    """From inside and from just outside a ball whose triangles cross the near plane."""
    vertices, triangles, colors = bumpy(1)
    mesh = make_mesh(triangles, colors)
    for distance in (0.2, 0.55, 0.62, 0.7):
        camera = orbit((0.7,), distance=distance, fov=1.2)
        slow = render_twin(vertices[None], camera, mesh, 40, 40)
        leaf = vertices[None].float().requires_grad_()
        fast = render(leaf, camera, mesh, 40, 40)
        fast.square().sum().backward()
        assert torch.isfinite(leaf.grad).all() and leaf.grad.abs().max() < 1e5
        assert ((fast - slow).abs().amax(-1) > 1e-3).float().mean() < 0.01
        bare = render(vertices[None].float(), camera, mesh, 40, 40, antialias="none")
        assert ((bare - slow).abs().amax(-1) > 0.6).float().mean() < 0.05


def test_supersampling_is_a_box_filter():
    vertices, triangles, colors = one_ball()
    mesh, camera = make_mesh(triangles, colors), orbit()
    fine = render(vertices[None].float(), camera, mesh, 60, 80)
    coarse = render(vertices[None].float(), camera, mesh, 30, 40, 2)
    torch.testing.assert_close(coarse, fine.reshape(1, 30, 2, 40, 2, 3).mean((2, 4)), atol=2e-6, rtol=0)


# --- conventions --------------------------------------------------------------------------------------------


def test_up_is_row_zero_and_the_left_side_is_on_the_right():
    corners = torch.tensor([[[0.5, 0.6, 0.0], [0.3, 0.9, 0.0], [0.1, 0.6, 0.0]]])
    mesh = make_mesh(torch.tensor([[0, 1, 2]]), np.ones((3, 3)), ambient=1.0, diffuse=0.0)
    image = render(corners, orbit((0.0,), 0.0), mesh, 40, 40, background=(0.0, 0.0, 0.0))[0, :, :, 0]
    rows, columns = torch.nonzero(image > 0.5, as_tuple=True)
    assert rows.max() < 20 and columns.min() > 20
    from_left = render(corners, orbit((math.pi / 2,), 0.0), mesh, 40, 40, background=(0.0, 0.0, 0.0))
    assert from_left.max() < 0.6  # edge-on


def test_colours_are_interpolated_perspective_correctly():
    """The middle of a receding strip, x = 0, is seen in the middle of the image but not of the strip."""
    corners = torch.tensor([[[-0.5, -0.1, 1.0], [0.5, -0.1, -3.0], [0.5, 0.1, -3.0], [-0.5, 0.1, 1.0]]])
    colors = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]], np.float32)
    mesh = make_mesh(torch.tensor([[0, 1, 2], [0, 2, 3]]), colors, ambient=1.0, diffuse=0.0)
    image = render(corners, orbit((0.0,), 0.0, distance=2.0), mesh, 200, 200, background=(0.0, 0.0, 0.0))
    assert image[0, 100, 100, 0] == pytest.approx(0.5, abs=0.03)


def test_one_camera_serves_all_frames_and_the_headlight_dims_what_is_turned_away():
    vertices, triangles, _ = icosphere(3)[0] * 0.7, icosphere(3)[1], None
    mesh = make_mesh(triangles, np.ones((len(vertices), 3)))
    batch = vertices.float().expand(3, -1, -1)
    images = render(batch, orbit((0.3,)), mesh, 64, 64, background=(0.0, 0.0, 0.0))
    assert torch.equal(images[0], images[2])
    assert images[0, 32, 32, 0] == pytest.approx(1.0, abs=0.02)
    assert images[0].amax(-1)[images[0].amax(-1) > 0.4].min() < 0.7


def test_antialiasing_brings_the_image_closer_to_the_truth():
    vertices, triangles, colors = bumpy(3)
    mesh, camera = make_mesh(triangles, colors), orbit()
    truth = render(vertices[None].float(), camera, mesh, 64, 64, 8, antialias="none")
    smooth = render(vertices[None].float(), camera, mesh, 64, 64)
    rough = render(vertices[None].float(), camera, mesh, 64, 64, antialias="none")
    assert (smooth - truth).norm() < 0.5 * (rough - truth).norm()


# --- determinism --------------------------------------------------------------------------------------------


def test_same_input_same_bits_alone_or_in_a_batch(monkeypatch):
    vertices, triangles, colors = two_balls()
    mesh = make_mesh(triangles, colors)
    batch = torch.stack([vertices * s for s in (1.0, 0.9, 0.8, 0.7)]).float()
    camera = orbit((0.1, 0.2, 0.3, 0.4))

    def run(vertices, camera):
        leaf = vertices.clone().requires_grad_()
        image = render(leaf, camera, mesh, 48, 48, 2)
        image.square().sum().backward()
        return image.detach(), leaf.grad

    image, grad = run(batch, camera)
    again = run(batch, camera)
    assert torch.equal(image, again[0]) and torch.equal(grad, again[1])
    monkeypatch.setitem(render_passes.CHUNK_SAMPLES, "cpu", 96 * 96 * 3)  # uneven chunks
    chunked = run(batch, camera)
    assert torch.equal(image, chunked[0]) and torch.equal(grad, chunked[1])
    alone = run(batch[2:3], orbit((0.3,)))
    assert torch.equal(image[2:3], alone[0]) and torch.equal(grad[2:3], alone[1])


def test_a_full_list_of_crossings_grows(monkeypatch):
    vertices, triangles, colors = one_ball()
    mesh, camera = make_mesh(triangles, colors), orbit()
    expected = render(vertices[None].float(), camera, mesh, 64, 64)
    monkeypatch.setattr(render_passes, "crossing_capacity", lambda height, width: 5)
    for _ in range(2):
        assert torch.equal(render(vertices[None].float(), camera, mesh, 64, 64), expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_draws_what_the_cpu_draws():
    vertices, triangles, colors = two_balls()
    results = []
    for device in ("cpu", "cuda"):
        leaf = vertices[None].float().to(device).requires_grad_()
        image = render(leaf, orbit(), make_mesh(triangles, colors, device), 64, 64, 2)
        image.square().sum().backward()
        results.append((image.detach().cpu(), leaf.grad.cpu()))
    (image, grad), (image_cuda, grad_cuda) = results
    assert ((image - image_cuda).abs().amax(-1) > 1e-3).float().mean() < 1e-3
    assert torch.nn.functional.cosine_similarity(grad.flatten(), grad_cuda.flatten(), dim=0) > 0.99


# --- extremes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a point", lambda v: v * 0),
        ("a line", lambda v: v * torch.tensor([1.0, 0, 0])),
        ("flat", lambda v: v * torch.tensor([1.0, 1, 0])),
        ("seen edge-on", lambda v: v * torch.tensor([0.0, 1, 1])),
        ("off to the side", lambda v: v + torch.tensor([50.0, 0, 0])),
        ("behind the camera", lambda v: v + torch.tensor([0.0, 0, 60])),
        ("around the camera", lambda v: v * 20),
        ("far away", lambda v: v - torch.tensor([0.0, 0, 1e6])),
        ("tiny", lambda v: v * 1e-8),
        ("huge", lambda v: v * 1e8),
    ],
)
def test_extreme_meshes_stay_finite(name, change):
    vertices, triangles, colors = one_ball()
    leaf = change(vertices[None].float()).requires_grad_()
    image = render(leaf, orbit((0.0,), 0.0), make_mesh(triangles, colors), 32, 32, 2)
    image.square().sum().backward()
    assert torch.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
    assert torch.isfinite(leaf.grad).all()


def test_meshes_with_nothing_to_draw():
    camera = orbit()
    empty = make_mesh(np.zeros((0, 3), np.int32), np.zeros((4, 3)))
    leaf = torch.zeros(1, 4, 3, requires_grad=True)
    image = render(leaf, camera, empty, 8, 8, background=(0.2, 0.4, 0.6))
    image.sum().backward()
    assert torch.allclose(image, torch.tensor([0.2, 0.4, 0.6]).expand_as(image)) and not leaf.grad.any()
    bare = make_mesh(np.zeros((0, 3), np.int32), np.zeros((0, 3)))
    assert render(torch.zeros(2, 0, 3), camera, bare, 8, 8).shape == (2, 8, 8, 3)
    assert render(torch.zeros(0, 4, 3), camera, empty, 8, 8).shape == (0, 8, 8, 3)
    repeated = make_mesh(np.array([[0, 0, 1], [1, 1, 1], [0, 1, 2], [0, 1, 2]]), np.zeros((3, 3)))
    assert torch.isfinite(render(torch.rand(1, 3, 3), camera, repeated, 8, 8)).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vertices": torch.zeros(1, 5, 3)}, r"vertices \(N, 162, 3\)"),
        ({"vertices": torch.zeros(162, 3)}, r"vertices \(N, 162, 3\)"),
        ({"vertices": torch.zeros(1, 162, 3).double()}, "float32"),
        ({"height": 0}, "height, width, supersample >= 1"),
        ({"supersample": 0}, "height, width, supersample >= 1"),
        ({"camera": orbit((0.0, 1.0, 2.0))}, "1 camera"),
        ({"background": torch.zeros(7, 3)}, "background"),
        ({"antialias": "fxaa"}, "antialias"),
    ],
)
def test_bad_input_gets_one_clear_line(change, message):
    vertices, triangles, colors = one_ball()
    arguments = {
        "vertices": vertices[None].float(),
        "camera": orbit(),
        "mesh": make_mesh(triangles, colors),
        "height": 8,
        "width": 8,
    }
    with pytest.raises(BridgeError, match=message):
        render(**{**arguments, **change})


# --- the mesh -----------------------------------------------------------------------------------------------


def test_edges_of_a_closed_mesh():
    _, triangles = icosphere(2)
    mesh = make_mesh(triangles, np.zeros((162, 3)))
    assert len(mesh.edges) == 480 and (mesh.edges[:, 3] >= 0).all() and not mesh.twisted.any()
    for a, b, t0, t1 in mesh.edges.tolist()[::37]:
        first, second = triangles[t0].tolist(), triangles[t1].tolist()
        assert (a, b) in zip(first, first[1:] + first[:1], strict=True)
        assert (b, a) in zip(second, second[1:] + second[:1], strict=True)


def test_boundaries_twists_and_third_triangles():
    mesh = make_mesh(np.array([[0, 1, 2], [1, 2, 3], [2, 1, 4]]), np.zeros((5, 3)))
    inner = [e for e in range(len(mesh.edges)) if {1, 2} == set(mesh.edges[e, :2].tolist())]
    assert sorted(mesh.edges[inner, 3].tolist())[0] == -1 and len(inner) == 2  # a pair, and one left over
    assert mesh.twisted.sum() == 1  # (0, 1, 2) and (1, 2, 3) both run from 1 to 2
    assert len(mesh.edges) == 8


@pytest.mark.parametrize(
    ("triangles", "colors", "light", "message"),
    [
        (np.zeros((2, 4), int), np.zeros((3, 3)), {}, r"\(T,3\)"),
        (np.zeros((2, 3)), np.zeros((3, 3)), {}, "integer"),
        (np.array([[0, 1, 3]]), np.zeros((3, 3)), {}, r"\[0, 3\)"),
        (np.array([[0, 1, 2]]), np.zeros(3), {}, r"\(V,3\)"),
        (np.array([[0, 1, 2]]), np.zeros((3, 3)), {"ambient": 0.9, "diffuse": 0.9}, "ambient"),
    ],
)
def test_make_mesh_refuses(triangles, colors, light, message):
    with pytest.raises(BridgeError, match=message):
        make_mesh(triangles, colors, **light)


def test_mesh_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make_mesh(np.array([[0, 1, 2]]), np.zeros((3, 3))).ambient = 0.0


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_cores_share_the_frames_and_change_no_bit(frames, monkeypatch):
    """Whatever the number of threads; and a thread that fails says so."""
    vertices, triangles, colors = two_balls()
    mesh = make_mesh(triangles, colors)
    batch = torch.stack([vertices * (1 - 0.07 * n) for n in range(frames)]).float()
    backgrounds = torch.linspace(0, 1, 3 * frames).reshape(frames, 3)
    camera = orbit(tuple(0.4 + 0.5 * n for n in range(frames)))

    def drawn(cores):
        monkeypatch.setattr(runtime, "cores", lambda: cores)
        leaf = batch.clone().requires_grad_()
        image = render(leaf, camera, mesh, 33, 35, 2, backgrounds)
        (grad,) = torch.autograd.grad((image * image.detach().flip(1)).sum(), leaf)
        return image.detach(), grad

    alone = drawn(1)
    assert float(alone[1].abs().sum()) > 1
    for cores in (2, 3, 8):
        for one, other in zip(alone, drawn(cores), strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=0)
    monkeypatch.setattr(render_passes, "_forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        drawn(3)
