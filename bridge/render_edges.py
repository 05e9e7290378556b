"""Warp kernels of edge-driven antialiasing: find silhouette crossings, blend across them, and the adjoint.

A crossing is where a silhouette edge passes between two neighbouring sample centres: `own` on the inside of the
silhouette, `other` outside. With t the distance in pixels from own to the crossing and α = ½ - t, α > 0 blends own
towards other by α (the silhouette leaves part of own uncovered), α < 0 blends other towards own by -α. Every mesh
edge is walked, whether or not its triangle is the visible one in the pixel: on bodies at video resolution the
triangles along the silhouette are smaller than a pixel and mostly invisible.
"""

# Source: the blend is that of S. Laine et al., "Modular primitives for high-performance differentiable rendering",
# ACM TOG 39(6), 2020, section 3.6; driving it by edges instead of by visible triangles is this project's.

# mypy: ignore-errors
# (Warp compiles these functions from their source; their annotations are Warp types, their bodies not Python.)

import warp as wp

from bridge.render_kernels import key_inverse_depth, key_triangle, sample_adjoint

wp.set_module_options({"enable_backward": False})
SOFT = wp.constant(3.0)


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
def along_edge(a: wp.vec4, b: wp.vec4, own: wp.vec2i, direction: int) -> float:
    """Fraction of the way from a to b, on screen, at which the edge meets the scanline of `own`."""
    if direction < 2:
        return (float(own[1]) + 0.5 - a[1]) / (b[1] - a[1])
    return (float(own[0]) + 0.5 - a[0]) / (b[0] - a[0])


@wp.func
def own_to_crossing(a: wp.vec4, b: wp.vec4, u: float, own: wp.vec2i, direction: int) -> float:
    """The distance t, in pixels, from the centre of `own` towards its neighbour at which the edge crosses."""
    if direction < 2:
        offset = a[0] + u * (b[0] - a[0]) - (float(own[0]) + 0.5)
    else:
        offset = a[1] + u * (b[1] - a[1]) - (float(own[1]) + 0.5)
    if direction == 1 or direction == 3:
        offset = -offset
    return wp.clamp(offset, 0.0, 1.0)


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


@wp.func
def sample_colour(
    n: int,
    pixel: wp.vec2i,
    keys: wp.array3d(dtype=wp.uint64),
    shaded: wp.array3d(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
) -> wp.vec3:
    if keys[n, pixel[1], pixel[0]] == wp.uint64(0):
        return background[n]
    return shaded[n, pixel[1], pixel[0]]


@wp.kernel
def blend_crossings(
    first: int,
    samples: int,
    edges: wp.array(dtype=wp.vec4i),
    keys: wp.array3d(dtype=wp.uint64),
    screen: wp.array2d(dtype=wp.vec4),
    shaded: wp.array3d(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
    slots: wp.array4d(dtype=wp.uint64),
    counts: wp.array(dtype=wp.int32),
    crossings: wp.array2d(dtype=wp.vec4i),
    image: wp.array3d(dtype=wp.vec3),
):
    """Blend across the outermost crossing of each (own, direction); empty its slot; cross the others off."""
    i, j = wp.tid()
    n = first + i
    if j >= counts[n]:
        return
    crossing = crossings[n, j]
    own = wp.vec2i(crossing[1], crossing[2])
    direction = crossing[3]
    edge = edges[crossing[0]]
    a = screen[n, edge[0]]
    b = screen[n, edge[1]]
    u = along_edge(a, b, own, direction)
    t = own_to_crossing(a, b, u, own, direction)
    slot = slots[i, own[1], own[0], direction]
    if slot == wp.uint64(0) or int(wp.uint32(slot & wp.uint64(0xFFFFFFFF))) != crossing[0] + 1:
        crossings[n, j] = wp.vec4i(-1, 0, 0, 0)
        return
    slots[i, own[1], own[0], direction] = wp.uint64(0)
    out = other_pixel(own, direction)
    inside = sample_colour(n, own, keys, shaded, background)
    outside = sample_colour(n, out, keys, shaded, background)
    share = row_share(b[0] - a[0], b[1] - a[1])
    if direction >= 2:
        share = 1.0 - share
    change = (outside - inside) * (share * (0.5 - t) / float(samples * samples))
    if t < 0.5:
        wp.atomic_add(image, n, own[1] / samples, own[0] / samples, change)
    else:
        wp.atomic_add(image, n, out[1] / samples, out[0] / samples, change)


@wp.kernel
def blend_crossings_adjoint(
    samples: int,
    pixel: wp.array(dtype=float),
    edges: wp.array(dtype=wp.vec4i),
    keys: wp.array3d(dtype=wp.uint64),
    triangles: wp.array(dtype=wp.vec3i),
    screen: wp.array2d(dtype=wp.vec4),
    light: wp.array2d(dtype=float),
    colors: wp.array(dtype=wp.vec3),
    shaded: wp.array3d(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
    counts: wp.array(dtype=wp.int32),
    crossings: wp.array2d(dtype=wp.vec4i),
    image_grad: wp.array3d(dtype=wp.vec3),
    grad: wp.array2d(dtype=wp.vec4),
):
    n, j = wp.tid()
    if j >= counts[n]:
        return
    crossing = crossings[n, j]
    if crossing[0] < 0:
        return
    own = wp.vec2i(crossing[1], crossing[2])
    direction = crossing[3]
    edge = edges[crossing[0]]
    a = screen[n, edge[0]]
    b = screen[n, edge[1]]
    u = along_edge(a, b, own, direction)
    t = own_to_crossing(a, b, u, own, direction)
    out = other_pixel(own, direction)
    at = own
    if t >= 0.5:
        at = out
    g = image_grad[n, at[1] / samples, at[0] / samples] / float(samples * samples)
    share = row_share(b[0] - a[0], b[1] - a[1])
    if direction >= 2:
        share = 1.0 - share
    alpha = share * (0.5 - t)
    inside = sample_colour(n, own, keys, shaded, background)
    outside = sample_colour(n, out, keys, shaded, background)
    inside_grad = g * (-alpha)
    outside_grad = g * alpha
    sample_adjoint(
        n, own[0], own[1], inside_grad, pixel, keys, triangles, screen, light, colors, shaded, grad
    )
    sample_adjoint(
        n, out[0], out[1], outside_grad, pixel, keys, triangles, screen, light, colors, shaded, grad
    )
    # dα/dt = -1; the crossing moves with the edge's ends by their weights, sideways by the edge's slope.
    ds = -share * wp.dot(g, outside - inside)
    if direction == 1 or direction == 3:
        ds = -ds
    d = wp.vec2(ds, -ds * (b[0] - a[0]) / (b[1] - a[1]))
    if direction >= 2:
        d = wp.vec2(-ds * (b[1] - a[1]) / (b[0] - a[0]), ds)
    da = d * ((1.0 - u) * a[3])
    db = d * (u * b[3])
    wp.atomic_add(grad, n, edge[0], wp.vec4(da[0], da[1], -(da[0] * a[0] + da[1] * a[1]), 0.0))
    wp.atomic_add(grad, n, edge[1], wp.vec4(db[0], db[1], -(db[0] * b[0] + db[1] * b[1]), 0.0))
