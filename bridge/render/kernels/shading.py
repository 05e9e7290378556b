"""Warp kernels of the renderer, shading: colours of samples and pixels, and the adjoints down to the vertices.

Colours are shaded at the vertices (a headlight on smooth normals) and interpolated. Conventions of the arrays are those
of bridge/render/kernels/visibility.py.
"""

# Source of the slopes between samples: M. Loper, M. Black, "OpenDR: an approximate differentiable renderer", ECCV 2014,
# section 3.2 (here one-sided at the edge of a surface, since occlusion has its own gradient).

# mypy: ignore-errors
# (Warp compiles these functions from their source; their annotations are Warp types, their bodies not Python.)

import warp as wp

from bridge.render.kernels.visibility import edge_functions, key_inverse_depth, key_triangle

wp.set_module_options({"enable_backward": False})

STEEPEST = wp.constant(4.0)  # depth per sideways step beyond which neighbours are two surfaces


@wp.kernel
def mark_needed(
    first: int,
    run: int,
    bounds: wp.array2d(dtype=wp.int32),
    keys: wp.array3d(dtype=wp.uint64),
    triangles: wp.array(dtype=wp.vec3i),
    needed: wp.array2d(dtype=wp.int8),
):
    """Mark the corners of visible triangles, whose shading is needed."""
    i, y, j = wp.tid()
    n = first + i
    if y < bounds[n, 1] or y > -bounds[n, 3]:
        return
    for x in range(wp.max(j * run, bounds[n, 0]), wp.min((j + 1) * run, 1 - bounds[n, 2])):
        key = keys[n, y, x]
        if key != wp.uint64(0):
            tri = triangles[key_triangle(key)]
            needed[i, tri[0]] = wp.int8(1)
            needed[i, tri[1]] = wp.int8(1)
            needed[i, tri[2]] = wp.int8(1)


@wp.func
def ring_normal(
    n: int,
    v: int,
    p: wp.vec3,
    vertices: wp.array2d(dtype=wp.vec3),
    ring_start: wp.array(dtype=wp.int32),
    ring: wp.array(dtype=wp.vec2i),
) -> wp.vec3:
    """Area-weighted vertex normal, not normalised: the sum of twice the vector areas of the triangles around v."""
    normal = wp.vec3(0.0, 0.0, 0.0)
    for k in range(ring_start[v], ring_start[v + 1]):
        pair = ring[k]
        normal += wp.cross(vertices[n, pair[0]] - p, vertices[n, pair[1]] - p)
    return normal


@wp.kernel
def shade_vertices(
    first: int,
    run: int,
    vertices: wp.array2d(dtype=wp.vec3),
    eyes: wp.array(dtype=wp.vec3),
    ring_start: wp.array(dtype=wp.int32),
    ring: wp.array(dtype=wp.vec2i),
    ambient: float,
    diffuse: float,
    needed: wp.array2d(dtype=wp.int8),
    light: wp.array2d(dtype=float),
):
    """Headlight: ambient + diffuse·max(0, n·l), l from the vertex to the eye."""
    i, j = wp.tid()
    n = first + i
    for v in range(j * run, wp.min((j + 1) * run, vertices.shape[1])):
        if needed[i, v] != wp.int8(0):
            p = vertices[n, v]
            normal = ring_normal(n, v, p, vertices, ring_start, ring)
            to_eye = eyes[n] - p
            scale = wp.dot(normal, normal) * wp.dot(to_eye, to_eye)
            cosine = float(0.0)  # noqa: UP018 - Warp: a variable, not a constant
            if scale > 0.0:
                cosine = wp.dot(normal, to_eye) / wp.sqrt(scale)
            light[n, v] = ambient + diffuse * wp.clamp(cosine, 0.0, 1.0)


@wp.func
def barycentric(a: wp.vec4, b: wp.vec4, c: wp.vec4, x: int, y: int) -> wp.vec3:
    """Perspective-correct barycentric coordinates at the centre of sample (x, y), clamped to the triangle."""
    e = edge_functions(a, b, c, float(x) + 0.5, float(y) + 0.5)
    turn = wp.sign(e[0] + e[1] + e[2])
    e = wp.vec3(wp.max(turn * e[0], 0.0), wp.max(turn * e[1], 0.0), wp.max(turn * e[2], 0.0))
    return e / wp.max(e[0] + e[1] + e[2], 1.0e-30)


