"""Warp kernels of the renderer, visibility: projection and rasterisation; one source for CPU and CUDA.

Every kernel works on frames [first, first + n) of a batch. Arrays named in lower case below are indexed by the
absolute frame; `facing`, `needed` and `slots` are scratch, indexed by the frame within the launch. A thread works on
`run` items in a row.

A projected vertex is (x, y, w, 1/w): x right and y down in pixels, w the depth in metres. A vertex nearer than the
near plane has no projection: it is stored as (x·w, y·w, w, 0), and whoever meets 1/w = 0 works homogeneously.
"""

# Source: M. Olano, T. Greer, "Triangle scan conversion using 2D homogeneous coordinates", HWWS 1997 (edge
# functions without a division by w: what makes a triangle across the near plane an ordinary one).

# mypy: ignore-errors
# (Warp compiles these functions from their source; their annotations are Warp types, their bodies not Python.)

import warp as wp

wp.set_module_options({"enable_backward": False})

COVER_EPS = wp.constant(5.0e-5)  # pixels by which a triangle is grown, so that rounding leaves no cracks
MIN_AREA = wp.constant(1.0e-9)  # px²; below it a triangle is edge-on and hides nothing


@wp.func
def cross2(a: wp.vec2, b: wp.vec2) -> float:
    return a[0] * b[1] - a[1] * b[0]


@wp.func
def shifted(v: wp.vec4, x: float, y: float) -> wp.vec2:
    """Homogeneous pixel coordinates (X, Y) of a vertex after moving the origin to pixel position (x, y)."""
    if v[3] > 0.0:
        return wp.vec2((v[0] - x) * v[2], (v[1] - y) * v[2])
    return wp.vec2(v[0] - x * v[2], v[1] - y * v[2])


@wp.func
def edge_functions(a: wp.vec4, b: wp.vec4, c: wp.vec4, x: float, y: float) -> wp.vec3:
    """Unnormalised perspective-correct barycentric coordinates of the point seen at pixel position (x, y)."""
    p = shifted(a, x, y)
    q = shifted(b, x, y)
    r = shifted(c, x, y)
    return wp.vec3(cross2(q, r), cross2(r, p), cross2(p, q))


@wp.func
def depth_key(inverse_depth: float, triangle: int) -> wp.uint64:
    """Nearest first, then highest index: positive floats sort like their bits, so one atomic max decides."""
    return (wp.uint64(wp.cast(inverse_depth, wp.uint32)) << wp.uint64(32)) | wp.uint64(wp.uint32(triangle + 1))


@wp.func
def key_inverse_depth(key: wp.uint64) -> float:
    return wp.cast(wp.uint32(key >> wp.uint64(32)), wp.float32)


@wp.func
def key_triangle(key: wp.uint64) -> int:
    return wp.int32(wp.uint32(key & wp.uint64(0xFFFFFFFF))) - 1


@wp.kernel
def project(
    first: int,
    run: int,
    vertices: wp.array2d(dtype=wp.vec3),
    rows: wp.array2d(dtype=wp.vec4),
    near: float,
    size: wp.vec2i,
    screen: wp.array2d(dtype=wp.vec4),
    bounds: wp.array2d(dtype=wp.int32),
):
    """Project, and bound each frame: (left, top, -right, -bottom) samples, last ones included."""
    i, j = wp.tid()
    n = first + i
    low = wp.vec2(float(size[0]), float(size[1]))
    high = wp.vec2(-1.0, -1.0)
    for v in range(j * run, wp.min((j + 1) * run, vertices.shape[1])):
        p = vertices[n, v]
        h = wp.vec4(p[0], p[1], p[2], 1.0)
        x = wp.dot(rows[n, 0], h)
        y = wp.dot(rows[n, 1], h)
        w = wp.dot(rows[n, 2], h)
        if w >= near:
            inverse = 1.0 / w
            x *= inverse
            y *= inverse
            screen[n, v] = wp.vec4(x, y, w, inverse)
            low = wp.min(low, wp.vec2(x, y))
            high = wp.max(high, wp.vec2(x, y))
        else:
            screen[n, v] = wp.vec4(x, y, w, 0.0)
            low = wp.vec2(0.0, 0.0)
            high = wp.vec2(float(size[0]), float(size[1]))
    wp.atomic_min(bounds, n, 0, int(wp.clamp(low[0] - 0.5, 0.0, float(size[0]))))
    wp.atomic_min(bounds, n, 1, int(wp.clamp(low[1] - 0.5, 0.0, float(size[1]))))
    wp.atomic_min(bounds, n, 2, -int(wp.clamp(high[0] + 0.5, -1.0, float(size[0] - 1))))
    wp.atomic_min(bounds, n, 3, -int(wp.clamp(high[1] + 0.5, -1.0, float(size[1] - 1))))


