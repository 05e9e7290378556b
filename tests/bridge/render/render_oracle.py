"""The slow, readable twin of bridge.render: plain torch in float64, rays against every triangle, loops over edges.

It shares no code with the renderer except its constants. Gradients come from autograd.
"""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from bridge.render import passes as render_passes
from bridge.render.kernels import edges as render_edges
from bridge.render.kernels import shading as render_shading

STEEPEST = float(render_shading.STEEPEST)
SOFT = float(render_edges.SOFT)


def look(camera, n: int) -> tuple[Tensor, Tensor, float]:
    """Eye (3,), axes (3,3) right/up/forward, and tan of half the field of view, of camera n."""
    n = n if len(camera) > 1 else 0
    azimuth, elevation = float(camera.azimuth[n]), float(camera.elevation[n])
    target = camera.target.double().expand(len(camera), 3)[n]
    away = torch.tensor(
        [math.sin(azimuth) * math.cos(elevation), math.sin(elevation), math.cos(azimuth) * math.cos(elevation)],
        dtype=torch.float64,
    )
    forward = -away
    right = torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64))
    right = right / right.norm()
    up = torch.linalg.cross(right, forward)
    return target + away * float(camera.distance), torch.stack([right, up, forward]), math.tan(camera.fov_y / 2)


def cast(corners: Tensor, height: int, width: int, tan: float) -> tuple[Tensor, Tensor, Tensor]:
    """Nearest triangle (H,W), its barycentric coordinates (H,W,3) and depth (H,W); -1 and inf where there is none.

    `corners` (T,3,3) are in camera space: right, up, forward.
    """
    rows = (1 - (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height) * tan
    columns = ((torch.arange(width, dtype=torch.float64) + 0.5) * 2 / width - 1) * tan * width / height
    rays = torch.stack(
        [columns.expand(height, -1), rows[:, None].expand(-1, width), torch.ones(height, width).double()], -1
    )
    a, b, c = corners.unbind(1)
    solve = torch.stack([torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)], 1)
    parts = torch.einsum("tkc,hwc->hwtk", solve, rays)  # ray = Σ parts·corner / volume
    total = parts.sum(-1, keepdim=True)
    weights = parts / torch.where(total == 0, 1, total)
    depth = (weights * corners[:, :, 2]).sum(-1)
    hit = (weights >= 0).all(-1) & (total[..., 0] != 0) & (depth >= render_passes.NEAR)
    depth = torch.where(hit, depth, torch.inf)
    if depth.shape[-1] == 0:
        nothing = torch.zeros(height, width)
        return nothing.long() - 1, torch.zeros(height, width, 3).double(), nothing.double() + torch.inf
    nearest, which = depth.min(-1)
    found = torch.isfinite(nearest)
    chosen = torch.gather(weights, 2, which[:, :, None, None].expand(-1, -1, 1, 3))[:, :, 0]
    return torch.where(found, which, -1), torch.where(found[..., None], chosen, 0), nearest