@wp.func
def shade_sample(
    n: int,
    x: int,
    y: int,
    t: int,
    triangles: wp.array(dtype=wp.vec3i),
    screen: wp.array2d(dtype=wp.vec4),
    light: wp.array2d(dtype=float),
    colors: wp.array(dtype=wp.vec3),
) -> wp.vec3:
    tri = triangles[t]
    b = barycentric(screen[n, tri[0]], screen[n, tri[1]], screen[n, tri[2]], x, y)
    colour = colors[tri[0]] * (b[0] * light[n, tri[0]])
    colour += colors[tri[1]] * (b[1] * light[n, tri[1]])
    colour += colors[tri[2]] * (b[2] * light[n, tri[2]])
    return colour


@wp.kernel
def shade_pixels(
    first: int,
    run: int,
    samples: int,
    bounds: wp.array2d(dtype=wp.int32),
    keys: wp.array3d(dtype=wp.uint64),
    triangles: wp.array(dtype=wp.vec3i),
    screen: wp.array2d(dtype=wp.vec4),
    light: wp.array2d(dtype=float),
    colors: wp.array(dtype=wp.vec3),
    background: wp.array(dtype=wp.vec3),
    shaded: wp.array3d(dtype=wp.vec3),
    image: wp.array3d(dtype=wp.vec3),
):
    """Colour of each covered sample, and of each pixel: the mean of its samples², background where empty."""
    i, y, j = wp.tid()
    n = first + i
    empty = background[n]
    share = 1.0 / float(samples * samples)
    left = bounds[n, 0] / samples
    right = -bounds[n, 2] / samples
    if y < bounds[n, 1] / samples or y > -bounds[n, 3] / samples:
        right = -1
    for x in range(j * run, wp.min((j + 1) * run, image.shape[2])):
        total = empty
        if x >= left and x <= right:
            for v in range(y * samples, (y + 1) * samples):
                for u in range(x * samples, (x + 1) * samples):
                    key = keys[n, v, u]
                    if key != wp.uint64(0):
                        colour = shade_sample(n, u, v, key_triangle(key), triangles, screen, light, colors)
                        shaded[n, v, u] = colour
                        total += (colour - empty) * share
        image[n, y, x] = total


@wp.func
def slope(
    n: int,
    x: int,
    y: int,
    dx: int,
    dy: int,
    w: float,
    reach: float,
    keys: wp.array3d(dtype=wp.uint64),
    shaded: wp.array3d(dtype=wp.vec3),
) -> wp.vec3:
    """Colour per sample along (dx, dy): between the neighbours that continue the surface seen at (x, y)."""
    ahead = shaded[n, y, x]
    behind = ahead
    steps = float(0.0)  # noqa: UP018 - Warp: a variable, not a constant
    if x + dx < keys.shape[2] and y + dy < keys.shape[1]:
        key = keys[n, y + dy, x + dx]
        if key != wp.uint64(0) and wp.abs(1.0 / key_inverse_depth(key) - w) < reach:
            ahead = shaded[n, y + dy, x + dx]
            steps += 1.0
    if x >= dx and y >= dy:
        key = keys[n, y - dy, x - dx]
        if key != wp.uint64(0) and wp.abs(1.0 / key_inverse_depth(key) - w) < reach:
            behind = shaded[n, y - dy, x - dx]
            steps += 1.0
    return (ahead - behind) / wp.max(steps, 1.0)


@wp.func
def sample_adjoint(
    n: int,
    x: int,
    y: int,
    g: wp.vec3,
    pixel: wp.array(dtype=float),
    keys: wp.array3d(dtype=wp.uint64),
    triangles: wp.array(dtype=wp.vec3i),
    screen: wp.array2d(dtype=wp.vec4),
    light: wp.array2d(dtype=float),
    colors: wp.array(dtype=wp.vec3),
    shaded: wp.array3d(dtype=wp.vec3),
    grad: wp.array2d(dtype=wp.vec4),
):
    """Add to `grad` (X, Y, w, light) of the three corners what a gradient g on this sample's colour gives them.

    Where the surface moves by m pixels the colour changes by -slope·m. The slope is taken between neighbouring
    samples, not inside the triangle: on triangles smaller than a sample the latter has the right mean and a
    variance without bound (a step of colour across a sliver), the former is what the pixel's average does.
    """
    key = keys[n, y, x]
    if key == wp.uint64(0):
        return
    tri = triangles[key_triangle(key)]
    b = barycentric(screen[n, tri[0]], screen[n, tri[1]], screen[n, tri[2]], x, y)
    w = 1.0 / key_inverse_depth(key)
    reach = STEEPEST * w * pixel[n]
    mx = -wp.dot(g, slope(n, x, y, 1, 0, w, reach, keys, shaded)) / w
    my = -wp.dot(g, slope(n, x, y, 0, 1, w, reach, keys, shaded)) / w
    # d(X / w) = (dX - x dw) / w of the surface point, which is the b-weighted mean of the corners.
    mw = -(mx * (float(x) + 0.5) + my * (float(y) + 0.5))
    wp.atomic_add(grad, n, tri[0], wp.vec4(mx * b[0], my * b[0], mw * b[0], b[0] * wp.dot(g, colors[tri[0]])))
    wp.atomic_add(grad, n, tri[1], wp.vec4(mx * b[1], my * b[1], mw * b[1], b[1] * wp.dot(g, colors[tri[1]])))
    wp.atomic_add(grad, n, tri[2], wp.vec4(mx * b[2], my * b[2], mw * b[2], b[2] * wp.dot(g, colors[tri[2]])))


