"""Decimate the free body for small pictures: md_jax/assets/detail.npz, from md_jax/assets/body.npz.

    pip install -e '.[assets]'
    python -m tools.build_detail --out=md_jax/assets/detail.npz

Takes a second. meshoptimizer collapses edges onto one of their ends, so that the corners stay the body's own vertices,
and its error counts the painted colours as well as the shape.
"""

import ctypes
from pathlib import Path

import numpy as np
from jaxtyping import Int

from md_jax.body.detail import LEVELS, digest, packed
from md_jax.body.model import Body, load_body
from md_jax.files import write_bytes
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

COLOUR_WEIGHT = 0.1  # of sRGB differences beside metres, as shares of the body's size: of .03, .1 and .3 the best


def decimated(body: Body, count: int) -> Int[np.ndarray, "t 3"]:
    """At most `count` triangles between vertices of the body."""
    from meshoptimizer._loader import lib  # its own wrapper of this function leaves out an argument (0.2.30a0)

    def at(array: np.ndarray) -> ctypes.c_void_p:
        return array.ctypes.data_as(ctypes.c_void_p)

    size = ctypes.c_size_t
    indices = np.array(body.triangles, np.uint32).ravel()
    points, colors = np.array(body.v_template, np.float32), np.array(body.vertex_colors, np.float32)
    weights, found = np.full(3, COLOUR_WEIGHT, np.float32), np.zeros_like(indices)
    lib.meshopt_simplifyWithAttributes.argtypes, lib.meshopt_simplifyWithAttributes.restype = None, size
    used = lib.meshopt_simplifyWithAttributes(
        at(found), at(indices), size(len(indices)), at(points), size(len(points)), size(points.strides[0]),
        at(colors), size(colors.strides[0]), at(weights), size(3), None, size(3 * count), ctypes.c_float(1.0),
        ctypes.c_uint(0), None,
    )  # fmt: skip
    return found[:used].reshape(-1, 3).astype(np.int32)


def main() -> None:
    path = Path(parse_simple(__doc__, "tools.build_detail", out=("md_jax/assets/detail.npz", "the file to write")).out)
    body = load_body("free")
    meshes = {count: decimated(body, count) for count in LEVELS}
    write_bytes(path, packed(digest(body), meshes))
    for count, corners in meshes.items():
        print(f"{count}: {len(corners)} triangles, {len(np.unique(corners))} vertices")
    print(f"wrote {path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    run_program(main)
