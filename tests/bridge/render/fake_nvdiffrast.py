"""A stand-in for nvdiffrast.torch, written from its documentation: slow, plain torch, on any device.

What it honours: clip-space positions (N,V,4) float32 and int32 triangles (T,3); `rasterize` gives (u, v, z/w, id + 1)
with vertex 0 at (u, v) = (1, 0) and vertex 1 at (0, 1), nothing outside -w <= z <= w, both windings, and row 0 at the
bottom, y = -w; samples in pixel centres. `antialias` leaves the picture as it is.
"""

import types

import torch

SNAP = 0  # steps a pixel that corners are rounded to, as the CUDA rasteriser does with 16; 0: exact


class RasterizeCudaContext:
    def __init__(self, device=None):
        self.device = device


def rasterize(glctx, pos, tri, resolution, ranges=None, grad_db=True):
    assert isinstance(glctx, RasterizeCudaContext) and ranges is None
    assert pos.dtype == torch.float32 and pos.ndim == 3 and pos.shape[2] == 4 and pos.is_contiguous()
    assert tri.dtype == torch.int32 and tri.shape[1] == 3
    height, width = resolution
    assert height % 8 == 0 and width % 8 == 0, "width and height must be divisible by 8"
    rows = (torch.arange(height) + 0.5) * 2 / height - 1
    columns = (torch.arange(width) + 0.5) * 2 / width - 1
    sample = torch.stack([columns.expand(height, -1), rows[:, None].expand(-1, width), torch.ones(height, width)], -1)
    drawn = [_rasterize_one(p, tri.long(), sample.double()) for p in pos.double()]
    return torch.stack(drawn).float(), torch.zeros(0)


def _rasterize_one(pos, tri, sample):
    height, width, _ = sample.shape
    if SNAP:
        half = torch.tensor([width, height]).double() / 2
        on_grid = ((pos[:, :2] / pos[:, 3:] * half * SNAP).round() / (half * SNAP) * pos[:, 3:]).detach()
        pos = torch.cat([on_grid + pos[:, :2] - pos[:, :2].detach(), pos[:, 2:]], 1)
    a, b, c = (pos[tri[:, k]][:, [0, 1, 3]] for k in range(3))  # (x, y, w)
    cross = torch.linalg.cross
    inverse = torch.stack([cross(b, c), cross(c, a), cross(a, b)], 1) / (a * cross(b, c)).sum(-1)[:, None, None]
    parts = torch.einsum("tkc,hwc->hwtk", inverse, sample)  # barycentric coordinates over w
    total = parts.sum(-1)  # 1/w
    weights = parts / total[..., None]
    depth = (weights * pos[:, 2][tri]).sum(-1) * total  # z/w
    hit = (weights >= 0).all(-1) & (total > 0) & (depth.abs() <= 1)
    nearest, which = torch.where(hit, depth, torch.inf).min(-1)
    found = torch.isfinite(nearest)
    at = which[..., None]
    u, v = (torch.gather(weights[..., k], 2, at)[..., 0] for k in (0, 1))
    out = torch.stack([u, v, torch.gather(depth, 2, at)[..., 0], (which + 1).double()], -1)
    return torch.where(found[..., None], out, 0)


def interpolate(attr, rast, tri, rast_db=None, diff_attrs=None):
    assert attr.is_contiguous()
    index = (rast[..., 3].long() - 1).clamp(min=0)
    u, v = rast[..., 0:1], rast[..., 1:2]
    corners = tri.long()[index]
    batch = torch.arange(len(attr))[:, None, None]
    p, q, r = (attr[batch, corners[..., k]] for k in range(3))
    return torch.where(rast[..., 3:] > 0, u * p + v * q + (1 - u - v) * r, 0), torch.zeros(0)


def antialias(color, rast, pos, tri, topology_hash=None, pos_gradient_boost=1.0):
    assert color.is_contiguous() and color.shape[:3] == rast.shape[:3] and len(pos) == len(color)
    return color


def install(monkeypatch, snap=0):
    """Make `import nvdiffrast.torch` find this module."""
    import sys

    this = sys.modules[__name__]
    monkeypatch.setattr(this, "SNAP", snap)
    package = types.ModuleType("nvdiffrast")
    package.torch = this
    monkeypatch.setitem(sys.modules, "nvdiffrast", package)
    monkeypatch.setitem(sys.modules, "nvdiffrast.torch", this)