@wp.kernel
def shade_pixels_adjoint(
    run: int,
    samples: int,
    bounds: wp.array2d(dtype=wp.int32),
    pixel: wp.array(dtype=float),
    keys: wp.array3d(dtype=wp.uint64),
    triangles: wp.array(dtype=wp.vec3i),
    screen: wp.array2d(dtype=wp.vec4),
    light: wp.array2d(dtype=float),
    colors: wp.array(dtype=wp.vec3),
    shaded: wp.array3d(dtype=wp.vec3),
    image_grad: wp.array3d(dtype=wp.vec3),
    grad: wp.array2d(dtype=wp.vec4),
):
    n, y, j = wp.tid()
    if y < bounds[n, 1] or y > -bounds[n, 3]:
        return
    share = 1.0 / float(samples * samples)
    for x in range(wp.max(j * run, bounds[n, 0]), wp.min((j + 1) * run, 1 - bounds[n, 2])):
        if keys[n, y, x] != wp.uint64(0):
            g = image_grad[n, y / samples, x / samples] * share
            sample_adjoint(n, x, y, g, pixel, keys, triangles, screen, light, colors, shaded, grad)


@wp.func
def vertex_adjoint(
    n: int,
    v: int,
    g: wp.vec4,
    vertices: wp.array2d(dtype=wp.vec3),
    rows: wp.array2d(dtype=wp.vec4),
    eye: wp.vec3,
    ring_start: wp.array(dtype=wp.int32),
    ring: wp.array(dtype=wp.vec2i),
    diffuse: float,
    vertices_grad: wp.array2d(dtype=wp.vec3),
):
    h = rows[n, 0] * g[0] + rows[n, 1] * g[1] + rows[n, 2] * g[2]
    dp = wp.vec3(h[0], h[1], h[2])
    if g[3] != 0.0:
        p = vertices[n, v]
        normal = ring_normal(n, v, p, vertices, ring_start, ring)
        to_eye = eye - p
        nn = wp.dot(normal, normal)
        ll = wp.dot(to_eye, to_eye)
        dot = wp.dot(normal, to_eye)
        if dot > 0.0 and nn * ll > 0.0:
            k = g[3] * diffuse / wp.sqrt(nn * ll)
            dn = (to_eye - normal * (dot / nn)) * k
            dp -= (normal - to_eye * (dot / ll)) * k
            for m in range(ring_start[v], ring_start[v + 1]):
                pair = ring[m]
                d_a = wp.cross(vertices[n, pair[1]] - p, dn)
                d_b = wp.cross(dn, vertices[n, pair[0]] - p)
                wp.atomic_add(vertices_grad, n, pair[0], d_a)
                wp.atomic_add(vertices_grad, n, pair[1], d_b)
                dp -= d_a + d_b
    wp.atomic_add(vertices_grad, n, v, dp)


@wp.kernel
def vertices_adjoint(
    run: int,
    vertices: wp.array2d(dtype=wp.vec3),
    rows: wp.array2d(dtype=wp.vec4),
    eyes: wp.array(dtype=wp.vec3),
    ring_start: wp.array(dtype=wp.int32),
    ring: wp.array(dtype=wp.vec2i),
    diffuse: float,
    grad: wp.array2d(dtype=wp.vec4),
    vertices_grad: wp.array2d(dtype=wp.vec3),
):
    """From (X, Y, w, light) of each vertex to its position, through projection, headlight and ring normal."""
    n, j = wp.tid()
    for v in range(j * run, wp.min((j + 1) * run, vertices.shape[1])):
        g = grad[n, v]
        if g[0] != 0.0 or g[1] != 0.0 or g[2] != 0.0 or g[3] != 0.0:
            vertex_adjoint(n, v, g, vertices, rows, eyes[n], ring_start, ring, diffuse, vertices_grad)
