"""The renderer's other ways to the same picture: nvdiffrast (a stand-in on the CPU), crossings without a list, CUDA."""

import importlib.util
import sys

import numpy as np
import pytest
import torch

from bridge.errors import BridgeError
from bridge.render import _pixel_rows, render
from bridge.render import choice as render_choice
from bridge.render import nvdiffrast as render_nvdiffrast
from bridge.render import passes as render_passes
from bridge.render.mesh import make_mesh
from tests.bridge.render import fake_nvdiffrast
from tests.bridge.render.render_oracle import icosphere
from tests.bridge.render.test_render import bumpy, one_ball, open_sheet, orbit, two_balls

BACKGROUND = torch.tensor([[0.1, 0.5, 0.9], [1.0, 0.2, 0.3]])


def draw(shape, camera=None, size=(36, 44), device="cpu", noisy=True, **options):
    """Image and gradient of two poses of a shape; the loss weights every pixel at random, or is their squares' sum."""
    vertices, triangles, colors = shape()
    camera = camera or orbit((0.4, 2.6))
    leaf = torch.stack([vertices, vertices * 0.8]).float().to(device).requires_grad_()
    background = BACKGROUND.to(device)
    image = render(leaf, camera, make_mesh(triangles, colors, device), *size, background=background, **options)
    weight = torch.tensor(np.random.default_rng(0).normal(size=tuple(image.shape)), dtype=torch.float32)
    (image * weight.to(device) if noisy else image.square()).sum().backward()
    return image.detach().cpu(), leaf.grad.cpu()


def cosine(a, b):
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


# --- nvdiffrast's conventions, by a stand-in that keeps them


@pytest.mark.parametrize("supersample", [1, 2])
@pytest.mark.parametrize("shape", [one_ball, two_balls, open_sheet])
def test_its_visibility_gives_the_same_picture_and_gradient(monkeypatch, shape, supersample):
    """Rows, columns, windings, depth order and a size that 8 does not divide: any slip would show."""
    fake_nvdiffrast.install(monkeypatch)
    image, grad = draw(shape, supersample=supersample)
    other, other_grad = draw(shape, supersample=supersample, backend="nvdiffrast")
    assert ((image - other).abs().amax(-1) > 1e-4).float().mean() < 1e-3
    assert cosine(grad, other_grad) > 0.999


def test_its_snapped_corners_change_little(monkeypatch):
    """A silhouette within 1/32 of a sample from a sample's centre may get lost: a few in a hundred do."""
    fake_nvdiffrast.install(monkeypatch, snap=16)
    for noisy, floor in ((False, 0.99), (True, 0.97)):
        image, grad = draw(two_balls, size=(64, 64), noisy=noisy)
        other, other_grad = draw(two_balls, size=(64, 64), noisy=noisy, backend="nvdiffrast")
        assert (image - other).abs().mean() < 2e-3
        assert cosine(grad, other_grad) > floor


@pytest.mark.parametrize("distance", [0.2, 0.62])
def test_its_near_plane_is_ours(monkeypatch, distance):
    fake_nvdiffrast.install(monkeypatch)
    camera = orbit((0.7,), distance=distance, fov=1.2)
    image, _ = draw(lambda: bumpy(1), camera, (40, 40), antialias="none")
    other, grad = draw(lambda: bumpy(1), camera, (40, 40), antialias="none", backend="nvdiffrast")
    assert ((image - other).abs().amax(-1) > 1e-3).float().mean() < 5e-3
    assert torch.isfinite(grad).all()


def test_ids_are_counted_from_one_and_row_0_is_the_top(monkeypatch):
    fake_nvdiffrast.install(monkeypatch)
    corners = torch.tensor([[[0.1, 0.1, 1.0], [0.93, 0.1, 1.0], [0.1, 0.93, 1.0]]])
    rows = torch.tensor([[[10.0, 0, 0, 0], [0, 10.0, 0, 0], [0, 0, 1.0, 0]]])  # x and y in pixels, w = z
    ids = render_nvdiffrast.triangle_ids(corners, rows, torch.tensor([[0, 1, 2]], dtype=torch.int32), 0.05, 9, 12)
    expected = torch.tensor([[float(x >= 1 and y >= 1 and x + y <= 9) for x in range(12)] for y in range(9)])
    assert torch.equal(ids[0], expected)


@pytest.mark.parametrize("supersample", [1, 2])
def test_its_own_pipeline_draws_what_ours_draws_without_antialiasing(monkeypatch, supersample):
    """The stand-in's `antialias` changes nothing."""
    fake_nvdiffrast.install(monkeypatch)
    image, _ = draw(two_balls, supersample=supersample, antialias="none")
    other, grad = draw(two_balls, supersample=supersample, antialias="nvdiffrast", backend="nvdiffrast")
    assert ((image - other).abs().amax(-1) > 1e-3).float().mean() < 1e-3
    assert torch.isfinite(grad).all() and grad.abs().max() > 1e-3


