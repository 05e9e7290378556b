"""Warp kernels of edge-driven antialiasing, second half: blend across the crossings found, and the adjoint.

With t the distance in samples from own to the crossing and α = ½ - t, α > 0 blends own towards other by α (the
silhouette leaves part of own uncovered), α < 0 blends other towards own by -α. As the crossing moves, α moves: that
is the gradient of the silhouette.
"""

# Source: S. Laine et al., "Modular primitives for high-performance differentiable rendering", ACM TOG 39(6), 2020,
# section 3.6.

# mypy: ignore-errors
# (Warp compiles these functions from their source; their annotations are Warp types, their bodies not Python.)

import warp as wp

from bridge.render.kernels.edges import other_pixel, row_share
from bridge.render.kernels.shading import sample_adjoint

wp.set_module_options({"enable_backward": False})


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
def share_of(a: wp.vec4, b: wp.vec4, direction: int) -> float:
    share = row_share(b[0] - a[0], b[1] - a[1])
    if direction >= 2:
        share = 1.0 - share
    return share


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


@wp.func
def blend_across(
    n: int,
    own: wp.vec2i,
    direction: int,
    edge: wp.vec4i,
    samples: int,
    keys: wp.array3d(dtype=wp.uint64),
    screen: wp.array2d(dtype=wp.vec4),
    shaded: wp.array3d(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
    image: wp.array3d(dtype=wp.vec3),
):
    """Blend own and the sample beyond it across one edge between them."""
    a = screen[n, edge[0]]
    b = screen[n, edge[1]]
    t = own_to_crossing(a, b, along_edge(a, b, own, direction), own, direction)
    out = other_pixel(own, direction)
    inside = sample_colour(n, own, keys, shaded, background)
    outside = sample_colour(n, out, keys, shaded, background)
    share = share_of(a, b, direction)
    change = (outside - inside) * (share * (0.5 - t) / float(samples * samples))
    if t < 0.5:
        wp.atomic_add(image, n, own[1] / samples, own[0] / samples, change)
    else:
        wp.atomic_add(image, n, out[1] / samples, out[0] / samples, change)


@wp.func
def slot_edge(slot: wp.uint64) -> int:
    """The edge that won a slot; -1 where it is empty."""
    return int(wp.uint32(slot & wp.uint64(0xFFFFFFFF))) - 1


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
    if slot_edge(slots[i, own[1], own[0], direction]) != crossing[0]:
        crossings[n, j] = wp.vec4i(-1, 0, 0, 0)
        return
    slots[i, own[1], own[0], direction] = wp.uint64(0)
    blend_across(n, own, direction, edges[crossing[0]], samples, keys, screen, shaded, background, image)


@wp.kernel
def blend_slots(
    first: int,
    samples: int,
    edges: wp.array(dtype=wp.vec4i),
    keys: wp.array3d(dtype=wp.uint64),
    screen: wp.array2d(dtype=wp.vec4),
    shaded: wp.array3d(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
    slots: wp.array4d(dtype=wp.uint64),
    winners: wp.array3d(dtype=wp.vec4i),
    image: wp.array3d(dtype=wp.vec3),
):
    """The same, sample by sample, without a list: its length would have to travel to the host. Empties all slots."""
    i, y, x = wp.tid()
    n = first + i
    own = wp.vec2i(x, y)
    winner = wp.vec4i(-1, -1, -1, -1)
    for direction in range(4):
        slot = slots[i, y, x, direction]
        if slot != wp.uint64(0):
            slots[i, y, x, direction] = wp.uint64(0)
            winner[direction] = slot_edge(slot)
            blend_across(n, own, direction, edges[slot_edge(slot)], samples, keys, screen, shaded, background, image)
    winners[n, y, x] = winner


@wp.func
def blend_across_adjoint(
    n: int,
    own: wp.vec2i,
    direction: int,
    edge: wp.vec4i,
    samples: int,
    pixel: wp.array(dtype=float),
    keys: wp.array3d(dtype=wp.uint64),
    triangles: wp.array(dtype=wp.vec3i),
    screen: wp.array2d(dtype=wp.vec4),
    light: wp.array2d(dtype=float),
    colors: wp.array(dtype=wp.vec3),
    shaded: wp.array3d(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
    image_grad: wp.array3d(dtype=wp.vec3),
    grad: wp.array2d(dtype=wp.vec4),
):
    a = screen[n, edge[0]]
    b = screen[n, edge[1]]
    u = along_edge(a, b, own, direction)
    t = own_to_crossing(a, b, u, own, direction)
    out = other_pixel(own, direction)
    at = own
    if t >= 0.5:
        at = out
    g = image_grad[n, at[1] / samples, at[0] / samples] / float(samples * samples)
    share = share_of(a, b, direction)
    alpha = share * (0.5 - t)
    inside = sample_colour(n, own, keys, shaded, background)
    outside = sample_colour(n, out, keys, shaded, background)
    inside_grad = g * (-alpha)
    outside_grad = g * alpha
    sample_adjoint(n, own[0], own[1], inside_grad, pixel, keys, triangles, screen, light, colors, shaded, grad)
    sample_adjoint(n, out[0], out[1], outside_grad, pixel, keys, triangles, screen, light, colors, shaded, grad)
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
    image_grad: wp.array3d(dtype=wp.vec3),
    grad: wp.array2d(dtype=wp.vec4),
    counts: wp.array(dtype=wp.int32),
    crossings: wp.array2d(dtype=wp.vec4i),
):
    n, j = wp.tid()
    if j >= counts[n]:
        return
    crossing = crossings[n, j]
    if crossing[0] < 0:
        return
    own = wp.vec2i(crossing[1], crossing[2])
    blend_across_adjoint(
        n, own, crossing[3], edges[crossing[0]], samples, pixel, keys, triangles, screen, light, colors, shaded,
        background, image_grad, grad,
    )  # fmt: skip


@wp.kernel
def blend_slots_adjoint(
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
    image_grad: wp.array3d(dtype=wp.vec3),
    grad: wp.array2d(dtype=wp.vec4),
    winners: wp.array3d(dtype=wp.vec4i),
):
    n, y, x = wp.tid()
    winner = winners[n, y, x]
    own = wp.vec2i(x, y)
    for direction in range(4):
        if winner[direction] >= 0:
            blend_across_adjoint(
                n, own, direction, edges[winner[direction]], samples, pixel, keys, triangles, screen, light, colors,
                shaded, background, image_grad, grad,
            )  # fmt: skip
