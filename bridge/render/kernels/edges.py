"""Warp kernels of edge-driven antialiasing, first half: find where silhouettes pass between samples.

A crossing is where a silhouette edge passes between two neighbouring sample centres: `own` on the inside of the
silhouette, `other` outside. Every mesh edge
is walked, whether or not its triangle is the visible one in the pixel: on bodies at video resolution the
triangles along the silhouette are smaller than a pixel and mostly invisible.
"""

# Source: S. Laine et al., "Modular primitives for high-performance differentiable rendering", ACM TOG 39(6), 2020,
# section 3.6, blends across the edges of visible triangles; driving it by all silhouette edges is this project's.

# mypy: ignore-errors
# (Warp compiles these functions from their source; their annotations are Warp types, their bodies not Python.)

import warp as wp

from bridge.render.kernels.visibility import key_inverse_depth, key_triangle

wp.set_module_options({"enable_backward": False})

SOFT = wp.constant(3.0)  # over how wide a range of slopes around 45° an edge is measured along both axes


@wp.func
def other_pixel(own: wp.vec2i, direction: int) -> wp.vec2i:
    """The neighbour of a sample; directions 0..3 are +x, -x, +y, -y."""
    if direction == 0:
        return wp.vec2i(own[0] + 1, own[1])
    if direction == 1:
        return wp.vec2i(own[0] - 1, own[1])
    if direction == 2:
        return wp.vec2i(own[0], own[1] + 1)
    return wp.vec2i(own[0], own[1] - 1)


@wp.func
def row_share(dx: float, dy: float) -> float:
    """How much of an edge's coverage is measured along rows; the rest is measured along columns."""
    steep = wp.abs(dy) / wp.max(wp.abs(dx) + wp.abs(dy), 1.0e-12)
    return wp.clamp(0.5 + SOFT * (steep - 0.5), 0.0, 1.0)


@wp.func
def slot_key(t: float, edge: int) -> wp.uint64:
    """Outermost crossing first, then the highest edge: one atomic max decides, the same way on every run."""
    return (wp.uint64(wp.cast(t, wp.uint32)) << wp.uint64(32)) | wp.uint64(wp.uint32(edge + 1))


@wp.func
def walk_edge(
    i: int,
    n: int,
    k: int,
    edge: wp.vec4i,
    side: float,
    screen: wp.array2d(dtype=wp.vec4),
    keys: wp.array3d(dtype=wp.uint64),
    own_tolerance: float,
    front_tolerance: float,
    visible_only: int,
    slots: wp.array4d(dtype=wp.uint64),
    counts: wp.array(dtype=wp.int32),
    crossings: wp.array2d(dtype=wp.vec4i),
):
    """Enter the crossings of silhouette edge k that the depth buffer bears out."""
    a = screen[n, edge[0]]
    b = screen[n, edge[1]]
    if a[3] == 0.0 or b[3] == 0.0:
        return
    height = keys.shape[1]
    width = keys.shape[2]
    dx = b[0] - a[0]
    dy = b[1] - a[1]
    rows = row_share(dx, dy)
    for axis in range(2):
        if (axis == 0 and rows > 0.0) or (axis == 1 and rows < 1.0):
            by_rows = axis == 0
            # p runs along the scanline, q across it; `sign` > 0 where the inside lies towards +p.
            length = width
            count = height
            low = wp.min(a[1], b[1])
            high = wp.max(a[1], b[1])
            sign = -dy * side
            if not by_rows:
                length = height
                count = width
                low = wp.min(a[0], b[0])
                high = wp.max(a[0], b[0])
                sign = dx * side
            q0 = int(wp.ceil(wp.clamp(low - 0.5, 0.0, float(count))))
            q1 = int(wp.ceil(wp.clamp(high - 0.5, 0.0, float(count))))
            for q in range(q0, q1):
                at = float(q) + 0.5
                u = (at - a[1]) / dy
                s = a[0] + u * dx - 0.5
                if not by_rows:
                    u = (at - a[0]) / dx
                    s = a[1] + u * dy - 0.5
                if s >= 0.0 and s < float(length - 1):
                    below = int(wp.floor(s))
                    p = below
                    direction = 0
                    t = s - float(below)
                    if sign > 0.0:
                        p = below + 1
                        direction = 1
                        t = float(below + 1) - s
                    own = wp.vec2i(p, q)
                    if not by_rows:
                        own = wp.vec2i(q, p)
                        direction += 2
                    out = other_pixel(own, direction)
                    key = keys[n, own[1], own[0]]
                    if key != wp.uint64(0):
                        w = 1.0 / (a[3] + u * (b[3] - a[3]))
                        behind = keys[n, out[1], out[0]]
                        accept = wp.abs(1.0 / key_inverse_depth(key) - w) < own_tolerance
                        if behind != wp.uint64(0):
                            accept = accept and 1.0 / key_inverse_depth(behind) > w - front_tolerance
                        if visible_only != 0:
                            t_own = key_triangle(key)
                            accept = accept and (t_own == edge[2] or t_own == edge[3])
                        if accept:
                            wp.atomic_max(slots, i, own[1], own[0], direction, slot_key(wp.clamp(t, 0.0, 1.0), k))
                            place = wp.atomic_add(counts, n, 1)
                            if place < crossings.shape[1]:
                                crossings[n, place] = wp.vec4i(k, own[0], own[1], direction)


@wp.kernel
def find_crossings(
    first: int,
    run: int,
    screen: wp.array2d(dtype=wp.vec4),
    edges: wp.array(dtype=wp.vec4i),
    twisted: wp.array(dtype=wp.int32),
    facing: wp.array2d(dtype=wp.int8),
    keys: wp.array3d(dtype=wp.uint64),
    own_tolerance: float,
    front_tolerance: float,
    visible_only: int,
    slots: wp.array4d(dtype=wp.uint64),
    counts: wp.array(dtype=wp.int32),
    crossings: wp.array2d(dtype=wp.vec4i),
):
    """List the crossings (edge, own x, own y, direction) of edges between a front and a back, or at a boundary."""
    i, j = wp.tid()
    n = first + i
    for k in range(j * run, wp.min((j + 1) * run, edges.shape[0])):
        edge = edges[k]
        side = int(facing[i, edge[2]])
        back = -side
        if edge[3] >= 0:
            back = int(facing[i, edge[3]])
            if twisted[k] != 0:
                back = -back
        if side * back < 0:
            walk_edge(
                i,
                n,
                k,
                edge,
                float(side),
                screen,
                keys,
                own_tolerance,
                front_tolerance,
                visible_only,
                slots,
                counts,
                crossings,
            )
