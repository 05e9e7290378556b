"""How good the renderer's gradient is: measured against finite differences of 8x supersampled images.

The reference image has no antialiasing but 64 point samples a pixel; the body, its appearance and its poses are those
that the main job uses. Shared by `python -m benchmarks.render` and the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np
import torch
from torch import Tensor

from bridge.render import render
from bridge.render.camera import Camera, framing_distance
from bridge.render.mesh import Mesh, make_mesh
from md_jax.body.lbs import BakedBody, bake, pose
from md_jax.body.model import load_body
from md_jax.mocap.clips import load_clips

FOV = math.radians(50)
REFERENCE = 8  # supersampling of the reference
BACKGROUND = (1.0, 1.0, 1.0)
ANGLE_STEP = 0.003  # radians to either side
ACTIONS = ("walking", "running", "punching", "washwindow", "directing_traffic", "jumping")


@dataclass(frozen=True)
class Scene:
    """The free body, ready to be posed and drawn."""

    baked: BakedBody
    mesh: Mesh  # painted, lit
    plain: Mesh  # white, unlit: its image is its coverage
    target: Tensor
    distance: float


@lru_cache
def scene() -> Scene:
    """Load it once."""
    body = load_body("free")
    vertices = np.asarray(body.v_template)
    low, high = vertices.min(0), vertices.max(0)
    return Scene(
        baked=bake(body),
        mesh=make_mesh(body.triangles, np.asarray(body.vertex_colors)),
        plain=make_mesh(body.triangles, np.ones_like(vertices), ambient=1.0, diffuse=0.0),
        target=torch.tensor((low + high) / 2),
        distance=framing_distance(float(high[1] - low[1]), FOV),
    )


@lru_cache
def captured_poses() -> np.ndarray:
    """(6,21,3) one frame from the middle of a shipped clip of each of ACTIONS."""
    clips = {clip.action: clip for clip in reversed(load_clips())}
    known = [clips[a] for a in ACTIONS if a in clips]
    return np.stack([clip.body_pose[len(clip.body_pose) // 2] for clip in known]).astype(np.float32)


_pose = jax.jit(pose)


def posed(body_pose: np.ndarray) -> Tensor:
    """(N,V,3) vertices of (N,21,3) rotation vectors."""
    return torch.tensor(np.asarray(_pose(scene().baked, np.asarray(body_pose, np.float32))))


def camera(azimuth: list[float], elevation: float = 0.2) -> Camera:
    """Cameras around the body, which fills about 70 % of the image's height."""
    s = scene()
    return Camera(torch.tensor(azimuth), torch.full((len(azimuth),), elevation), s.distance, FOV, s.target)


