"""Fitting to clips: the search against brute force, the field against poses that it can take, a known motion found."""

import itertools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.body import lbs, rotations
from md_jax.body.model import load_body
from md_jax.config import Config
from md_jax.control.reading import Asked, Pin
from md_jax.control.targets import make_targets, misses
from md_jax.evaluate import measures
from md_jax.evaluate.reference import HELD_OUT
from md_jax.fit import match, posefield
from md_jax.fit.problems import make_fields
from md_jax.mocap.clips import split_source
from md_jax.mocap.poseprior import pose_prior, prior_clips
from md_jax.mocap.statistics import load_statistics
from md_jax.mocap.windows import sample_windows
from md_jax.run import torch_side
from tests.bridge.priors import tiny_priors


def test_the_best_path_is_the_best_of_all():
    rng = np.random.default_rng(0)
    for frames, states in ((1, 4), (4, 5), (6, 3)):
        costs, steps = rng.random((frames, states)), rng.random((states, states))
        paths = itertools.product(range(states), repeat=frames)
        sums = {
            path: sum(costs[f, p] for f, p in enumerate(path)) + sum(steps[a, b] for a, b in itertools.pairwise(path))
            for path in paths
        }
        assert tuple(match.best_path(costs, steps)) == min(sums, key=sums.__getitem__)


def test_poses_are_as_far_apart_as_their_joints():
    joints = np.random.default_rng(1).normal(size=(5, 4, 3)).astype(np.float32)
    apart = match.square_apart(joints)
    assert apart[1, 3] == pytest.approx(np.linalg.norm(joints[1] - joints[3], axis=-1).mean() ** 2, rel=1e-5)
    np.testing.assert_allclose(apart, apart.T, atol=1e-6)
    assert (np.diag(apart) == 0).all()


@pytest.mark.parametrize("rotation", ["axis_angle", pytest.param("6d", marks=pytest.mark.slow)])
def test_the_field_takes_poses_that_it_can_take(rotation):
    config = Config(frequencies=3, rotation=rotation, root="fixed")
    fields, start = make_fields(config, [load_statistics(), load_statistics("walking")], 10)
    keys = iter(jax.random.split(jax.random.key(0), 99))
    wild = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(next(keys), x.shape), start)
    goal = posefield.poses(fields, wild).body
    fitted = posefield.poses(fields, match.field_at(fields, start, _as_vectors(goal))).body
    begin = posefield.poses(fields, start).body
    assert float(jnp.abs(fitted - goal).mean()) < 0.05 * float(jnp.abs(begin - goal).mean())


def test_the_field_meets_what_is_asked_and_stays_near_its_poses():
    """A hand is where it is pinned within a centimetre; the legs, which need not move for it, turn by a few degrees."""
    body = load_body()
    baked = lbs.bake(body)
    fields, start = make_fields(
        Config(frequencies=3, root="fixed"), [load_statistics(), load_statistics("walking")], 10
    )
    goal = posefield.poses(fields, start).body
    pin = Asked(pins=(Pin(20, (0.2, 1.1, 0.4), 0.5, 0.8),))
    targets = make_targets(pin, body, baked, frames=10, fps=10.0, loop=False)
    found = match.field_at(fields, start, goal, targets)
    before, after = (
        np.sqrt(misses(targets, lambda tau, p=params: posefield.poses(fields, p, tau))["pin"])
        for params in (start, found)
    )
    moved = np.degrees(np.abs(np.asarray(posefield.poses(fields, found).body - goal))).max((0, 1, 3))
    assert (before > 15).all() and (after < 1).all(), (before, after)
    legs = [joint - 1 for joint in (1, 2, 4, 5, 7, 8, 10, 11)]
    assert moved[legs].mean() < 4 < 10 < moved[[12, 15, 17]].max(), moved  # the left collar, shoulder and elbow


def _as_vectors(poses):
    return rotations.matrix_to_axis_angle(poses) if poses.shape[-2:] == (3, 3) else poses


