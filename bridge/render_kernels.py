"""Warp kernels of the renderer: projection, visibility, shading, and their adjoints; one source for CPU and CUDA.

Every kernel works on frames [first, first + n) of a batch. Arrays named in lower case below are indexed by the
absolute frame; `facing` and `needed` are scratch, indexed by the frame within the launch.

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
STEEPEST = wp.constant(4.0)  # depth per sideways step beyond which neighbours are two surfaces
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
    area = float(0.0)
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
        facing[i, t] = rasterise_triangle(
            n, t, screen[n, tri[0]], screen[n, tri[1]], screen[n, tri[2]], near, keys
        )


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
            cosine = float(0.0)
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
    steps = float(0.0)
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