def view_of(index: int) -> Camera:
    """A camera for the index-th pose: the golden angle spreads any number of them around the circle."""
    return camera([0.5 + index * math.pi * (3 - math.sqrt(5))])


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(V,3) area-weighted unit normals."""
    a, b, c = vertices[triangles.long()].unbind(1)
    face = torch.linalg.cross(b - a, c - a)
    total = torch.zeros_like(vertices).index_add_(0, triangles.long().flatten(), face.repeat_interleave(3, 0))
    return torch.nn.functional.normalize(total, dim=-1)


def silhouette_ratio(size: int, supersample: int, poses: np.ndarray, antialias: str = "edge") -> tuple[float, float]:
    """What the gradient says that covering one pixel more all around adds, over what it does add.

    Args:
        size: height and width in pixels.
        supersample: of the renderer under test.
        poses: (N,21,3).
        antialias: as in `render`.

    Returns:
        The ratio to the finite difference of the reference for a 1-pixel inflation, and for ±1/8 pixel: fingers
        grow together within a pixel, so at 64² the two differences differ by 10 %.
    """
    s = scene()
    claimed, inflated, nudged = 0.0, 0.0, 0.0
    for index, vertices in enumerate(posed(poses)):
        view = view_of(index)
        pixel = s.distance * 2 * math.tan(FOV / 2) / size
        outward = vertex_normals(vertices, s.plain.triangles) * pixel
        leaf = vertices[None].requires_grad_()
        image = render(leaf, view, s.plain, size, size, supersample, (0.0, 0.0, 0.0), antialias)
        (gradient,) = torch.autograd.grad(image.sum(), leaf)
        claimed += float((gradient[0].double() * outward).sum())
        area = {}
        for step in (0.0, 1.0, -0.125, 0.125):
            moved = (vertices + step * outward)[None]
            truth = render(moved, view, s.plain, size, size, REFERENCE, (0.0, 0.0, 0.0), "none")
            area[step] = float(truth.double().sum())
        inflated += area[1.0] - area[0.0]
        nudged += (area[0.125] - area[-0.125]) * 4
    return claimed / inflated, claimed / nudged


@dataclass(frozen=True)
class Reference:
    """The truth about one pose in one view at one size."""

    view: Camera
    vertices: Tensor  # (V,3)
    image: Tensor  # (H,W,3)
    target: Tensor  # (H,W,3) of another pose
    motion: Tensor  # (A,V,3) metres a radian, for each joint axis looked at
    change: Tensor  # (A,H,W,3) of the image, a radian


def references(size: int, poses: np.ndarray, axes: int) -> list[Reference]:
    """Finite differences of the reference image by `axes` of the 63 joint axes, drawn at random for each pose."""
    s, rng, found = scene(), np.random.default_rng(7), []

    def truth(vertices: Tensor, view: Camera) -> Tensor:
        return render(vertices[None], view, s.mesh, size, size, REFERENCE, BACKGROUND, "none")[0].double()

    for index, body_pose in enumerate(poses):
        view = view_of(index)
        target = posed(body_pose + rng.normal(0, 0.15, (21, 3)))
        chosen = rng.choice(63, axes, replace=False)
        steps = np.zeros((axes, 63))
        steps[np.arange(axes), chosen] = ANGLE_STEP
        high = posed(body_pose + steps.reshape(-1, 21, 3))
        low = posed(body_pose - steps.reshape(-1, 21, 3))
        change = torch.stack([truth(b, view) - truth(a, view) for a, b in zip(low, high, strict=True)])
        here = posed(body_pose)
        motion = (high - low) / (2 * ANGLE_STEP)
        found.append(Reference(view, here, truth(here, view), truth(target, view), motion, change / (2 * ANGLE_STEP)))
    return found


def joint_angle_cosines(
    truths: list[Reference], supersample: int, antialias: str = "edge", noises: int = 8
) -> tuple[float, float]:
    """Cosine of the joint-angle gradient with the reference's, pooled over poses and axes.

    Args:
        truths: from `references`.
        supersample: of the renderer under test.
        antialias: as in `render`.
        noises: how many random fields stand for the gradient that score distillation sends back.

    Returns:
        The cosines for ½‖image - target‖² and for ⟨noise, image⟩, noise i.i.d. normal per pixel and channel.
    """
    rng = np.random.default_rng(1)
    ours: tuple[list, list] = ([], [])
    true: tuple[list, list] = ([], [])
    for at in truths:
        height, width = at.image.shape[:2]
        leaf = at.vertices[None].requires_grad_()
        image = render(leaf, at.view, scene().mesh, height, width, supersample, BACKGROUND, antialias)
        for k in range(noises + 1):
            field = torch.tensor(rng.normal(size=tuple(at.image.shape)))
            sent = field if k else image.detach()[0].double() - at.target
            truly = field if k else at.image - at.target
            (gradient,) = torch.autograd.grad(image, leaf, sent[None].float(), retain_graph=True)
            ours[k > 0].append(torch.einsum("avc,vc->a", at.motion.double(), gradient[0].double()))
            true[k > 0].append(torch.einsum("ahwc,hwc->a", at.change, truly))

    def cosine(a: list[Tensor], b: list[Tensor]) -> float:
        return float(torch.nn.functional.cosine_similarity(torch.cat(a), torch.cat(b), dim=0))

    return cosine(ours[0], true[0]), cosine(ours[1], true[1])


def recover_pose(
    size: int = 128, supersample: int = 1, antialias: str = "edge", steps: int = 60, start: float = 0.168, seed: int = 0
) -> tuple[float, float]:
    """Fit a pose to three views by Adam on the joint angles.

    Args:
        size: height and width in pixels.
        supersample: of the renderer under test.
        antialias: as in `render`.
        steps: of Adam.
        start: mean vertex error to begin at, metres.
        seed: of the random offset that is scaled to `start`.

    Returns:
        Mean vertex error before and after, metres.
    """
    s = scene()
    view = camera([0.3, 0.3 + 2 * math.pi / 3, 0.3 + 4 * math.pi / 3])
    truth = captured_poses()[0]
    goal = posed(truth)

    def error(body_pose: np.ndarray) -> float:
        return float((posed(body_pose) - goal).norm(dim=-1).mean())

    offset = np.random.default_rng(seed).normal(0, 1, (21, 3)).astype(np.float32)
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if error(truth + middle * offset) < start else (low, middle)
    angles = torch.tensor(truth + low * offset, requires_grad=True)
    before = error(angles.detach().numpy())
    goals = render(goal[None].expand(3, -1, -1), view, s.mesh, size, size, REFERENCE, BACKGROUND, "none")
    optimizer = torch.optim.Adam([angles], lr=0.03)
    pull = jax.jit(lambda p, g: jax.vjp(lambda q: pose(s.baked, q), p)[1](g)[0])
    for _ in range(steps):
        now = angles.detach().numpy().copy()
        leaf = posed(now)[None].requires_grad_()
        image = render(leaf.expand(3, -1, -1), view, s.mesh, size, size, supersample, BACKGROUND, antialias)
        (gradient,) = torch.autograd.grad(0.5 * ((image - goals) ** 2).sum(), leaf)
        angles.grad = torch.tensor(np.asarray(pull(now, gradient[0].numpy())))
        optimizer.step()
    return before, error(angles.detach().numpy())