def fitted(frames, size, count, steps, action="walking", pooled=True, azimuth=1.3):
    """Joint errors (F, 21) in cm: of the mean pose, and of a fit to one held-out clip from one camera."""
    torch_side.start("cpu")
    body = load_body("free")
    with tempfile.TemporaryDirectory() as name:  # a prior that reads no poses: they are searched
        folder = str(tiny_priors.packed_folder(Path(name) / "prior"))
        config = Config(action="generic", mode="fit", prior_path=folder)
        built, surface = torch_side.build(config, "cpu", ["a person is walking"], body)
    assert len(surface.triangles) < len(body.triangles)
    baked, statistics = lbs.bake(body), load_statistics("generic" if pooled else action)
    held_out = [clip for clip in split_source(None, None, HELD_OUT).held_out if clip.action == action]
    truth = sample_windows(np.random.default_rng(3), held_out, 1, frames=frames, fps=10.0).body_pose[0]
    camera = jnp.float32([azimuth]), jnp.float32([0.2])
    video = jnp.asarray(_pictures(built, body, lbs.pose(baked, truth), camera, size))
    prior, drawn = pose_prior(prior_clips(), statistics, baked, count), lbs.select(baked, surface.vertices)
    found = match.fit_clips([prior], drawn, *camera, video, built, steps)[0]

    def error(poses):
        there = measures.joints(np.broadcast_to(np.asarray(poses), truth.shape))
        return 100 * np.linalg.norm(there - measures.joints(truth), axis=-1)

    return error(statistics.body_mean), error(found)


def _pictures(built, body, verts, camera, size):
    """Of all of the body, as a prior's clips are."""
    from bridge.distill.critic import film
    from bridge.exchange import to_torch
    from bridge.render.mesh import make_mesh

    angles, mesh = map(to_torch, camera), make_mesh(body.triangles, body.vertex_colors)
    return film(to_torch(verts)[None], *angles, mesh, built.settings, size, size).numpy()


def test_a_known_motion_is_nearly_found_by_little_work():
    before, after = fitted(frames=3, size=32, count=48, steps=12, pooled=False)
    assert after.mean() < 0.6 * before.mean()


def test_a_fit_begins_where_the_prior_reads_it():
    """With next to no descent it stays there: no library is searched."""
    baked, statistics = lbs.bake(load_body("free")), load_statistics("walking")
    prior = pose_prior([clip for clip in prior_clips() if clip.action == "walking"], statistics, baked, 6)
    turns = rotations.axis_angle_to_matrix(jnp.asarray(prior.library[None, [1, 4]]))
    turns = np.asarray(jnp.concatenate([jnp.broadcast_to(jnp.eye(3), (1, 2, 1, 3, 3)), turns], axis=2))

    class Reader:
        def read(self, video):
            assert video.shape == (1, 2, 8, 8, 3)
            return turns, np.zeros((1, 2), np.float32)

        class pictures:  #
            @staticmethod
            def loss_and_grad(x, draws):
                return jnp.zeros(1), jnp.zeros_like(x), {}

    camera, video = (jnp.zeros(1), jnp.zeros(1)), jnp.zeros((1, 2, 8, 8, 3))
    found = match.fit_clips([prior], baked, *camera, video, Reader(), 1, smoothness=0)
    assert np.abs(found[0] - prior.library[[1, 4]]).max() < 0.2 < np.abs(found[0] - prior.library[[2, 3]]).max()


@pytest.mark.slow
def test_a_known_walk_is_found_to_four_centimetres():
    """From one camera at the prior's own size; descent alone, from two of them at 64×64, ends at 7 cm."""
    _, after = fitted(frames=10, size=32, count=512, steps=60)
    assert after.mean() < 4


@pytest.mark.slow
@pytest.mark.parametrize("action", ["running", "jumping"])
def test_another_motion_is_found_to_a_third_of_the_mean_pose_s_distance(action):
    before, after = fitted(frames=10, size=32, count=512, steps=60, action=action)
    assert after.mean() < before.mean() / 3
