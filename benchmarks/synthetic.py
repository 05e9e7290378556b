"""A stand-in for the official SMPL-X file, which may not be shipped: same layout and size, dense correctives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from md_jax.body.model import FREE_BODY, PARENTS


def smplx_arrays(
    vertices: int = 10475, columns: int = 400, seed: int = 0, *, dense: bool = True, stray: bool = False
) -> dict[str, np.ndarray]:
    """Arrays of an SMPL-X file, random on purpose but of a body's size, so that nothing is zero or symmetric.

    Args:
        vertices: V of the file; the official one has 10,475 (and the smplx package needs more than 9,929).
        columns: of shapedirs, 400 as in current files or 20 as in old ones.
        seed: of all random numbers.
        dense: pose correctives of millimetres in every entry; otherwise all zero.
        stray: also tie every vertex to two arbitrary bones: mixtures that no real body has must be right, too.

    Returns:
        The arrays by their names in the file.
    """
    rng = np.random.default_rng(seed)
    with np.load(FREE_BODY, allow_pickle=False) as free:
        v_template, weights, regressor = (free[key] for key in ("v_template", "weights", "J_regressor"))
        chosen = rng.permutation(len(v_template))[:vertices]
        joints = regressor @ v_template
    v_template, weights = v_template[chosen], weights[chosen]
    weights = np.where(weights >= np.sort(weights, axis=1)[:, -4:-3], weights, 0)  # at most four bones a vertex
    if stray:
        extra = np.zeros_like(weights)
        np.put_along_axis(extra, rng.integers(0, 55, (vertices, 2)), 0.1, axis=1)
        weights = weights + extra
    weights /= weights.sum(axis=1, keepdims=True)
    distances = np.linalg.norm(joints[:, None] - v_template[None], axis=2)
    regressor = np.zeros((55, vertices), np.float32)
    np.put_along_axis(regressor, np.argsort(distances, axis=1)[:, :4], 0.25, axis=1)
    triangles = 2 * vertices - 42
    float32 = np.float32
    scale = 0.01 / np.sqrt(np.arange(1, columns + 1))  # metres a unit, falling like the components of a PCA
    arrays = {
        "v_template": v_template,
        "shapedirs": (rng.standard_normal((vertices, 3, columns), float32) * scale).astype(float32),
        "posedirs": rng.standard_normal((vertices, 3, 486), float32) * float32(0.002 if dense else 0),
        "J_regressor": regressor,
        "weights": weights.astype(float32),
        "kintree_table": np.array([PARENTS, range(55)]).astype(np.uint32),
        "f": rng.integers(0, vertices, (triangles, 3)).astype(np.uint32),
        "lmk_faces_idx": rng.integers(0, triangles, 51),
        "lmk_bary_coords": rng.dirichlet(np.ones(3), 51),
        "dynamic_lmk_faces_idx": rng.integers(0, triangles, (79, 17)),
        "dynamic_lmk_bary_coords": rng.dirichlet(np.ones(3), (79, 17)),
        # The objects that official files hold besides arrays: body-models reads the first, we touch neither.
        "joint2num": np.array({f"joint{index}": index for index in range(55)}, dtype=object),
        "part2num": np.array({f"part{index}": index for index in range(55)}, dtype=object),
    }
    for side in "lr":
        arrays[f"hands_components{side}"] = np.linalg.qr(rng.standard_normal((45, 45)))[0]
        arrays[f"hands_mean{side}"] = rng.uniform(-0.4, 0.4, 45)
        arrays[f"hands_coeffs{side}"] = np.zeros((1, 45))
    return arrays


def write(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    """Write the arrays as an .npz file; returns its path."""
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def coarser_free_body(cell: float) -> dict[str, np.ndarray]:
    """The shipped body with all vertices of a cube merged into one: a real body's shape with fewer vertices.

    Args:
        cell: edge of the cubes in metres; 0.03 leaves about a quarter of the vertices.
    """
    keys = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "kintree_table", "f")
    with np.load(FREE_BODY, allow_pickle=False) as free:
        arrays = {key: free[key] for key in keys}
    merged = np.unique(np.round(arrays["v_template"] / cell).astype(int), axis=0, return_inverse=True)[1].ravel()
    count, order = np.bincount(merged), np.argsort(merged, kind="stable")

    def sums(values: np.ndarray) -> np.ndarray:
        return np.add.reduceat(values[order], np.cumsum(count) - count, axis=0)

    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        means = sums(arrays[key]) / count.reshape(-1, *[1] * (arrays[key].ndim - 1))
        arrays[key] = means.astype(np.float32)
    arrays["J_regressor"] = sums(arrays["J_regressor"].T).T.copy()
    corners = merged[arrays["f"].astype(int)]
    kept = [len(set(triangle)) == 3 for triangle in corners.tolist()]
    _, first = np.unique(np.sort(corners[kept], axis=1), axis=0, return_index=True)
    arrays["f"] = corners[kept][first].astype(np.uint32)
    return arrays
