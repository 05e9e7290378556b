"""Level of detail: coarser meshes over a body's own vertices, for pictures too small to show all of its triangles.

A coarser mesh is a choice among the body's vertices with triangles of its own, so template, shape, skinning weights,
pose correctives and painted colours carry over as they are. `choose` takes the coarsest that is fine enough for the
picture. Those of the shipped body lie in `assets/detail.npz` (tools/build_detail.py); for other bodies they are made
when they are first needed, and kept in the user's cache folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import io
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from md_jax.body.model import Body
from md_jax.errors import UserError
from md_jax.files import make_folder, write_bytes
from md_jax.outside.environment import cache_folder
from md_jax.outside.npz import read_npz

SHIPPED = Path(__file__).parents[1] / "assets" / "detail.npz"
LEVELS = (3000, 6000, 12000)  # triangles
# Triangles at which the joint-angle gradient is that of the full mesh, cosine .99 (benchmarks/detail.py): for each
# sample that the body covers, and at least. Half of them face away. Without the colours in the decimation, as at load,
# it takes more.
PER_SAMPLE, LEAST = 8.0, 6000
AT_LOAD = 2  # times as many
COVERED = 0.15  # samples that a body covers, over the square of its height in samples: a mean over poses and views


@dataclasses.dataclass(frozen=True)
class Surface:
    """What is drawn of a body: some of its vertices, and triangles between them."""

    vertices: Int[np.ndarray, "v"]  # the body's own, ascending
    triangles: Int[np.ndarray, "t 3"]  # into `vertices`
    vertex_colors: Float[np.ndarray, "v 3"]  # sRGB in [0, 1]


def whole(body: Body) -> Surface:
    """All of a body."""
    return Surface(np.arange(len(body.v_template)), np.asarray(body.triangles), np.asarray(body.vertex_colors))


def choose(body: Body, detail: str, samples: float) -> Surface:
    """The surface to draw.

    Args:
        body: from `load_body`.
        detail: "full"; a number of triangles among LEVELS; or "auto", by the picture.
        samples: samples of the picture a metre, where the body stands.

    Returns:
        The coarsest surface that is fine enough, at the most the whole body.
    """
    if detail == "full":
        return whole(body)
    height = float(np.ptp(np.asarray(body.v_template)[:, 1])) * samples
    times = 1 if digest(body) == _shipped_digest() else AT_LOAD
    wanted = times * max(PER_SAMPLE * COVERED * height**2, LEAST) if detail == "auto" else float(detail)
    fine = [count for count in LEVELS if count >= wanted and count < len(body.triangles)]
    return surface(body, levels(body)[fine[0]]) if fine else whole(body)


def surface(body: Body, corners: Int[np.ndarray, "t 3"]) -> Surface:
    """The surface of triangles between a body's vertices."""
    vertices, triangles = np.unique(corners, return_inverse=True)
    return Surface(vertices, triangles.reshape(-1, 3).astype(np.int32), np.asarray(body.vertex_colors)[vertices])


def levels(body: Body) -> dict[int, Int[np.ndarray, "t 3"]]:
    """The coarser meshes of a body by their number of triangles, whose corners are vertices of the body."""
    name = digest(body)
    cached = cache_folder() / "detail" / f"{name}.npz"
    for path in (SHIPPED, cached):
        with contextlib.suppress(UserError):  # one that is missing or damaged is made again
            if (found := _read(path, name, len(body.v_template))) is not None:
                return found
    made = {count: decimated(np.asarray(body.v_template), body.triangles, count) for count in LEVELS}
    with contextlib.suppress(UserError):  # a cache that cannot be written costs a tenth of a second at the next start
        make_folder(cached.parent)
        write_bytes(cached, packed(name, made))
    return made


def decimated(
    vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "T 3"], count: int
) -> Int[np.ndarray, "t 3"]:
    """About `count` triangles between vertices of a mesh, by quadric edge collapse (fast-simplification).

    A collapse puts its vertex where neither end was: the vertex nearest to that place, of those that it stands for,
    takes it instead.
    """
    import fast_simplification

    if count >= len(triangles):
        return np.asarray(triangles)
    vertices, triangles = np.array(vertices, np.float32), np.array(triangles, np.int32)  # it wants them writable
    *_, collapses = fast_simplification.simplify(vertices, triangles, target_count=count, return_collapses=True)
    places, between, moved = fast_simplification.replay_simplification(vertices, triangles, collapses)
    nearest = np.zeros(len(places), np.int32)
    far_first = np.argsort(-np.linalg.norm(vertices - places[moved], axis=1), kind="stable")
    nearest[moved[far_first]] = far_first  # the last one written, the nearest, stays
    return nearest[between]


def digest(body: Body) -> str:
    """What a body's coarser meshes depend on, as 16 hexadecimal digits."""
    return _digest(np.asarray(body.v_template).tobytes(), np.asarray(body.triangles).tobytes())


def surface_digest(drawn: Surface) -> str:
    """What tells surfaces apart, as 16 hexadecimal digits."""
    return _digest(np.asarray(drawn.vertices, np.int64).tobytes(), np.asarray(drawn.triangles, np.int64).tobytes())


def packed(name: str, meshes: dict[int, Int[np.ndarray, "t 3"]]) -> bytes:
    """The file of a body's coarser meshes; `name` is its digest."""
    file = io.BytesIO()
    arrays = {str(count): np.asarray(corners, np.uint16 if corners.max() < 2**16 else np.uint32)
              for count, corners in meshes.items()}  # fmt: skip
    np.savez_compressed(file, digest=np.frombuffer(bytes.fromhex(name), np.uint8), **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _read(path: Path, name: str, vertices: int) -> dict[int, Int[np.ndarray, "t 3"]] | None:
    """The meshes in a file; None where they are another body's, or not those of LEVELS."""
    arrays = read_npz(path)
    if "digest" not in arrays or arrays.pop("digest").tobytes().hex() != name:
        return None
    if set(arrays) != {str(count) for count in LEVELS}:
        return None
    found = {int(count): corners.astype(np.int32) for count, corners in arrays.items()}
    fits = all(each.ndim == 2 and each.shape[1] == 3 and each.max(initial=0) < vertices for each in found.values())
    return found if fits else None


@functools.cache
def _shipped_digest() -> str:
    return read_npz(SHIPPED, ("digest",))["digest"].tobytes().hex()


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]
