"""Warp kernels that turn another rasteriser's triangle ids into what this renderer's later kernels read.

Conventions of the arrays are those of bridge/render/kernels/visibility.py.
"""

# mypy: ignore-errors
# (Warp compiles these functions from their source; their annotations are Warp types, their bodies not Python.)

import warp as wp

from bridge.render.kernels.visibility import cross2, depth_key, edge_functions

wp.set_module_options({"enable_backward": False})


@wp.kernel
def face_triangles(
    first: int,
    run: int,
    screen: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    facing: wp.array2d(dtype=wp.int8),
):
    """Sign of each triangle's area on screen; 0 where all of it is nearer than the near plane."""
    i, j = wp.tid()
    n = first + i
    for t in range(j * run, wp.min((j + 1) * run, triangles.shape[0])):
        tri = triangles[t]
        a = screen[n, tri[0]]
        b = screen[n, tri[1]]
        c = screen[n, tri[2]]
        area = float(0.0)  # noqa: UP018 - Warp: a variable, not a constant
        if a[3] > 0.0 and b[3] > 0.0 and c[3] > 0.0:
            area = cross2(wp.vec2(b[0] - a[0], b[1] - a[1]), wp.vec2(c[0] - a[0], c[1] - a[1]))
        elif a[3] > 0.0 or b[3] > 0.0 or c[3] > 0.0:
            e = edge_functions(a, b, c, 0.0, 0.0)
            area = e[0] * a[2] + e[1] * b[2] + e[2] * c[2]
        facing[i, t] = wp.int8(0)
        if area > 0.0:
            facing[i, t] = wp.int8(1)
        if area < 0.0:
            facing[i, t] = wp.int8(-1)


@wp.kernel
def adopt_triangles(
    first: int,
    run: int,
    ids: wp.array3d(dtype=float),
    screen: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    near: float,
    keys: wp.array3d(dtype=wp.uint64),
):
    """The key of each sample from the triangle (counted from 1; 0: none) that it is said to show.

    The other rasteriser snaps corners to a grid, so a sample may lie just outside its triangle: the depth is that of
    the nearest point inside, as everywhere in the shading.
    """
    i, y, j = wp.tid()
    n = first + i
    for x in range(j * run, wp.min((j + 1) * run, keys.shape[2])):
        t = int(ids[i, y, x]) - 1
        if t >= 0:
            tri = triangles[t]
            a = screen[n, tri[0]]
            b = screen[n, tri[1]]
            c = screen[n, tri[2]]
            e = edge_functions(a, b, c, float(x) + 0.5, float(y) + 0.5)
            turn = wp.sign(e[0] + e[1] + e[2])
            e = wp.vec3(wp.max(turn * e[0], 0.0), wp.max(turn * e[1], 0.0), wp.max(turn * e[2], 0.0))
            total = e[0] + e[1] + e[2]
            if total > 0.0:
                w = (e[0] * a[2] + e[1] * b[2] + e[2] * c[2]) / total
                keys[n, y, x] = depth_key(1.0 / wp.max(w, near), t)
