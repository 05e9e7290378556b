"""The floor of the files is y = 0."""

from __future__ import annotations

import dataclasses

import numpy as np

from md_jax.body.model import Body
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import vertices_of


def on_floor(motion: Motion, body: Body) -> Motion:
    """The motion, moved up or down as a whole until its lowest vertex of all frames touches the floor at y = 0."""
    lowest = float(vertices_of(body, motion)[..., 1].min())
    return dataclasses.replace(motion, transl=motion.transl - np.array([0, lowest, 0], np.float32))