@wp.func
def rasterise_clipped(
    n: int, t: int, a: wp.vec4, b: wp.vec4, c: wp.vec4, near: float, keys: wp.array3d(dtype=wp.uint64)
) -> float:
    """A triangle across the near plane: bound the part beyond it, then test pixels homogeneously."""
    height = keys.shape[1]
    width = keys.shape[2]
    low = wp.vec2(float(width), float(height))
    high = wp.vec2(0.0, 0.0)
    for k in range(3):
        p = a
        q = b
        if k == 1:
            p = b
            q = c
        if k == 2:
            p = c
            q = a
        if p[3] > 0.0:
            s = wp.vec2(p[0], p[1])
            low = wp.min(low, s)
            high = wp.max(high, s)
        if (p[3] > 0.0) != (q[3] > 0.0):
            u = (near - p[2]) / (q[2] - p[2])
            s = (shifted(p, 0.0, 0.0) * (1.0 - u) + shifted(q, 0.0, 0.0) * u) / near
            low = wp.min(low, s)
            high = wp.max(high, s)
    x0 = int(wp.ceil(wp.clamp(low[0] - 0.5, 0.0, float(width))))
    y0 = int(wp.ceil(wp.clamp(low[1] - 0.5, 0.0, float(height))))
    x1 = int(wp.floor(wp.clamp(high[0] - 0.5, -1.0, float(width - 1))))
    y1 = int(wp.floor(wp.clamp(high[1] - 0.5, -1.0, float(height - 1))))
    e = edge_functions(a, b, c, 0.0, 0.0)
    det = e[0] * a[2] + e[1] * b[2] + e[2] * c[2]
    for y in range(y0, y1 + 1):
        for x in range(x0, x1 + 1):
            e = edge_functions(a, b, c, float(x) + 0.5, float(y) + 0.5)
            total = e[0] + e[1] + e[2]
            if e[0] * total >= 0.0 and e[1] * total >= 0.0 and e[2] * total >= 0.0 and total != 0.0:
                w = (e[0] * a[2] + e[1] * b[2] + e[2] * c[2]) / total
                if w >= near:
                    wp.atomic_max(keys, n, y, x, depth_key(1.0 / w, t))
    return det


@wp.func
def rasterise_triangle(
    n: int, t: int, a: wp.vec4, b: wp.vec4, c: wp.vec4, near: float, keys: wp.array3d(dtype=wp.uint64)
) -> wp.int8:
    """Offer a triangle to the samples that it covers; returns the sign of its area on screen."""
    area = float(0.0)  # noqa: UP018 - Warp: a variable, not a constant
    if a[3] > 0.0 and b[3] > 0.0 and c[3] > 0.0:
        ab = wp.vec2(b[0] - a[0], b[1] - a[1])
        ac = wp.vec2(c[0] - a[0], c[1] - a[1])
        area = cross2(ab, ac)
        height = keys.shape[1]
        width = keys.shape[2]
        x0 = int(wp.ceil(wp.clamp(wp.min(a[0], wp.min(b[0], c[0])) - 0.5, 0.0, float(width))))
        x1 = int(wp.floor(wp.clamp(wp.max(a[0], wp.max(b[0], c[0])) - 0.5, -1.0, float(width - 1))))
        y0 = int(wp.ceil(wp.clamp(wp.min(a[1], wp.min(b[1], c[1])) - 0.5, 0.0, float(height))))
        y1 = int(wp.floor(wp.clamp(wp.max(a[1], wp.max(b[1], c[1])) - 0.5, -1.0, float(height - 1))))
        if x0 <= x1 and y0 <= y1 and wp.abs(area) > MIN_AREA:
            turn = wp.sign(area)
            bc = wp.vec2(c[0] - b[0], c[1] - b[1])
            slack_a = -COVER_EPS * (wp.abs(bc[0]) + wp.abs(bc[1]))
            slack_b = -COVER_EPS * (wp.abs(ac[0]) + wp.abs(ac[1]))
            slack_c = -COVER_EPS * (wp.abs(ab[0]) + wp.abs(ab[1]))
            for y in range(y0, y1 + 1):
                for x in range(x0, x1 + 1):
                    px = float(x) + 0.5
                    py = float(y) + 0.5
                    ea = turn * (bc[0] * (py - b[1]) - bc[1] * (px - b[0]))
                    eb = turn * (ac[1] * (px - c[0]) - ac[0] * (py - c[1]))
                    ec = turn * (ab[0] * (py - a[1]) - ab[1] * (px - a[0]))
                    if ea >= slack_a and eb >= slack_b and ec >= slack_c:
                        # Clamped, so that on slivers the depth stays between those of the corners.
                        ea = wp.max(ea, 0.0)
                        eb = wp.max(eb, 0.0)
                        ec = wp.max(ec, 0.0)
                        total = ea + eb + ec
                        if total > 0.0:
                            inverse = (ea * a[3] + eb * b[3] + ec * c[3]) / total
                            wp.atomic_max(keys, n, y, x, depth_key(inverse, t))
    elif a[3] > 0.0 or b[3] > 0.0 or c[3] > 0.0:
        area = rasterise_clipped(n, t, a, b, c, near, keys)
    if area > 0.0:
        return wp.int8(1)
    if area < 0.0:
        return wp.int8(-1)
    return wp.int8(0)


@wp.kernel
def rasterise(
    first: int,
    run: int,
    screen: wp.array2d(dtype=wp.vec4),
    triangles: wp.array(dtype=wp.vec3i),
    near: float,
    facing: wp.array2d(dtype=wp.int8),
    keys: wp.array3d(dtype=wp.uint64),
):
    i, j = wp.tid()
    n = first + i
    for t in range(j * run, wp.min((j + 1) * run, triangles.shape[0])):
        tri = triangles[t]
        facing[i, t] = rasterise_triangle(n, t, screen[n, tri[0]], screen[n, tri[1]], screen[n, tri[2]], near, keys)
