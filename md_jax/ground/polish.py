"""The last of the skating: legs and root give way a little, by optax, so that what stands stays where it stands."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from md_jax.body import lbs
from md_jax.ground.contacts import runs
from md_jax.ground.points import SOLE_POINTS

LEGS = np.array([0, 1, 3, 4, 6, 7, 9, 10])  # body joints that give way: hips, knees, ankles, balls of the feet
# The most of each component of their rotation vectors. Captured feet are stiff: on a floor toes bend by 30° and more.
LIMIT = np.radians([5.0, 5.0, 5.0, 5.0, 10.0, 10.0, 30.0, 30.0]).astype(np.float32)[:, None]
STEPS, LEARNING_RATE, ROOT_STEP = 150, 0.05, 0.05  # legs move in LIMITs, the root in metres: shorter steps
# Adam's ε: a slope of 1 is an error worth mending, of float32's rounding some 1e-4; without it, rounding bends toes by
# two degrees where nothing slides, on some CPUs by more.
NEGLIGIBLE = 0.01
# What a term's unit error is: metres, metres, metres, metres, LIMITs, radians and metres between frames at 30 a second.
PLANT, HEIGHT, DEPTH, HOVER = 0.004, 0.008, 0.004, 0.01
POSE, POSE_CHANGE, ROOT_CHANGE = 0.7, 0.012, 0.004
SWING = 0.015  # metres between the floor and a foot of which no point stands
LIFTED = 0.01  # metres: so high may a point stand where a foot rolls


class Bend(NamedTuple):
    """What is optimised."""

    legs: Float[Array, "F 8 3"]  # before tanh, in units of LIMIT
    root: Float[Array, "F 3"]  # metres


class Scene(NamedTuple):
    """What stays as it is.

    Attributes:
        soles: the body with the P points of its soles alone (`md_jax.body.lbs.select`).
        body_pose, root_orient, transl: the motion, on a floor at y = 0; radians and metres.
        stands: 1 where a point is to stay where it is.
        contact: number of the contact that a point is in, 0 where it is in none.
        clear: metres that a point keeps from the floor.
        size: frames of that contact, of every frame and point.
        rests: 1 in a frame in which the body rests on its soles, whether or not a point of them stands; 0 in one in
            which it may hover.
        rate: frames a second over 30.
    """

    soles: lbs.BakedBody
    body_pose: Float[Array, "F 21 3"]
    root_orient: Float[Array, "F 3"]
    transl: Float[Array, "F 3"]
    stands: Float[Array, "F P"]
    contact: Int[Array, "F P"]
    clear: Float[Array, "F P"]
    size: Float[Array, "F P"]
    rests: Float[Array, "F"]
    rate: Float[Array, ""]


def scene(
    soles: lbs.BakedBody,
    body_pose: Float[np.ndarray, "F 21 3"],
    root_orient: Float[np.ndarray, "F 3"],
    transl: Float[np.ndarray, "F 3"],
    stands: Bool[np.ndarray, "F P"],
    rests: Float[np.ndarray, "F"],
    fps: float,
) -> Scene:
    """What `loss` and `polish` work on; arguments as the attributes of `Scene`, `fps` in frames a second."""
    contact, size, count = np.zeros(stands.shape, np.int32), np.ones(stands.shape), 0
    for p in range(stands.shape[1]):
        for start, end in runs(stands[:, p]):
            count += 1
            contact[start:end, p], size[start:end, p] = count, end - start
    feet = stands.reshape(len(stands), -1, SOLE_POINTS).any(axis=2)
    clear = np.where(np.repeat(feet, SOLE_POINTS, axis=1), 0, SWING)
    pose, root, place, stand, keep, frames, rest = (
        jnp.asarray(x, jnp.float32) for x in (body_pose, root_orient, transl, stands, clear, size, rests)
    )
    return Scene(soles, pose, root, place, stand, jnp.asarray(contact), keep, frames, rest, jnp.float32(fps / 30))


def polish(scene: Scene) -> tuple[Float[np.ndarray, "F 21 3"], Float[np.ndarray, "F 3"]]:
    """Body poses and translation with planted feet, the legs at most `LIMIT` from where they were."""
    bend = Bend(jnp.zeros((len(scene.transl), len(LEGS), 3)), jnp.zeros((len(scene.transl), 3)))
    pose, moved = bent(_optimise(scene, bend), scene)
    return np.asarray(pose), np.asarray(moved)


@jax.jit
def bent(bend: Bend, scene: Scene) -> tuple[Float[Array, "F 21 3"], Float[Array, "F 3"]]:
    """(body pose, translation) that a `Bend` stands for."""
    return scene.body_pose.at[:, LEGS].add(LIMIT * jnp.tanh(bend.legs)), scene.transl + bend.root


def loss(bend: Bend, scene: Scene) -> Float[Array, ""]:
    """Squared errors in the units above, summed over points and averaged over frames."""
    pose, transl = bent(bend, scene)
    points = lbs.pose(scene.soles, pose, scene.root_orient, transl)
    flat, height = points[..., jnp.array([0, 2])], points[..., 1]
    frames, count = scene.contact.shape
    sums = jax.ops.segment_sum(flat.reshape(-1, 2), scene.contact.reshape(-1), frames * count + 1)
    slid = scene.stands[..., None] * (flat - sums[scene.contact] / scene.size[..., None])
    moved = LIMIT * jnp.tanh(bend.legs)
    change = scene.rate**2  # second differences are of frames at 30 a second
    terms = (
        jnp.sum((slid / PLANT) ** 2),
        jnp.sum(scene.stands * (jnp.maximum(height - LIFTED, 0) / HEIGHT) ** 2),
        jnp.sum((jnp.minimum(height - scene.clear, 0) / DEPTH) ** 2),
        jnp.sum(scene.rests * (jnp.maximum(height.min(axis=1), 0) / HOVER) ** 2),
        jnp.sum((jnp.tanh(bend.legs) / POSE) ** 2),
        jnp.sum((jnp.diff(moved, n=2, axis=0) * change / POSE_CHANGE) ** 2),
        jnp.sum((jnp.diff(bend.root, n=2, axis=0) * change / ROOT_CHANGE) ** 2),
    )
    return sum(terms, jnp.zeros(())) / frames


@partial(jax.jit, static_argnames="steps")
def _optimise(scene: Scene, bend: Bend, steps: int = STEPS) -> Bend:
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps), eps=NEGLIGIBLE)

    def step(carry: tuple[Bend, optax.OptState], _: None) -> tuple[tuple[Bend, optax.OptState], None]:
        bend, state = carry
        updates, state = optimizer.update(jax.grad(loss)(bend, scene), state)
        updates = updates._replace(root=ROOT_STEP * updates.root)
        return (optax.apply_updates(bend, updates), state), None

    (bend, _), _ = jax.lax.scan(step, (bend, optimizer.init(bend)), None, length=steps)
    return bend
