"""The ground of every file is y = 0."""

import numpy as np
import pytest

from md_jax.body.model import load_body
from md_jax.ground.floor import on_floor
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import vertices_of


@pytest.mark.parametrize("transl", [(0.0, 0.0, 0.0), (0.3, -2.0, 1.0)])
def test_the_lowest_vertex_touches_the_floor_and_nothing_else_moves(transl):
    body, frames = load_body(), 4
    pose = np.zeros((frames, 21, 3))
    pose[:, 3, 0] = np.linspace(0, 1.2, frames)  # one knee bends: the other leg stands
    pose[:, 4, 0] = np.linspace(0.6, 0, frames)
    still = np.zeros((frames, 3))
    motion = Motion(pose, still, still + transl, 30.0, betas=np.array([1.5, *np.zeros(9)]))
    before = vertices_of(body, motion)
    assert abs(before[..., 1].min()) > 0.5
    posed = on_floor(motion, body)
    after = vertices_of(body, posed.motion)
    np.testing.assert_allclose(posed.vertices, after, atol=1e-6)
    assert after[..., 1].min() == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(np.diff(after, axis=0), np.diff(before, axis=0), atol=1e-5)
    np.testing.assert_allclose(after[..., [0, 2]], before[..., [0, 2]], atol=1e-6)
    assert posed.motion.fps == motion.fps
