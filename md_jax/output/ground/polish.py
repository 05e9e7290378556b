"""The last of the skating: legs and root moved a little, by optax, so that what stands stays where it stands."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float

from md_jax.body import lbs
from md_jax.output.ground.soles import runs

LEGS = np.array([0, 1, 3, 4, 6, 7, 9, 10])  # body joints that may give way: hips, knees, ankles, balls of the feet
# of each component of their rotation vectors; motion capture has stiff feet, whose toes hang through the floor
LIMIT = np.radians([5.0, 5.0, 5.0, 5.0, 15.0, 15.0, 15.0, 15.0])[:, None]
STEPS, LEARNING_RATE = 120, 0.05
# What a term's unit error is: metres, metres, metres, LIMITs, radians and metres between frames at 30 a second.
PLANT, HEIGHT, DEPTH = 0.004, 0.008, 0.004
POSE, POSE_CHANGE, ROOT_CHANGE = 0.7, np.radians(0.7), 0.004


class Bend(NamedTuple):
    """What is optimised."""

    legs: Float[Array, "F 8 3"]  # before tanh, in units of LIMIT
    root: Float[Array, "F 3"]  # metres


class Scene(NamedTuple):
    """What stays as it is."""

    soles: lbs.BakedBody  # with the points of the soles alone
    body_pose: Float[Array, "F 21 3"]
    root_orient: Float[Array, "F 3"]
    transl: Float[Array, "F 3"]
    stands: Float[Array, "F P"]
    off_mean: Float[Array, "P F F"]  # takes a point's positions to their distances from the mean of their contact


def polish(
    soles: lbs.BakedBody,
    body_pose: Float[np.ndarray, "F 21 3"],
    root_orient: Float[np.ndarray, "F 3"],
    transl: Float[np.ndarray, "F 3"],
    stands: Bool[np.ndarray, "F P"],
    fps: float,
) -> tuple[Float[np.ndarray, "F 21 3"], Float[np.ndarray, "F 3"]]:
    """Body poses and translation with planted feet, the legs at most `LIMIT` from where they were.

    Args:
        soles: the body with the P points of its soles alone (`md_jax.body.lbs.select`).
        body_pose, root_orient, transl: the motion, on a floor at y = 0.
        stands: which points are to stay where they are (`md_jax.output.ground.soles.contacts`).
        fps: frames a second.
    """
    scene = Scene(
        soles,
        *(jnp.asarray(x, jnp.float32) for x in (body_pose, root_orient, transl, stands, _off_mean(stands))),
    )
    bend = Bend(jnp.zeros((len(transl), len(LEGS), 3)), jnp.zeros((len(transl), 3)))
    bend = _optimise(scene, bend, jnp.float32(fps / 30))
    posed, moved = _bent(scene, bend)
    return np.asarray(posed), np.asarray(moved)


def _off_mean(stands: Bool[np.ndarray, "F P"]) -> Float[np.ndarray, "P F F"]:
    frames, points = stands.shape
    matrix = np.zeros((points, frames, frames))
    for p in range(points):
        for start, end in runs(stands[:, p]):
            matrix[p, start:end, start:end] = np.eye(end - start) - 1 / (end - start)
    return matrix


def _bent(scene: Scene, bend: Bend) -> tuple[Float[Array, "F 21 3"], Float[Array, "F 3"]]:
    pose = scene.body_pose.at[:, LEGS].add(LIMIT * jnp.tanh(bend.legs))
    return pose, scene.transl + bend.root


def _loss(bend: Bend, scene: Scene, rate: Float[Array, ""]) -> Float[Array, ""]:
    """Squared errors in the units above, summed over points and averaged over frames."""
    pose, transl = _bent(scene, bend)
    points = lbs.pose(scene.soles, pose, scene.root_orient, transl)
    slid = jnp.einsum("pfg,gpa->fpa", scene.off_mean, points[..., jnp.array([0, 2])], precision="highest")
    height = points[..., 1]
    moved = LIMIT * jnp.tanh(bend.legs)
    frames = len(transl)
    terms = (
        jnp.sum((slid / PLANT) ** 2),
        jnp.sum(scene.stands * (jnp.maximum(height - 0.01, 0) / HEIGHT) ** 2),  # a rolling foot may lift a little
        jnp.sum((jnp.minimum(height, 0) / DEPTH) ** 2),
        jnp.sum((jnp.tanh(bend.legs) / POSE) ** 2),
        jnp.sum((jnp.diff(moved, n=2, axis=0) * rate**2 / POSE_CHANGE) ** 2),
        jnp.sum((jnp.diff(bend.root, n=2, axis=0) * rate**2 / ROOT_CHANGE) ** 2),
    )
    return sum(terms, jnp.zeros(())) / frames


@partial(jax.jit, static_argnames="steps")
def _optimise(scene: Scene, bend: Bend, rate: Float[Array, ""], steps: int = STEPS) -> Bend:
    optimizer = optax.adam(optax.cosine_decay_schedule(LEARNING_RATE, steps))

    def step(carry: tuple[Bend, optax.OptState], _: None) -> tuple[tuple[Bend, optax.OptState], None]:
        bend, state = carry
        # legs are in units of LIMIT, about a tenth of a radian; the root is in metres
        updates, state = optimizer.update(jax.grad(_loss)(bend, scene, rate), state)
        updates = updates._replace(root=0.05 * updates.root)
        return (optax.apply_updates(bend, updates), state), None

    (bend, _), _ = jax.lax.scan(step, (bend, optimizer.init(bend)), None, length=steps)
    return bend
