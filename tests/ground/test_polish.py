"""The polish: its gradient, and what it does to a foot that slides."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.ground import polish as p
from md_jax.ground.points import SOLE_POINTS, stander

FRAMES = 12


@pytest.fixture(scope="module")
def sliding():
    """A standing body that slides by 2 cm over its 12 frames, and sinks by 1 cm."""
    body = stander(load_body())
    soles = lbs.select(body.points, np.arange(2 * SOLE_POINTS))
    pose, root = np.zeros((FRAMES, 21, 3), np.float32), np.zeros((FRAMES, 3), np.float32)
    pose[:, [0, 1], 0], pose[:, [3, 4], 0], pose[:, [6, 7], 0] = -0.3, 0.6, -0.3
    floor = float(np.asarray(lbs.pose(soles, pose, root))[..., 1].min())
    transl = np.zeros((FRAMES, 3))
    transl[:, 2], transl[:, 1] = np.linspace(0, 0.02, FRAMES), -floor - np.linspace(0, 0.01, FRAMES)
    stands = np.ones((FRAMES, 2 * SOLE_POINTS), bool)
    return p.scene(soles, pose, root, transl, stands, np.ones(FRAMES), 30.0)


def test_the_gradient_is_that_of_finite_differences(sliding):
    jax.clear_caches()  # what was compiled without 64 bits mixes int32 with int64
    with jax.enable_x64(True):
        scene = jax.tree.map(lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x, sliding)
        rng = np.random.default_rng(0)
        bend = p.Bend(
            jnp.asarray(0.1 * rng.normal(size=(FRAMES, 8, 3))), jnp.asarray(0.01 * rng.normal(size=(FRAMES, 3)))
        )
        way = p.Bend(jnp.asarray(rng.normal(size=(FRAMES, 8, 3))), jnp.asarray(rng.normal(size=(FRAMES, 3))))

        loss = jax.jit(p.loss)

        def along(step):
            return loss(jax.tree.map(lambda x, d: x + step * d, bend, way), scene)

        slope = sum(jnp.vdot(g, d) for g, d in zip(jax.jit(jax.grad(p.loss))(bend, scene), way, strict=True))
        assert float(slope) == pytest.approx(float((along(1e-5) - along(-1e-5)) / 2e-5), rel=1e-5)
    jax.clear_caches()  # and what was compiled with them is not for the tests below


def test_a_sliding_foot_is_planted_by_a_few_degrees(sliding):
    pose, transl = p.polish(sliding)
    points = np.asarray(lbs.pose(sliding.soles, pose, sliding.root_orient, transl))
    was = np.asarray(lbs.pose(sliding.soles, sliding.body_pose, sliding.root_orient, sliding.transl))
    assert np.ptp(was[..., 2], axis=0).max() == pytest.approx(0.02, abs=1e-4)
    assert np.ptp(points[..., [0, 2]], axis=0).max() < 0.004
    assert -points[..., 1].min() < 0.003 < -was[..., 1].min()
    moved = np.abs(pose - np.asarray(sliding.body_pose))
    assert (moved[:, p.LEGS].max(axis=0) <= p.LIMIT + 1e-6).all() and moved[:, 11:].max() == 0


def test_a_foot_that_stands_is_left_alone(sliding):
    still = sliding._replace(transl=jnp.broadcast_to(sliding.transl[0], (FRAMES, 3)))
    pose, transl = p.polish(still)
    assert np.degrees(np.abs(pose - np.asarray(still.body_pose)).max()) < 2  # of 30 that toes may bend
    assert np.abs(transl - np.asarray(still.transl)).max() < 0.003


def test_a_body_that_slides_into_its_first_step_does_not_hover_before_it(sliding):
    """Nothing stands in the first frames, and the third is deep in the floor: the frames before it stay down."""
    transl = np.array(sliding.transl)
    transl[:, 1] = transl[0, 1] + np.array([-0.007, -0.018, -0.031, -0.015, *[-0.005] * (FRAMES - 4)])
    transl[:, 2] = 0.05 * np.maximum(4 - np.arange(FRAMES), 0)
    stands = np.repeat((np.arange(FRAMES) >= 4)[:, None], 2 * SOLE_POINTS, axis=1)
    arguments = (sliding.soles, sliding.body_pose, sliding.root_orient, transl, stands)
    highest = {}
    for rests in (True, False):
        scene = p.scene(*arguments, np.full(FRAMES, float(rests)), 30.0)
        pose, moved = p.polish(scene)
        points = np.asarray(lbs.pose(scene.soles, pose, scene.root_orient, moved))
        highest[rests] = points[..., 1].min(axis=1).max()
        assert points[..., 1].min() > -0.003
    assert highest[True] < 0.025 < 0.04 < highest[False]
