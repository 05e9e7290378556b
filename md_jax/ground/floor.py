"""The floor of the files is y = 0."""

from __future__ import annotations

import dataclasses

import numpy as np

from md_jax.body.model import Body
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import Posed, vertices_of


def on_floor(motion: Motion, body: Body) -> Posed:
    """The motion, moved up or down as a whole until its lowest vertex of all frames touches the floor at y = 0."""
    vertices = vertices_of(body, motion)
    up = np.array([0, vertices[..., 1].min(), 0], np.float32)
    return Posed(dataclasses.replace(motion, transl=motion.transl - up), vertices - up)