def test_its_own_pipeline_is_differentiable_inside_triangles(monkeypatch):
    fake_nvdiffrast.install(monkeypatch)
    vertices, triangles, colors = bumpy(1)
    mesh, camera = make_mesh(triangles, colors), orbit()
    direction = torch.tensor(np.random.default_rng(1).normal(size=(1, len(vertices), 3)), dtype=torch.float32)

    def picture(step):
        moved = vertices[None].float() + step * direction
        ids = render_nvdiffrast.triangle_ids(moved.detach(), rows, mesh.triangles, render_passes.NEAR, 40, 40)
        return render(moved, camera, mesh, 40, 40, antialias="nvdiffrast", backend="nvdiffrast"), ids

    rows = _pixel_rows(camera, 40, 40, torch.device("cpu"))
    step = torch.zeros((), requires_grad=True)
    (ahead, ids), (behind, other_ids), (here, _) = picture(1e-3), picture(-1e-3), picture(step)
    same = (ids == other_ids)[..., None]  # where the triangle seen changes, colours jump
    assert same.float().mean() > 0.9
    numeric = (ahead - behind) / 2e-3 * same
    weight = numeric.sign()  # nothing cancels
    (exact,) = torch.autograd.grad((here * weight).sum(), step)
    assert float(numeric.abs().sum()) == pytest.approx(float(exact), rel=0.01)


# --- what is not there


def test_advice_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "nvdiffrast", None)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", None)
    with pytest.raises(BridgeError, match=r"installation instructions.*github\.com/NVlabs/nvdiffrast"):
        render_nvdiffrast.load()
    for antialias in ("edge", "nvdiffrast"):
        with pytest.raises(BridgeError, match="installation instructions"):
            render_choice.choose("nvdiffrast", antialias, "cuda")
    assert render_choice.choose("auto", "edge", "cuda", lambda backend: 1.0) == "warp"


def test_a_build_that_does_not_fit_torch(monkeypatch, tmp_path):
    (tmp_path / "nvdiffrast").mkdir()
    (tmp_path / "nvdiffrast" / "__init__.py").write_text("")
    (tmp_path / "nvdiffrast" / "torch.py").write_text("raise ImportError('undefined symbol: x')")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("nvdiffrast", "nvdiffrast.torch"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(BridgeError, match=r"cannot be imported \(undefined symbol: x\): build it again"):
        render_nvdiffrast.load()


def test_the_fastest_that_is_there(monkeypatch):
    fake_nvdiffrast.install(monkeypatch)
    choose = render_choice.choose
    assert choose("auto", "edge", "cuda", {"warp": 1.0, "nvdiffrast": 0.5}.get) == "nvdiffrast"
    assert choose("auto", "edge", "cuda", {"warp": 1.0, "nvdiffrast": 0.95}.get) == "warp"  # noise decides nothing
    assert choose("auto", "edge", "cpu", {"warp": 1.0, "nvdiffrast": 0.5}.get) == "warp"
    assert choose("auto", "nvdiffrast", "cuda") == choose("nvdiffrast", "edge", "cuda") == "nvdiffrast"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nvdiffrast", "edge", "cpu"), "GPUs alone"),
        (("auto", "nvdiffrast", "cpu"), "GPUs alone"),
        (("warp", "nvdiffrast", "cuda"), "not warp"),
        (("opengl", "edge", "cpu"), "auto, warp or nvdiffrast"),
    ],
)
def test_what_does_not_go_together(arguments, words):
    with pytest.raises(BridgeError, match=words):
        render_choice.choose(*arguments)


def test_render_refuses_the_same():
    with pytest.raises(BridgeError, match="expects backend 'nvdiffrast'"):
        draw(one_ball, antialias="nvdiffrast")
    with pytest.raises(BridgeError, match="'opengl'"):
        draw(one_ball, backend="opengl")


# --- crossings without a list: what CUDA runs, on the CPU


@pytest.mark.parametrize("antialias", ["edge", "visible", "none"])
def test_crossings_sample_by_sample_are_the_listed_ones(monkeypatch, antialias):
    image, grad = draw(two_balls, supersample=2, antialias=antialias)
    monkeypatch.setitem(render_passes.LISTED, "cpu", False)
    monkeypatch.setitem(render_passes.CHUNK_SAMPLES, "cpu", 72 * 88)  # a frame at a time: the slots are used again
    other, other_grad = draw(two_balls, supersample=2, antialias=antialias)
    torch.testing.assert_close(image, other, atol=1e-6, rtol=0)
    torch.testing.assert_close(grad, other_grad, atol=1e-4, rtol=1e-4)
    again, _ = draw(two_balls, supersample=2, antialias=antialias)
    assert torch.equal(other, again)


