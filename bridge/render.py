"""Differentiable rendering of a moving mesh, on CPU and CUDA from one source (Warp kernels).

    image = render(vertices, camera, mesh, 256, 256, supersample=2)

The gradient of the image reaches the vertices through the interpolation inside triangles, the shading (smooth
normals under a headlight) and edge-driven antialiasing; which triangle a pixel shows carries none.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import torch
import warp as wp
from jaxtyping import Float
from torch import Tensor


from bridge import render_edges, render_kernels, warp_runtime
from bridge.camera import Camera, clip_matrix, eye_position
from bridge.errors import BridgeError
from bridge.mesh import Mesh, make_mesh
from bridge.warp_runtime import launch, view

warp_runtime.start()

__all__ = ["Mesh", "make_mesh", "render"]

NEAR = 0.05  # metres
FAR = 100.0  # metres; the depth test itself has no far plane
OWN_TOLERANCE = 0.15  # metres between a silhouette edge and the surface it is taken to bound
FRONT_TOLERANCE = 0.02  # metres by which the pixel outside may be nearer than the edge
RUN = {"cpu": 64, "cuda": 1}  # items a thread works on in a row; Warp takes ~15 ns to start one on CPU
CHUNK_SAMPLES = 1 << 18  # samples of scratch at a time on CPU: what stays in its caches


# Slots in which crossings compete. All zero between calls: each call empties those that it fills.
_free_slots: dict[tuple, list[Tensor]] = {}
_lock = threading.Lock()


def _borrow(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    with _lock:
        waiting = _free_slots.get(((*shape, 4), device))
        if waiting:
            return waiting.pop()
    return torch.zeros((*shape, 4), dtype=torch.int64, device=device)


def _give_back(slots: Tensor) -> None:
    key = (tuple(slots.shape), slots.device)
    with _lock:
        if key not in _free_slots and len(_free_slots) >= 4:
            _free_slots.pop(next(iter(_free_slots)))
        _free_slots.setdefault(key, []).append(slots)


@dataclass(frozen=True)
class _Scene:
    """What forward and backward both need of a call, apart from the vertices."""

    mesh: Mesh
    rows: Tensor
    eyes: Tensor
    pixel: Tensor
    background: Tensor
    height: int
    width: int
    samples: int
    antialias: str


@dataclass(frozen=True)
class _MeshArrays:
    triangles: wp.array
    colors: wp.array
    edges: wp.array
    twisted: wp.array
    ring_start: wp.array
    ring: wp.array


def _mesh_arrays(mesh: Mesh) -> _MeshArrays:
    return _MeshArrays(
        view(mesh.triangles, wp.vec3i),
        view(mesh.colors, wp.vec3),
        view(mesh.edges, wp.vec4i),
        view(mesh.twisted, wp.int32),
        view(mesh.ring_start, wp.int32),
        view(mesh.ring, wp.vec2i),
    )


def _forward(scene: _Scene, vertices: Tensor, capacity: int) -> tuple[Tensor, ...]:
    """One pass over all frames; the caller checks that no frame counted more crossings than `capacity`."""
    frames, count = vertices.shape[:2]
    device, samples = vertices.device, scene.samples
    high, wide = scene.height * samples, scene.width * samples
    mesh = _mesh_arrays(scene.mesh)
    n_triangles, n_edges = len(scene.mesh.triangles), len(scene.mesh.edges)
    empty = {"device": device, "dtype": torch.float32}
    image = torch.empty((frames, scene.height, scene.width, 3), **empty)
    screen = torch.empty((frames, count, 4), **empty)
    light = torch.empty((frames, count), **empty)
    keys = torch.zeros((frames, high, wide), dtype=torch.int64, device=device)
    shaded = torch.empty((frames, high, wide, 3), **empty)
    bounds = torch.full((frames, 4), high + wide, dtype=torch.int32, device=device)
    counts = torch.zeros(frames, dtype=torch.int32, device=device)
    crossings = torch.empty((frames, capacity, 4), dtype=torch.int32, device=device)

    chunk = frames if device.type != "cpu" else max(1, min(frames, CHUNK_SAMPLES // (high * wide)))
    facing = torch.empty((chunk, n_triangles), dtype=torch.int8, device=device)
    needed = torch.empty((chunk, count), dtype=torch.int8, device=device)
    slots = _borrow((chunk, high, wide), device)

    vertices_, rows_, eyes_ = view(vertices, wp.vec3), view(scene.rows, wp.vec4), view(scene.eyes, wp.vec3)
    background_, image_ = view(scene.background, wp.vec3), view(image, wp.vec3)
    screen_, light_, keys_ = view(screen, wp.vec4), view(light, wp.float32), view(keys, wp.uint64)
    shaded_, slots_ = view(shaded, wp.vec3), view(slots, wp.uint64)
    counts_, crossings_ = view(counts, wp.int32), view(crossings, wp.vec4i)
    facing_, needed_, bounds_ = view(facing, wp.int8), view(needed, wp.int8), view(bounds, wp.int32)
    triangles_, run = mesh.triangles, RUN[device.type]
    light_model = [scene.mesh.ambient, scene.mesh.diffuse]
    tolerances = [OWN_TOLERANCE, FRONT_TOLERANCE, int(scene.antialias == "visible")]
    k, e = render_kernels, render_edges
    for first in range(0, frames, chunk):
        n = min(chunk, frames - first)

        def go(kernel: wp.Kernel, grid: tuple[int, ...], *inputs: object, n: int = n, first: int = first) -> None:
            *outer, inner = grid
            launch(kernel, (n, *outer, -(-inner // run)), device, [first, run, *inputs])

        needed.zero_()
        go(k.project, (count,), vertices_, rows_, NEAR, wp.vec2i(wide, high), screen_, bounds_)
        go(k.rasterise, (n_triangles,), screen_, triangles_, NEAR, facing_, keys_)
        go(k.mark_needed, (high, wide), bounds_, keys_, triangles_, needed_)
        go(k.shade_vertices, (count,), vertices_, eyes_, mesh.ring_start, mesh.ring, *light_model, needed_, light_)
        surface = [bounds_, keys_, triangles_, screen_, light_, mesh.colors, background_, shaded_]
        go(k.shade_pixels, (scene.height, scene.width), samples, *surface, image_)
        if scene.antialias == "none":
            continue
        edges = [screen_, mesh.edges, mesh.twisted, facing_, keys_, *tolerances, slots_]
        go(e.find_crossings, (n_edges,), *edges, counts_, crossings_)
        most = int(counts[first : first + n].max())
        if most > capacity:
            return image, screen, light, keys, shaded, bounds, counts, crossings, most  # dirty slots are dropped
        blend = [samples, mesh.edges, keys_, screen_, shaded_, background_, slots_, counts_, crossings_]
        launch(e.blend_crossings, (n, most), device, [first, *blend, image_])
    _give_back(slots)
    return image.clamp_(0.0, 1.0), screen, light, keys, shaded, bounds, counts, crossings, int(counts.max())


def _backward(scene: _Scene, saved: tuple[Tensor, ...], image_grad: Tensor) -> Tensor:
    vertices, screen, light, keys, shaded, bounds, counts, crossings = saved
    frames, count = vertices.shape[:2]
    device, samples, run = vertices.device, scene.samples, RUN[vertices.device.type]
    high, wide = scene.height * samples, scene.width * samples
    mesh = _mesh_arrays(scene.mesh)
    grad = torch.zeros((frames, count, 4), dtype=torch.float32, device=device)
    result = torch.zeros_like(vertices)
    grad_, image_grad_ = view(grad, wp.vec4), view(image_grad, wp.vec3)
    keys_, pixel_ = view(keys, wp.uint64), view(scene.pixel, wp.float32)
    surface = [mesh.triangles, view(screen, wp.vec4), view(light, wp.float32), mesh.colors, view(shaded, wp.vec3)]
    inputs = [run, samples, view(bounds, wp.int32), pixel_, keys_, *surface, image_grad_, grad_]
    launch(render_kernels.shade_pixels_adjoint, (frames, high, -(-wide // run)), device, inputs)
    inputs = [samples, pixel_, mesh.edges, keys_, *surface, view(scene.background, wp.vec3)]
    inputs += [view(counts, wp.int32), view(crossings, wp.vec4i), image_grad_, grad_]
    launch(render_edges.blend_crossings_adjoint, (frames, crossings.shape[1]), device, inputs)
    inputs = [run, view(vertices, wp.vec3), view(scene.rows, wp.vec4), view(scene.eyes, wp.vec3), mesh.ring_start]
    inputs += [mesh.ring, scene.mesh.diffuse, grad_, view(result, wp.vec3)]
    launch(render_kernels.vertices_adjoint, (frames, -(-count // run)), device, inputs)
    return result


def crossing_capacity(height: int, width: int) -> int:
    """How many crossings a frame gets room for at first; a frame that needs more makes the list grow."""
    return 8 * (height + width) + 1024


class _Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices: Tensor, scene: _Scene) -> Tensor:
        capacity = crossing_capacity(scene.height * scene.samples, scene.width * scene.samples)
        image, *saved, most = _forward(scene, vertices, capacity)
        while most > saved[-1].shape[1]:
            image, *saved, most = _forward(scene, vertices, 2 * most)
        *saved, crossings = saved
        ctx.scene = scene
        ctx.save_for_backward(vertices, *saved, crossings[:, :most].contiguous())
        return image

    @staticmethod
    def backward(ctx, image_grad: Tensor) -> tuple[Tensor, None]:
        return _backward(ctx.scene, ctx.saved_tensors, image_grad.contiguous().float()), None


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
            themselves seen (nvdiffrast's rule, for comparison); "none".

    Returns:
        (N,H,W,3) float32 in [0,1], row 0 at the top.

    Raises:
        BridgeError: a shape, dtype, device or size that does not fit.

    Source: bridge/render_edges.py (antialiasing), bridge/render_kernels.py (the rest).
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
    if antialias not in ("edge", "visible", "none"):
        raise BridgeError(f"render expects antialias 'edge', 'visible' or 'none', got {antialias!r}")
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
        scene = _Scene(
            mesh,
            rows.expand(frames, 3, 4).contiguous(),
            eyes.expand(frames, 3).contiguous(),
            pixel.expand(frames).contiguous(),
            backdrop.expand(frames, 3).contiguous(),
            height,
            width,
            supersample,
            antialias,
        )
    if frames == 0 or len(mesh.triangles) == 0:  # nothing to draw; still a function of the vertices to autograd
        return scene.background[:, None, None].expand(frames, height, width, 3) + 0 * vertices.sum()
    return _Render.apply(vertices.contiguous(), scene)
