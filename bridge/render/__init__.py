"""Differentiable rendering of a moving mesh, on CPU and CUDA from one source (Warp kernels).

    image = render(vertices, camera, mesh, 256, 256, supersample=2)

The gradient of the image reaches the vertices through the interpolation inside triangles, the shading (smooth
normals under a headlight) and edge-driven antialiasing; which triangle a pixel shows carries none.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.errors import BridgeError
from bridge.render import nvdiffrast as render_nvdiffrast
from bridge.render.camera import Camera, clip_matrix, eye_position
from bridge.render.mesh import Mesh, make_mesh
from bridge.render.passes import NEAR, Render, Scene

__all__ = ["Mesh", "make_mesh", "render"]

FAR = 100.0  # metres; the depth test itself has no far plane
BACKENDS = ("warp", "nvdiffrast")  # who finds the triangle that a sample shows
ANTIALIAS = ("edge", "visible", "none", "nvdiffrast")


def _pixel_rows(camera: Camera, height: int, width: int, device: torch.device) -> Tensor:
    """(N,3,4) rows that give x·w and y·w in pixels (y down) and w of a world point."""
    clip = clip_matrix(camera, height, width, NEAR, FAR).to(device, torch.float32)
    x, y, w = clip[:, 0], clip[:, 1], clip[:, 3]
    return torch.stack([(x + w) * (width / 2), (w - y) * (height / 2), w], 1)


def render(
    vertices: Float[Tensor, "N V 3"],
    camera: Camera,
    mesh: Mesh,
    height: int,
    width: int,
    supersample: int = 1,
    background: tuple[float, float, float] | Float[Tensor, "N 3"] = (1.0, 1.0, 1.0),
    antialias: str = "edge",
    backend: str = "warp",
) -> Float[Tensor, "N H W 3"]:
    """Images of N poses of a mesh, differentiable in the vertices.

    Args:
        vertices: (N,V,3) float32 metres, world coordinates, on the mesh's device.
        camera: N cameras, or one for all frames.
        mesh: from `make_mesh`.
        height: image height in pixels, positive.
        width: image width in pixels, positive.
        supersample: s >= 1; rendered and antialiased at s·height x s·width, then averaged over s x s boxes.
        background: a colour in [0,1], one for all or (N,3).
        antialias: "edge", driven by the silhouette's edges; "visible", only by those of triangles that are
            themselves seen (nvdiffrast's rule, for comparison); "none"; "nvdiffrast": its own pipeline throughout.
        backend: "warp", or "nvdiffrast" where that is installed (CUDA only).

    Returns:
        (N,H,W,3) float32 in [0,1], row 0 at the top.

    Raises:
        BridgeError: a shape, dtype, device or size that does not fit.

    Source: the algorithms are described, with their papers, in bridge/render/kernels/visibility.py, render_shading.py,
    render_edges.py (which edges antialias) and render_blend.py (how).
    """
    if vertices.ndim != 3 or vertices.shape[1:] != mesh.colors.shape:
        raise BridgeError(
            f"render expects vertices (N, {len(mesh.colors)}, 3), as many as the mesh has colours, "
            f"got {tuple(vertices.shape)}"
        )
    if vertices.dtype != torch.float32 or vertices.device != mesh.device:
        raise BridgeError(
            f"render expects float32 vertices on {mesh.device} (the mesh's device), "
            f"got {vertices.dtype} on {vertices.device}"
        )
    if min(height, width, supersample) < 1:
        raise BridgeError(f"render expects height, width, supersample >= 1, got {height}, {width}, {supersample}")
    if antialias not in ANTIALIAS or backend not in BACKENDS:
        raise BridgeError(
            f"render expects antialias in {', '.join(ANTIALIAS)} and backend in {', '.join(BACKENDS)}, got"
            f" {antialias!r} and {backend!r}"
        )
    if antialias == "nvdiffrast" and backend != "nvdiffrast":
        raise BridgeError("render with antialias 'nvdiffrast' expects backend 'nvdiffrast', got 'warp'")
    frames = vertices.shape[0]
    if len(camera) not in (1, frames):
        raise BridgeError(f"render expects 1 camera or one for each of the {frames} frames, got {len(camera)}")
    device = vertices.device
    with torch.no_grad():
        rows = _pixel_rows(camera, height * supersample, width * supersample, device)
        eyes = eye_position(camera).to(device, torch.float32)
        # Width of a sample at one metre of depth: the rows' lengths are the focal length in samples.
        pixel = 1 / (rows[:, 1, :3] - rows[:, 2, :3] * (height * supersample / 2)).norm(dim=-1)
        backdrop = torch.as_tensor(background, dtype=torch.float32, device=device)
        if backdrop.shape not in ((3,), (frames, 3)):
            raise BridgeError(f"render expects background (3,) or ({frames}, 3), got {tuple(backdrop.shape)}")
        scene = Scene(
            mesh,
            rows.expand(frames, 3, 4).contiguous(),
            eyes.expand(frames, 3).contiguous(),
            pixel.expand(frames).contiguous(),
            backdrop.expand(frames, 3).contiguous(),
            height,
            width,
            supersample,
            antialias,
            backend,
        )
    if frames == 0 or len(mesh.triangles) == 0:  # nothing to draw; still a function of the vertices to autograd
        return scene.background[:, None, None].expand(frames, height, width, 3) + 0 * vertices.sum()
    if antialias == "nvdiffrast":
        views = scene.rows, scene.eyes, scene.background
        return render_nvdiffrast.antialiased_images(vertices, *views, mesh, NEAR, height, width, supersample)
    return Render.apply(vertices.contiguous(), scene)