# --- GPU


def _needs(cuda=True, nvdiffrast=False):
    if cuda and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if nvdiffrast and importlib.util.find_spec("nvdiffrast") is None:
        pytest.skip("nvdiffrast is not installed")


def body():
    """The free body, 26,972 triangles, in one pose (both frames)."""
    from benchmarks.render_quality import captured_poses, posed, scene

    s = scene()
    return posed(captured_poses()[:1])[0].double() - s.target.double(), s.mesh.triangles.long(), s.mesh.colors.numpy()


def coarse():
    vertices, triangles = icosphere(1)
    return vertices * 0.8, triangles, np.random.default_rng(0).uniform(size=(len(vertices), 3))


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [two_balls, open_sheet, body])
def test_cuda_draws_what_the_cpu_draws(shape):
    _needs()
    for supersample in (1, 2):
        image, grad = draw(shape, size=(128, 128), supersample=supersample)
        other, other_grad = draw(shape, size=(128, 128), supersample=supersample, device="cuda")
        assert ((image - other).abs().amax(-1) > 1e-3).float().mean() < 1e-3
        assert cosine(grad, other_grad) > 0.99


@pytest.mark.gpu
def test_the_renderer_on_cuda_waits_for_nothing_and_copies_nothing():
    """Neither host transfers nor synchronisation: torch raises where its own operations would synchronise."""
    _needs()
    vertices, triangles, colors = two_balls()
    mesh, background = make_mesh(triangles, colors, "cuda"), torch.ones(3, device="cuda")
    camera = orbit()
    camera = type(camera)(camera.azimuth.cuda(), camera.elevation.cuda(), 2.5, 0.8, camera.target.cuda())
    leaf = vertices[None].float().cuda().requires_grad_()

    def step():
        image = render(leaf, camera, mesh, 64, 64, 2, background)
        torch.autograd.grad(image, leaf, torch.ones_like(image))

    step()  # the kernels are loaded here
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    names = [event.name for event in profile.events()]
    assert not [name for name in names if "Memcpy" in name and ("HtoD" in name or "DtoH" in name)]


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [two_balls, body])
def test_nvdiffrast_agrees_with_warp_on_cuda(shape):
    _needs(nvdiffrast=True)
    image, grad = draw(shape, size=(256, 256), device="cuda", antialias="none")
    other, _ = draw(shape, size=(256, 256), device="cuda", antialias="none", backend="nvdiffrast")
    covered = [(x - BACKGROUND[:, None, None]).abs().amax(-1) > 1e-6 for x in (image, other)]
    assert (covered[0] == covered[1]).float().mean() >= 0.999
    inside = covered[0] & covered[1]
    assert (image - other).abs().amax(-1)[inside].mean() < 0.01
    _, grad = draw(shape, size=(256, 256), device="cuda", noisy=False)
    _, other_grad = draw(shape, size=(256, 256), device="cuda", noisy=False, backend="nvdiffrast")
    assert cosine(grad, other_grad) >= 0.99


@pytest.mark.gpu
def test_nvdiffrast_sees_the_same_triangles_and_depths_on_a_coarse_mesh():
    _needs(nvdiffrast=True)
    vertices, triangles, colors = coarse()
    mesh, camera = make_mesh(triangles, colors, "cuda"), orbit()
    seen = []
    for backend in ("warp", "nvdiffrast"):
        kept = render(vertices[None].float().cuda().requires_grad_(), camera, mesh, 256, 256, backend=backend)
        keys = kept.grad_fn.saved_tensors[3]  # vertices, screen, light, keys
        depth = (keys >> 32).to(torch.int32).view(torch.float32)
        seen.append((keys & 0xFFFFFFFF, torch.where(keys != 0, 1 / depth, 0)))
    (ids, depth), (other_ids, other_depth) = seen
    assert (ids == other_ids).float().mean() > 0.995
    both = (ids != 0) & (other_ids != 0)
    assert (depth - other_depth).abs()[both].quantile(0.999) < 5e-3


@pytest.mark.gpu
def test_nvdiffrasts_own_pipeline_looks_like_ours():
    _needs(nvdiffrast=True)
    image, _ = draw(body, size=(256, 256), supersample=2, device="cuda")
    other, grad = draw(
        body, size=(256, 256), supersample=2, device="cuda", antialias="nvdiffrast", backend="nvdiffrast"
    )
    assert (image - other).abs().mean() < 0.01 and torch.isfinite(grad).all() and grad.abs().max() > 0