def edge_table(triangles: Tensor) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Each undirected edge with (triangle, opposite vertex) of the triangles on it."""
    table = defaultdict(list)
    for t, (a, b, c) in enumerate(triangles.tolist()):
        for p, q, apex in ((a, b, c), (b, c, a), (c, a, b)):
            table[min(p, q), max(p, q)].append((t, apex))
    return table


def turn(p: Tensor, q: Tensor, r: Tensor) -> float:
    """Twice the signed area of p q r on screen."""
    return float((q[0] - p[0]) * (r[1] - p[1]) - (q[1] - p[1]) * (r[0] - p[0]))


def crossings(screen: Tensor, depth: Tensor, triangles: Tensor, surface: Tensor) -> dict:
    """{(own, other): (t, share)} of silhouette edges; t is differentiable in `screen`. Edges behind near: none."""
    height, width = surface.shape
    best: dict = {}
    values = screen.detach()
    for (a, b), sides in edge_table(triangles).items():
        if min(depth[a], depth[b]) < render_passes.NEAR:
            continue
        areas = [turn(values[a], values[b], values[apex]) for _, apex in sides]
        if len(areas) == 2 and areas[0] * areas[1] <= 0:
            continue
        dx, dy = (values[b] - values[a]).tolist()
        rows = min(max(0.5 + SOFT * (abs(dy) / max(abs(dx) + abs(dy), 1e-12) - 0.5), 0), 1)
        for across, along, share in ((1, 0, rows), (0, 1, 1 - rows)):
            if share <= 0:
                continue
            ends = sorted((float(values[a][across]), float(values[b][across])))
            limit, length = (height, width) if across == 1 else (width, height)
            for line in range(max(0, math.ceil(ends[0] - 0.5)), min(limit, math.ceil(ends[1] - 0.5))):
                u = (line + 0.5 - screen[a][across]) / (screen[b][across] - screen[a][across])
                s = screen[a][along] + u * (screen[b][along] - screen[a][along]) - 0.5
                low = math.floor(float(s.detach()))
                if not 0 <= low < length - 1:
                    continue
                beyond = values[a].clone()
                beyond[across], beyond[along] = line + 0.5, low + 1.5  # the higher of the two pixels
                inside_high = turn(values[a], values[b], beyond) * areas[0] > 0
                own, other = (low + 1, low) if inside_high else (low, low + 1)
                t = low + 1 - s if inside_high else s - low
                own, other = ((line, own), (line, other)) if across == 1 else ((own, line), (other, line))
                part = float(u.detach())
                edge_depth = 1 / ((1 - part) / float(depth[a]) + part / float(depth[b]))
                if not abs(float(surface[own]) - edge_depth) < render_passes.OWN_TOLERANCE:
                    continue
                if not float(surface[other]) > edge_depth - render_passes.FRONT_TOLERANCE:
                    continue
                if (own, other) not in best or float(t.detach()) > float(best[own, other][0].detach()):
                    best[own, other] = (t, share)
    return best


def slopes(colour: Tensor, surface: Tensor, pixel: float) -> tuple[Tensor, Tensor]:
    """(H,W,3) colour per sample along columns and rows, between neighbours of one surface."""
    result = []
    for axis in (1, 0):
        out = torch.zeros_like(colour)
        size = colour.shape[axis]
        for y in range(colour.shape[0]):
            for x in range(colour.shape[1]):
                if not math.isfinite(surface[y, x]):
                    continue
                reach = STEEPEST * float(surface[y, x]) * pixel
                at, ends = (y, x)[axis], [colour[y, x], colour[y, x]]
                steps = 0
                for k, sign in enumerate((1, -1)):
                    near = (y, x + sign) if axis == 1 else (y + sign, x)
                    if 0 <= at + sign < size and abs(float(surface[near] - surface[y, x])) < reach:
                        ends[k] = colour[near]
                        steps += 1
                out[y, x] = (ends[0] - ends[1]) / max(steps, 1)
        result.append(out)
    return result[0], result[1]


def render_twin(vertices, camera, mesh, height, width, supersample=1, background=(1.0, 1.0, 1.0)) -> Tensor:
    """As `bridge.render.render`, from float64 vertices (N,V,3)."""
    frames = []
    triangles = mesh.triangles.long()
    high, wide = height * supersample, width * supersample
    backdrop = torch.as_tensor(background, dtype=torch.float64).expand(len(vertices), 3)
    for n, points in enumerate(vertices):
        eye, axes, tan = look(camera, n)
        local = (points - eye) @ axes.T
        ids, weights, surface = cast(local.detach()[triangles], high, wide, tan)
        covered = ids >= 0

        a, b, c = points[triangles].unbind(1)
        normals = torch.zeros_like(points).index_add(
            0, triangles.flatten(), torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0)
        )
        to_eye = eye - points
        cosine = torch.nn.functional.cosine_similarity(normals, to_eye, dim=-1, eps=0)
        light = mesh.ambient + mesh.diffuse * torch.nan_to_num(cosine).clamp(min=0)
        shade = light[:, None] * mesh.colors.double()

        focal = high / 2 / tan
        corners = triangles[ids.clamp(min=0)] if len(triangles) else torch.zeros(high, wide, 3).long()
        colour = (weights[..., None] * shade[corners]).sum(2)
        point = (weights[..., None] * local[corners]).sum(2)
        depth = torch.where(covered, point[..., 2], 1)
        move_x = focal * point[..., 0] / depth
        move_y = -focal * point[..., 1] / depth
        slope_x, slope_y = slopes(colour.detach(), surface, 1 / focal)
        colour = colour - slope_x * (move_x - move_x.detach())[..., None]
        colour = colour - slope_y * (move_y - move_y.detach())[..., None]
        raw = torch.where(covered[..., None], colour, backdrop[n])

        w = local[:, 2]
        ahead = torch.where(w >= render_passes.NEAR, w, 1)
        screen = torch.stack([wide / 2 + focal * local[:, 0] / ahead, high / 2 - focal * local[:, 1] / ahead], 1)
        add = torch.zeros_like(raw)
        for (own, other), (t, share) in crossings(screen, w.detach(), triangles, surface).items():
            blended = share * (0.5 - t) * (raw[other] - raw[own])
            at = torch.zeros(high, wide, 1, dtype=torch.float64)
            at[own if float(t.detach()) < 0.5 else other] = 1
            add = add + at * blended
        image = (raw + add).reshape(height, supersample, width, supersample, 3).mean((1, 3))
        frames.append(image + (image.detach().clamp(0, 1) - image.detach()))
    return torch.stack(frames)


def icosphere(level: int) -> tuple[Tensor, Tensor]:
    """Unit sphere: (V,3) float64 vertices, (T,3) triangles counter-clockwise from outside."""
    g = (1 + math.sqrt(5)) / 2
    points = [(-1, g, 0), (1, g, 0), (-1, -g, 0), (1, -g, 0), (0, -1, g), (0, 1, g)]
    points += [(0, -1, -g), (0, 1, -g), (g, 0, -1), (g, 0, 1), (-g, 0, -1), (-g, 0, 1)]
    vertices = [torch.tensor(p, dtype=torch.float64) for p in points]
    faces = [(0, 11, 5), (0, 5, 1), (0, 1, 7), (0, 7, 10), (0, 10, 11), (1, 5, 9), (5, 11, 4), (11, 10, 2)]
    faces += [(10, 7, 6), (7, 1, 8), (3, 9, 4), (3, 4, 2), (3, 2, 6), (3, 6, 8), (3, 8, 9), (4, 9, 5)]
    faces += [(2, 4, 11), (6, 2, 10), (8, 6, 7), (9, 8, 1)]
    for _ in range(level):
        middle: dict[tuple[int, int], int] = {}
        finer = []
        for face in faces:
            mids = []
            for p, q in zip(face, face[1:] + face[:1], strict=True):
                key = (min(p, q), max(p, q))
                if key not in middle:
                    middle[key] = len(vertices)
                    vertices.append(vertices[p] / vertices[p].norm() + vertices[q] / vertices[q].norm())
                mids.append(middle[key])
            (p, q, r), (pq, qr, rp) = face, mids
            finer += [(p, pq, rp), (q, qr, pq), (r, rp, qr), (pq, qr, rp)]
        faces = finer
    stacked = torch.stack(vertices)
    return stacked / stacked.norm(dim=1, keepdim=True), torch.tensor(faces)
