"""The renderer's forward and backward pass: which kernels run in which order, on which buffers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import warp as wp
from torch import Tensor

from bridge.render import nvdiffrast as render_nvdiffrast
from bridge.render.kernels import adopt as render_adopt
from bridge.render.kernels import blend as render_blend
from bridge.render.kernels import edges as render_edges
from bridge.render.kernels import runtime as warp_runtime
from bridge.render.kernels import shading as render_shading
from bridge.render.kernels import visibility as render_visibility
from bridge.render.kernels.runtime import at_once, frame_parts, launch, view
from bridge.render.mesh import Mesh

warp_runtime.start()

NEAR = 0.05  # metres
OWN_TOLERANCE = 0.15  # metres between a silhouette edge and the surface it is taken to bound
FRONT_TOLERANCE = 0.02  # metres by which the pixel outside may be nearer than the edge
RUN = {"cpu": 64, "cuda": 1}  # items a thread works on in a row; Warp takes ~15 ns to start one on CPU
# Samples of scratch (32 bytes each) at a time: what stays in a CPU's caches, or a bounded share of a GPU's memory.
CHUNK_SAMPLES = {"cpu": 1 << 18, "cuda": 1 << 22}
# Are crossings listed? A list is short work, but the host must read its length; on CUDA that would stop the queue.
LISTED = {"cpu": True, "cuda": False}


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
class Scene:
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
    backend: str

    def frames(self, part: slice) -> Scene:
        """The scene of some of the frames."""
        return replace(self, **{name: getattr(self, name)[part] for name in ("rows", "eyes", "pixel", "background")})


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


class _Buffers(NamedTuple):
    """What forward leaves for backward; the kernels' docstrings say what each holds."""

    screen: Tensor  # (N,V,4)
    light: Tensor  # (N,V)
    keys: Tensor  # (N,sH,sW) int64
    shaded: Tensor  # (N,sH,sW,3)
    bounds: Tensor  # (N,4) int32
    counts: Tensor  # (N,) int32
    crossings: Tensor  # (N,capacity,4) int32
    winners: Tensor  # (N,sH,sW,4) int32 where crossings are not listed, else empty


def _allocate(scene: Scene, frames: int, vertices: int, capacity: int, device: torch.device) -> _Buffers:
    high, wide = scene.height * scene.samples, scene.width * scene.samples

    def floats(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32, device=device)

    return _Buffers(
        screen=floats(frames, vertices, 4),
        light=floats(frames, vertices),
        keys=torch.zeros((frames, high, wide), dtype=torch.int64, device=device),
        shaded=floats(frames, high, wide, 3),
        bounds=torch.full((frames, 4), high + wide, dtype=torch.int32, device=device),
        counts=torch.zeros(frames, dtype=torch.int32, device=device),
        crossings=torch.empty((frames, capacity, 4), dtype=torch.int32, device=device),
        winners=torch.empty((0 if capacity else frames, high, wide, 4), dtype=torch.int32, device=device),
    )


