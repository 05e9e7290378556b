"""A motion's body: its vertices frame by frame, and its rest pose."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from md_jax.body import lbs
from md_jax.body.model import Body
from md_jax.mocap.motion import Motion


@dataclasses.dataclass(frozen=True)
class Posed:
    """A motion with its vertices (metres), so that one skinning serves all of its files."""

    motion: Motion
    vertices: Float[np.ndarray, "F V 3"]


def vertices_of(body: Body, motion: Motion) -> Float[np.ndarray, "F V 3"]:
    """The posed vertices of a motion, in metres."""
    face, hands = motion.face_and_hands[:, :3], motion.face_and_hands[:, 3:].reshape(-1, 2, 45)
    vertices, _ = lbs.forward(
        body,
        betas=shape_of(motion),
        global_orient=motion.root_orient,
        body_pose=motion.body_pose,
        jaw_pose=face[:, 0],
        leye_pose=face[:, 1],
        reye_pose=face[:, 2],
        left_hand_pose=hands[:, 0],
        right_hand_pose=hands[:, 1],
        transl=motion.transl,
    )
    return np.asarray(vertices)


def rest_of(body: Body, motion: Motion) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "55 3"]]:
    """Vertices and joints of the motion's shape in the rest pose, metres."""
    betas = shape_of(motion)
    vertices = np.asarray(body.v_template) + np.asarray(body.shapedirs)[..., : len(betas)] @ betas
    return vertices, np.asarray(body.J_regressor) @ vertices


def shape_of(motion: Motion) -> Float[np.ndarray, "S"]:
    """The shape without trailing zeros: motion files pad it, and a body may have fewer shape axes."""
    return np.trim_zeros(motion.betas, "b")
