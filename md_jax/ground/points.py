"""Points of a body that may touch the floor, and its centre of mass, in a motion whose root stays at the origin."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from md_jax.body import lbs
from md_jax.body.model import Body
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import shape_of

FEET = ((7, 10), (8, 11))  # ankle and ball of the left and of the right foot
TOES = (10, 11)
SOLE = 0.01  # metres above the lowest vertex of a foot at rest, within which a vertex belongs to its sole
SOLE_POINTS, OTHER_POINTS = 8, 40  # of each foot, of the rest of the body
ROWS = 64  # frames skinned at once
# Mass of a segment as a share of the body's, and the joints at its ends (de Leva 1996, men and women averaged).
SEGMENTS = (
    (0, 3, 0.118), (3, 9, 0.156), (9, 12, 0.157), (12, 15, 0.068), (1, 4, 0.1447), (2, 5, 0.1447), (4, 7, 0.0457),
    (5, 8, 0.0457), (7, 10, 0.0133), (8, 11, 0.0133), (16, 18, 0.0263), (17, 19, 0.0263), (18, 20, 0.0209),
    (19, 21, 0.0209),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Stander:
    """A body of one shape, ready to be put on the floor: what does not depend on its motion, made once.

    Attributes:
        whole: all vertices.
        points: the first 2 · SOLE_POINTS are of the left and the right sole, the others are spread over the body.
        toes: True for vertices that toes carry: they bend on a floor, and carry no body.
    """

    whole: lbs.BakedBody
    points: lbs.BakedBody
    toes: np.ndarray


class InPlace(NamedTuple):
    """A motion whose root stays at the origin, F frames, metres."""

    lowest: Float[np.ndarray, "F"]  # height of the lowest vertex but for the toes
    points: Float[np.ndarray, "F P 3"]
    mass: Float[np.ndarray, "F 3"]  # centre of mass


def stander(body: Body, betas: Float[np.ndarray, "S"] | None = None) -> Stander:
    """A body to stand; `betas` are its shape coefficients."""
    shape = None if betas is None or not len(betas) else jnp.asarray(betas)
    whole = lbs.bake(body, betas=shape)
    owner = np.asarray(body.weights).argmax(axis=1)
    return Stander(whole, lbs.select(whole, touching_points(body)), np.isin(owner, TOES))


def stander_of(body: Body, motion: Motion) -> Stander:
    """The body that a motion was made for."""
    return stander(body, shape_of(motion))


def touching_points(body: Body) -> Int[np.ndarray, "P"]:
    """Vertices that may touch the floor: SOLE_POINTS of the left sole, as many of the right, OTHER_POINTS elsewhere."""
    rest, owner = np.asarray(body.v_template), np.asarray(body.weights).argmax(axis=1)
    found = []
    for joints in FEET:
        own = np.flatnonzero(np.isin(owner, joints))
        found.append(spread(rest, own[rest[own, 1] < rest[own, 1].min() + SOLE], SOLE_POINTS))
    found.append(spread(rest, np.flatnonzero(~np.isin(owner, FEET)), OTHER_POINTS))
    return np.concatenate(found)


def spread(points: Float[np.ndarray, "V 3"], among: Int[np.ndarray, "n"], count: int) -> Int[np.ndarray, "count"]:
    """Indices of `count` points, each as far as can be from those before it, from the lowest on."""
    own = points[among]
    chosen = [int(own[:, 1].argmin())]
    distance = np.linalg.norm(own - own[chosen[0]], axis=1)
    while len(chosen) < count:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(own - own[chosen[-1]], axis=1))
    return among[chosen]


def in_place(body: Stander, motion: Motion) -> InPlace:
    """The points of a motion, its root at the origin."""
    pose, root = motion.body_pose, motion.root_orient
    lowest = heights(body, motion, toes=False) - motion.transl[:, 1]
    points = np.asarray(lbs.pose(body.points, pose, root))
    joints = np.asarray(lbs.joints_of(body.whole, pose, root))
    return InPlace(lowest.astype(np.float64), points.astype(np.float64), centre_of_mass(joints))


def heights(body: Stander, motion: Motion, *, toes: bool = True) -> Float[np.ndarray, "F"]:
    """Height of the lowest vertex of each frame, metres; without `toes`, of those that the toes do not carry."""
    found = []
    for start in range(0, len(motion.body_pose), ROWS):
        part = np.minimum(np.arange(start, start + ROWS), len(motion.body_pose) - 1)  # always as many: compiled once
        vertices = np.asarray(
            lbs.pose(body.whole, motion.body_pose[part], motion.root_orient[part], motion.transl[part])
        )
        found.append(vertices[..., 1].min(axis=1) if toes else vertices[:, ~body.toes, 1].min(axis=1))
    return np.concatenate(found)[: len(motion.body_pose)]


def centre_of_mass(joints: Float[np.ndarray, "F J 3"]) -> Float[np.ndarray, "F 3"]:
    """Centre of mass of a body from its joints, metres: each segment's mass in its middle."""
    first, second, mass = (np.array(column) for column in zip(*SEGMENTS, strict=True))
    middle = (joints[:, first.astype(int)] + joints[:, second.astype(int)]) / 2
    return np.einsum("fsa,s->fa", middle.astype(np.float64), mass / mass.sum())


def slower_speed(points: Float[np.ndarray, "F P n"], fps: float) -> Float[np.ndarray, "F P"]:
    """The speed of points before or after each frame, whichever is less: what comes to rest in a frame rests there."""
    speed = np.linalg.norm(np.diff(points, axis=0), axis=-1) * fps
    return np.minimum(np.concatenate([speed[:1], speed]), np.concatenate([speed, speed[-1:]]))


def slowest_low(
    speed: Float[np.ndarray, "F-1 P"], height: Float[np.ndarray, "F P"], below: float
) -> Float[np.ndarray, "F-1"]:
    """Between frames the speed of the slowest point that is lower than `below` in both; infinite where none is."""
    low = np.maximum(height[1:], height[:-1]) < below
    return np.where(low, speed, np.inf).min(axis=1, initial=np.inf)