def _forward(scene: Scene, vertices: Tensor, capacity: int) -> tuple[Tensor, _Buffers, int]:
    """Draw all frames. Where a frame counts more crossings than `capacity`, stop and return that count.

    With a capacity of 0 crossings are not listed, nothing is counted and the host waits for nothing.
    """
    frames, count = vertices.shape[:2]
    device, samples = vertices.device, scene.samples
    high, wide = scene.height * samples, scene.width * samples
    mesh = _mesh_arrays(scene.mesh)
    n_triangles, n_edges = len(scene.mesh.triangles), len(scene.mesh.edges)
    buffers = _allocate(scene, frames, count, capacity, device)
    image = torch.empty((frames, scene.height, scene.width, 3), dtype=torch.float32, device=device)

    chunk = max(1, min(frames, CHUNK_SAMPLES[device.type] // (high * wide)))
    facing = torch.empty((chunk, n_triangles), dtype=torch.int8, device=device)
    needed = torch.empty((chunk, count), dtype=torch.int8, device=device)
    slots = _borrow((chunk, high, wide), device)

    vertices_, rows_, eyes_ = view(vertices, wp.vec3), view(scene.rows, wp.vec4), view(scene.eyes, wp.vec3)
    background_, image_ = view(scene.background, wp.vec3), view(image, wp.vec3)
    facing_, needed_, slots_ = view(facing, wp.int8), view(needed, wp.int8), view(slots, wp.uint64)
    screen_, light_ = view(buffers.screen, wp.vec4), view(buffers.light, wp.float32)
    keys_, shaded_ = view(buffers.keys, wp.uint64), view(buffers.shaded, wp.vec3)
    bounds_, counts_ = view(buffers.bounds, wp.int32), view(buffers.counts, wp.int32)
    crossings_ = view(buffers.crossings, wp.vec4i)
    triangles_, run = mesh.triangles, RUN[device.type]
    light_model = [scene.mesh.ambient, scene.mesh.diffuse]
    tolerances = [OWN_TOLERANCE, FRONT_TOLERANCE, int(scene.antialias == "visible")]
    see, shade = render_visibility, render_shading
    for first in range(0, frames, chunk):
        n = min(chunk, frames - first)

        def go(kernel: wp.Kernel, grid: tuple[int, ...], *inputs: object, n: int = n, first: int = first) -> None:
            *outer, inner = grid
            launch(kernel, (n, *outer, -(-inner // run)), device, [first, run, *inputs])

        needed.zero_()
        go(see.project, (count,), vertices_, rows_, NEAR, wp.vec2i(wide, high), screen_, bounds_)
        if scene.backend == "nvdiffrast":
            part = vertices[first : first + n], scene.rows[first : first + n]
            ids = render_nvdiffrast.triangle_ids(*part, scene.mesh.triangles, NEAR, high, wide)
            go(render_adopt.face_triangles, (n_triangles,), screen_, triangles_, facing_)
            ids_ = view(ids, wp.float32)
            go(render_adopt.adopt_triangles, (high, wide), ids_, screen_, triangles_, NEAR, keys_)
        else:
            go(see.rasterise, (n_triangles,), screen_, triangles_, NEAR, facing_, keys_)
        go(shade.mark_needed, (high, wide), bounds_, keys_, triangles_, needed_)
        go(shade.shade_vertices, (count,), vertices_, eyes_, mesh.ring_start, mesh.ring, *light_model, needed_, light_)
        surface = [bounds_, keys_, triangles_, screen_, light_, mesh.colors, background_, shaded_]
        go(shade.shade_pixels, (scene.height, scene.width), samples, *surface, image_)
        if scene.antialias == "none":
            continue
        edges = [screen_, mesh.edges, mesh.twisted, facing_, keys_, *tolerances, slots_]
        go(render_edges.find_crossings, (n_edges,), *edges, counts_, crossings_)
        blend = [first, samples, mesh.edges, keys_, screen_, shaded_, background_, slots_]
        if capacity == 0:
            winners_ = view(buffers.winners, wp.vec4i)
            launch(render_blend.blend_slots, (n, high, wide), device, [*blend, winners_, image_])
            continue
        most = int(buffers.counts[first : first + n].max())
        if most > capacity:
            return image, buffers, most  # the slots are dropped: some are not empty
        launch(render_blend.blend_crossings, (n, most), device, [*blend, counts_, crossings_, image_])
    _give_back(slots)
    return image.clamp_(0.0, 1.0), buffers, int(buffers.counts.max()) if capacity else 0


def _backward(scene: Scene, vertices: Tensor, saved: _Buffers, image_grad: Tensor) -> Tensor:
    frames, count = vertices.shape[:2]
    device, samples, run = vertices.device, scene.samples, RUN[vertices.device.type]
    high, wide = scene.height * samples, scene.width * samples
    mesh = _mesh_arrays(scene.mesh)
    grad = torch.zeros((frames, count, 4), dtype=torch.float32, device=device)
    result = torch.zeros_like(vertices)
    grad_, image_grad_ = view(grad, wp.vec4), view(image_grad, wp.vec3)
    keys_, pixel_ = view(saved.keys, wp.uint64), view(scene.pixel, wp.float32)
    surface = [mesh.triangles, view(saved.screen, wp.vec4), view(saved.light, wp.float32), mesh.colors]
    surface.append(view(saved.shaded, wp.vec3))
    inputs = [run, samples, view(saved.bounds, wp.int32), pixel_, keys_, *surface, image_grad_, grad_]
    launch(render_shading.shade_pixels_adjoint, (frames, high, -(-wide // run)), device, inputs)
    inputs = [samples, pixel_, mesh.edges, keys_, *surface, view(scene.background, wp.vec3)]
    inputs += [image_grad_, grad_]
    if len(saved.winners) and scene.antialias != "none":
        inputs.append(view(saved.winners, wp.vec4i))
        launch(render_blend.blend_slots_adjoint, (frames, high, wide), device, inputs)
    elif saved.crossings.shape[1]:
        inputs += [view(saved.counts, wp.int32), view(saved.crossings, wp.vec4i)]
        launch(render_blend.blend_crossings_adjoint, (frames, saved.crossings.shape[1]), device, inputs)
    inputs = [run, view(vertices, wp.vec3), view(scene.rows, wp.vec4), view(scene.eyes, wp.vec3), mesh.ring_start]
    inputs += [mesh.ring, scene.mesh.diffuse, grad_, view(result, wp.vec3)]
    launch(render_shading.vertices_adjoint, (frames, -(-count // run)), device, inputs)
    return result


def crossing_capacity(height: int, width: int) -> int:
    """How many crossings a frame gets room for at first; a frame that needs more makes the list grow."""
    return 8 * (height + width) + 1024


def _drawn(scene: Scene, vertices: Tensor) -> tuple[Tensor, _Buffers]:
    """The pictures of all frames, and what their gradient needs."""
    listed = LISTED[vertices.device.type]
    capacity = crossing_capacity(scene.height * scene.samples, scene.width * scene.samples) if listed else 0
    image, buffers, most = _forward(scene, vertices, capacity)
    while most > capacity:
        capacity = 2 * most
        image, buffers, most = _forward(scene, vertices, capacity)
    return image, buffers._replace(crossings=buffers.crossings[:, :most].contiguous())


class Render(torch.autograd.Function):
    @staticmethod
    def forward(ctx, vertices: Tensor, scene: Scene) -> Tensor:
        parts = frame_parts(len(vertices), vertices.device)
        ctx.scenes = [scene.frames(part) for part in parts]
        drawn = at_once(_drawn, ctx.scenes, [vertices[part] for part in parts])
        ctx.parts = parts
        ctx.save_for_backward(vertices, *(each for _, buffers in drawn for each in buffers))
        return torch.cat([image for image, _ in drawn])

    @staticmethod
    def backward(ctx, image_grad: Tensor) -> tuple[Tensor, None]:
        vertices, *saved = ctx.saved_tensors
        count, image_grad = len(_Buffers._fields), image_grad.contiguous().float()
        buffers = [_Buffers(*saved[at : at + count]) for at in range(0, len(saved), count)]
        of_part = [[each[part] for part in ctx.parts] for each in (vertices, image_grad)]
        return torch.cat(at_once(_backward, ctx.scenes, of_part[0], buffers, of_part[1])), None
