"""nvdiffrast as the renderer's other backend: only which triangle a sample shows, or its whole pipeline for parity.

nvdiffrast is never a dependency and none of its code is here: it is imported where its user has installed it. Its
rasteriser takes clip-space positions, draws its first row at the bottom (y = -w), culls nothing, snaps corners to 1/16
pixel, and before version 0.3.2 takes only widths and heights that 8 divides. So here clip y points down, which makes
its first row the picture's top; the picture is padded at the right and at the bottom; and the far plane lies at
infinity.
"""

from __future__ import annotations

import functools
import importlib
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.errors import BridgeError
from bridge.render.mesh import Mesh

__all__ = ["ADVICE", "antialiased_images", "clip_positions", "load", "triangle_ids"]

ADVICE = (
    "nvdiffrast is not installed here. It is NVIDIA's, free for research and evaluation only, and needs an NVIDIA GPU"
    " and a CUDA toolkit that fits torch: follow the installation instructions of its own repository,"
    " https://github.com/NVlabs/nvdiffrast. Or leave it: --renderer=warp --antialias=edge needs nothing more."
)
MULTIPLE = 8  # pixels


def load() -> Any:
    """The module nvdiffrast.torch.

    Raises:
        BridgeError: it is not installed, or cannot be imported; the message says what to do.
    """
    try:
        return importlib.import_module("nvdiffrast.torch")
    except (ImportError, OSError, RuntimeError) as error:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("nvdiffrast"):
            raise BridgeError(ADVICE) from error
        # Its extension is not there (the module _nvdiffrast_c), or was built for another torch or CUDA.
        raise BridgeError(
            f"nvdiffrast is installed and cannot be imported ({error}): build it again with this torch"
            f" ({torch.__version__}), as its installation instructions say, or use --renderer=warp."
        ) from error


@functools.cache
def _context(module: Any, device: torch.device) -> Any:
    """The rasteriser's state, one a device for as long as the process runs: making one takes memory and time."""
    return module.RasterizeCudaContext(device=device)


def clip_positions(
    vertices: Float[Tensor, "N V 3"], rows: Float[Tensor, "N 3 4"], near: float, height: int, width: int
) -> Float[Tensor, "N V 4"]:
    """Clip-space positions whose pixels are the renderer's, in a picture that may be larger at the right and bottom.

    Args:
        vertices: metres in the world.
        rows: what gives x·w and y·w in pixels (x right, y down) and w in metres of a world point.
        near: depth of the near plane in metres, positive.
        height: of the picture that is drawn, in pixels.
        width: of the same.

    Returns:
        (x, y, z, w) with x right and y down in [-w, w], z = w - 2·near: -w at the near plane, +w at infinity.
    """
    # Written out rather than as a matrix product, which may round to TF32 on a GPU.
    x, y, w = ((vertices[:, :, None] * rows[:, None, :, :3]).sum(-1) + rows[:, None, :, 3]).unbind(-1)
    return torch.stack([2 / width * x - w, 2 / height * y - w, w - 2 * near, w], -1)


def _padded(pixels: int) -> int:
    return -(-pixels // MULTIPLE) * MULTIPLE


def triangle_ids(
    vertices: Float[Tensor, "N V 3"],
    rows: Float[Tensor, "N 3 4"],
    triangles: Int[Tensor, "T 3"],
    near: float,
    height: int,
    width: int,
) -> Float[Tensor, "N H W"]:
    """The triangle that each sample shows, counted from 1; 0 where there is none. Row 0 at the top.

    Args:
        vertices, rows, near: as in `clip_positions`.
        triangles: int32 vertex indices.
        height: samples.
        width: samples.

    Raises:
        BridgeError: nvdiffrast is not installed.
    """
    module = load()
    size = _padded(height), _padded(width)
    positions = clip_positions(vertices, rows, near, *size)
    drawn, _ = module.rasterize(_context(module, vertices.device), positions, triangles, size, grad_db=False)
    return drawn[:, :height, :width, 3].contiguous()


def antialiased_images(
    vertices: Float[Tensor, "N V 3"],
    rows: Float[Tensor, "N 3 4"],
    eyes: Float[Tensor, "N 3"],
    background: Float[Tensor, "N 3"],
    mesh: Mesh,
    near: float,
    height: int,
    width: int,
    samples: int,
) -> Float[Tensor, "N H W 3"]:
    """Images by nvdiffrast alone (rasterize, interpolate, antialias), with this renderer's light and colours.

    Its antialiasing uses an edge only where the edge's own triangle is the visible one: on a body at video resolution
    most of the silhouette's gradient is lost. It is here for parity with work that used it.

    Args:
        vertices, rows, near: as in `clip_positions`; `rows` in samples.
        eyes: where the cameras stand, metres.
        background: colours in [0,1].
        mesh: triangles, colours and light.
        height: pixels.
        width: pixels.
        samples: samples a pixel and axis, averaged at the end.

    Returns:
        In [0,1], row 0 at the top, differentiable in the vertices by nvdiffrast's rules.

    Raises:
        BridgeError: nvdiffrast is not installed.

    Source: S. Laine et al., "Modular primitives for high-performance differentiable rendering", ACM TOG 39(6), 2020.
    """
    module = load()
    high, wide = height * samples, width * samples
    size = _padded(high), _padded(wide)
    positions = clip_positions(vertices, rows, near, *size).contiguous()
    context, triangles = _context(module, vertices.device), mesh.triangles
    drawn, _ = module.rasterize(context, positions, triangles, size, grad_db=False)
    shaded = (mesh.colors * headlight(vertices, eyes, mesh)[..., None]).contiguous()
    colour, _ = module.interpolate(shaded, drawn, triangles)
    image = torch.where(drawn[..., 3:] > 0, colour, background[:, None, None])
    image = module.antialias(image.contiguous(), drawn, positions, triangles)[:, :high, :wide]
    return image.unflatten(2, (width, samples)).unflatten(1, (height, samples)).mean((2, 4)).clamp(0, 1)


def headlight(
    vertices: Float[Tensor, "N V 3"], eyes: Float[Tensor, "N 3"], mesh: Mesh
) -> Float[Tensor, "N V"]:  # fmt: skip
    """Light at the vertices: ambient + diffuse·max(0, n·l) on smooth normals, as kernels/shading.py has it."""
    corners = mesh.triangles.long()
    a, b, c = (vertices[:, corners[:, k]] for k in range(3))
    areas = torch.linalg.cross(b - a, c - a)
    normal = torch.zeros_like(vertices)
    for k in range(3):
        normal = normal.index_add(1, corners[:, k], areas)
    cosine = torch.nn.functional.cosine_similarity(normal, eyes[:, None] - vertices, dim=-1, eps=1e-20)
    return mesh.ambient + mesh.diffuse * cosine.clamp(0, 1)
