"""Where the joints of the shipped body are, in NumPy, which needs nothing compiled."""

from __future__ import annotations

import functools

import numpy as np
from jaxtyping import Float

from md_jax.body.model import PARENTS, load_body


@functools.cache
def rest_joints() -> Float[np.ndarray, "22 3"]:
    """The pelvis and the 21 body joints of the shipped body at rest, metres."""
    body = load_body("free")
    return np.asarray(body.J_regressor)[:22] @ np.asarray(body.v_template)


def joints(
    body_pose: Float[np.ndarray, "*N 21 3"], root_orient: Float[np.ndarray, "*N 3"] | None = None
) -> Float[np.ndarray, "*N 21 3"]:
    """Positions of the body joints in metres, the pelvis at its place at rest (`md_jax.body.lbs.joints_of` in NumPy,
    which needs nothing compiled).

    Args:
        body_pose: rotation vectors of the 21 body joints.
        root_orient: rotation vectors of the root about the pelvis; None: not turned.
    """
    rest = rest_joints()
    turns = matrices(np.asarray(body_pose, np.float32))
    identity = np.broadcast_to(np.eye(3, dtype=np.float32), (*turns.shape[:-3], 3, 3))
    world = [identity if root_orient is None else matrices(np.asarray(root_orient, np.float32))]
    places = [np.broadcast_to(rest[0], (*turns.shape[:-3], 3))]
    for joint in range(1, 22):
        parent = PARENTS[joint]
        places.append(places[parent] + world[parent] @ (rest[joint] - rest[parent]))
        world.append(world[parent] @ turns[..., joint - 1, :, :])
    return np.stack(places[1:], axis=-2)


def matrices(rotvec: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3 3"]:
    """Rotation matrices of rotation vectors (Rodrigues), in NumPy."""
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    x, y, z = np.moveaxis(rotvec / np.maximum(angle, 1e-12), -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    sine, cosine = np.sin(angle)[..., None], np.cos(angle)[..., None]
    return np.eye(3, dtype=rotvec.dtype) + sine * cross + (1 - cosine) * (cross @ cross)
