"""Pictures of a body for people to look at: numpy in, numpy out, no gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import make_mesh

CHUNK = 8  # frames rendered at once: keeps memory low, costs nothing on a CPU


def make_painter(
    triangles: Int[np.ndarray, "T 3"],
    colors: Float[np.ndarray, "V 3"],
    *,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    supersample: int = 2,
    device: str = "cpu",
) -> Callable[..., UInt8[np.ndarray, "F H W 3"]]:
    """A function that renders vertices as 8-bit pictures.

    Args:
        triangles: vertex indices.
        colors: sRGB vertex colours in [0, 1].
        background: sRGB in [0, 1].
        supersample: samples a pixel and axis.
        device: where torch renders, "cpu" or "cuda".

    Returns:
        paint(vertices (F,V,3), *, azimuth, elevation, fov, distance, target (3,), height, width)
        -> (F,H,W,3) uint8:
        lengths in metres, angles in radians, sizes in pixels, row 0 at the top.
    """
    mesh = make_mesh(
        torch.as_tensor(np.array(triangles), dtype=torch.int32),
        torch.as_tensor(np.array(colors), dtype=torch.float32),
        device,
    )

    @torch.no_grad()
    def paint(
        vertices: Float[np.ndarray, "F V 3"],
        *,
        azimuth: float,
        elevation: float = 0.0,
        fov: float = math.radians(30.0),
        distance: float,
        target: Float[np.ndarray, "3"],
        height: int,
        width: int,
    ) -> UInt8[np.ndarray, "F H W 3"]:
        camera = Camera(
            azimuth=torch.tensor([azimuth], dtype=torch.float32, device=device),
            elevation=torch.tensor([elevation], dtype=torch.float32, device=device),
            distance=float(distance),
            fov_y=float(fov),
            target=torch.tensor(np.asarray(target, np.float32), device=device),
        )
        parts = []
        for start in range(0, len(vertices), CHUNK):
            block = torch.tensor(np.asarray(vertices[start : start + CHUNK], np.float32), device=device)
            image = render(block, camera, mesh, height, width, supersample=supersample, background=background)
            parts.append((image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy())
        return np.concatenate(parts)

    return paint
