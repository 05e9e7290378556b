"""A triangle mesh ready to be rendered: colours, shading constants and the edge topology, computed once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.errors import BridgeError

__all__ = ["Mesh", "make_mesh"]


@dataclass(frozen=True)
class Mesh:
    """Everything about a mesh that does not move.

    Args:
        triangles: (T,3) int32 vertex indices; counter-clockwise seen from outside.
        colors: (V,3) float32 albedo in [0,1].
        edges: (E,4) int32 unique edges (a, b, t0, t1): the edge runs a → b in the winding of triangle t0; t1 is
            the triangle on its other side, or -1 at a boundary.
        twisted: (E,) int32, 1 where t1 is wound against t0, so that facing signs compare the other way round.
        ring_start: (V+1,) int32 offsets into `ring`.
        ring: (3T,2) int32, for each triangle around a vertex the two other corners in winding order.
        ambient: light that reaches every surface, in [0,1].
        diffuse: strength of the headlight, in [0,1]; ambient + diffuse <= 1 keeps the image in [0,1].
    """

    triangles: Int[Tensor, "T 3"]
    colors: Float[Tensor, "V 3"]
    edges: Int[Tensor, "E 4"]
    twisted: Int[Tensor, "E"]
    ring_start: Int[Tensor, "V1"]
    ring: Int[Tensor, "T3 2"]
    ambient: float = 0.45
    diffuse: float = 0.55

    @property
    def device(self) -> torch.device:
        return self.triangles.device


def _edges(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unique edges with their one or two triangles; a third triangle on an edge becomes a boundary of its own."""
    count = len(triangles)
    half = triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    owner = np.repeat(np.arange(count), 3)
    low, high = half.min(1), half.max(1)
    order = np.lexsort((owner, high, low))
    half, owner, low, high = half[order], owner[order], low[order], high[order]
    same = np.zeros(len(half), bool)
    same[1:] = (low[1:] == low[:-1]) & (high[1:] == high[:-1])
    # Position of each half-edge within its group of equal edges: even ones open a pair, odd ones close it.
    start = np.maximum.accumulate(np.where(same, 0, np.arange(len(half))))
    closes = (np.arange(len(half)) - start) % 2 == 1
    opens = np.flatnonzero(~closes)
    partner = np.minimum(opens + 1, max(len(half) - 1, 0))
    paired = (partner > opens) & closes[partner]
    edges = np.stack([half[opens, 0], half[opens, 1], owner[opens], np.where(paired, owner[partner], -1)], 1)
    twisted = paired & (half[opens, 0] == half[partner, 0])
    return edges, twisted


def make_mesh(
    triangles: Int[Tensor, "T 3"] | np.ndarray,
    colors: Float[Tensor, "V 3"] | np.ndarray,
    device: torch.device | str = "cpu",
    *,
    ambient: float = 0.45,
    diffuse: float = 0.55,
) -> Mesh:
    """Prepare a mesh for `bridge.render.render`: validate it and compute its edge topology.

    Args:
        triangles: (T,3) integer vertex indices, counter-clockwise seen from outside.
        colors: (V,3) albedo in [0,1]; V is the number of vertices.
        device: where the mesh shall live.
        ambient: light that reaches every surface, in [0,1].
        diffuse: strength of the headlight, in [0,1], with ambient + diffuse <= 1.

    Returns:
        The Mesh.

    Raises:
        BridgeError: wrong shapes, indices out of range, or light outside its range.
    """
    faces = np.asarray(triangles.detach().cpu() if isinstance(triangles, Tensor) else triangles)
    albedo = np.asarray(colors.detach().cpu() if isinstance(colors, Tensor) else colors, np.float32)
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise BridgeError(f"make_mesh expects integer triangles (T,3), got {faces.dtype} {faces.shape}")
    if albedo.ndim != 2 or albedo.shape[1] != 3:
        raise BridgeError(f"make_mesh expects colors (V,3), got {albedo.shape}")
    faces = faces.astype(np.int64)
    if faces.size and not (faces.min() >= 0 and faces.max() < len(albedo)):
        raise BridgeError(
            f"make_mesh expects vertex indices in [0, {len(albedo)}) (one colour a vertex), "
            f"got {faces.min()}..{faces.max()}"
        )
    if not (ambient >= 0 and diffuse >= 0 and ambient + diffuse <= 1 + 1e-6):
        raise BridgeError(f"make_mesh expects ambient, diffuse >= 0 and their sum <= 1, got {ambient}, {diffuse}")

    edges, twisted = _edges(faces)
    corner = faces.reshape(-1)
    order = np.argsort(corner, kind="stable")
    following = faces[:, [[1, 2], [2, 0], [0, 1]]].reshape(-1, 2)
    ring_start = np.zeros(len(albedo) + 1, np.int64)
    np.cumsum(np.bincount(corner, minlength=len(albedo)), out=ring_start[1:])

    def put(array: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(array, np.int32), device=device)

    return Mesh(
        triangles=put(faces),
        colors=torch.as_tensor(np.ascontiguousarray(albedo), device=device),
        edges=put(edges),
        twisted=put(twisted),
        ring_start=put(ring_start),
        ring=put(following[order]),
        ambient=float(ambient),
        diffuse=float(diffuse),
    )
