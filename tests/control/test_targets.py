"""What is asked of a motion: each loss beside plain NumPy, its gradient, and an optimiser that fulfils it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.control import losses
from md_jax.control.reading import END, Asked, Key, Pin
from md_jax.control.targets import make_targets, misses
from md_jax.errors import UserError
from md_jax.evaluate import measures
from md_jax.fit import posefield
from md_jax.ground.floor import on_floor
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import load_statistics

FRAMES, FPS = 10, 10.0


@pytest.fixture(scope="module")
def body():
    whole = load_body()
    return whole, lbs.bake(whole)


@pytest.fixture(scope="module")
def moving():
    fields, params = posefield.init_fields(
        [load_statistics(a) for a in ("walking", "punching")], jax.random.split(jax.random.key(1), 2), frames=FRAMES
    )
    kernel = 0.3 * jax.random.normal(jax.random.key(2), params["head"]["kernel"].shape)
    return fields, {**params, "head": {**params["head"], "kernel": kernel}}


def targets_of(body, asked, loop=False):
    return make_targets(asked, *body, frames=FRAMES, fps=FPS, loop=loop)


def missed(targets, moving):
    fields, params = moving
    return misses(targets, lambda tau: posefield.poses(fields, params, tau))


def test_a_pin_is_where_the_files_have_the_joint(body, moving):
    """Measured in the motion as it is written: on the floor, at the same second."""
    fields, params = moving
    found = missed(targets_of(body, Asked(pins=(Pin(20, (0.2, 1.1, 0.4), 0.3, 0.3),))), moving)["pin"]
    for m in range(2):
        pose = np.asarray(posefield.poses(fields, params).body[m])
        motion = on_floor(Motion(pose, np.zeros((FRAMES, 3)), np.zeros((FRAMES, 3)), FPS), body[0]).motion
        hand = np.asarray(lbs.joints_of(body[1], motion.body_pose, motion.root_orient, motion.transl))[3, 20]
        assert found[m] == pytest.approx(1e4 * np.sum((hand - [0.2, 1.1, 0.4]) ** 2), rel=1e-3)


def test_a_pin_that_lasts_is_a_mean_over_its_time(body, moving):
    long = missed(targets_of(body, Asked(pins=(Pin(21, (0.0, 1.0, 0.3), 0.2, 0.5),))), moving)["pin"]
    each = [missed(targets_of(body, Asked(pins=(Pin(21, (0.0, 1.0, 0.3), t, t),))), moving)["pin"]
            for t in np.linspace(0.2, 0.5, 7)]  # fmt: skip
    np.testing.assert_allclose(long, np.mean(each, axis=0), rtol=1e-4)


def test_a_pin_is_beside_the_body_unless_a_path_says_where_that_is(body, moving):
    """What the root does along the floor counts with a path alone, and the floor is under its feet at any height."""
    fields, params = moving
    pin = Pin(20, (0.2, 1.1, 0.4), 0.3, 0.3)

    def found(moved, path=()):
        def gone(tau):
            pose = posefield.poses(fields, params, tau)
            return pose._replace(transl=jnp.broadcast_to(jnp.array(moved), (*pose.body.shape[:2], 3)))

        return float(misses(targets_of(body, Asked(pins=(pin,), path=path)), gone)["pin"][0])

    there = found((0.0, 0.0, 0.0))
    assert found((0.3, 0.0, -0.5)) == pytest.approx(there, rel=1e-4) == found((0.0, 0.7, 0.0))
    assert abs(found((0.3, 0.0, -0.5), path=((0.0, 0.0), (0.0, 1.0))) - there) > 100


def test_a_keyframe_of_the_motion_itself_is_met(body, moving):
    fields, params = moving
    own = np.asarray(posefield.poses(fields, params, jnp.array([4.0])).body[0, 0])
    end = np.asarray(posefield.poses(fields, params, jnp.array([9.0])).body[0, 0])
    found = missed(targets_of(body, Asked(keys=(Key(0.4, own), Key(END, end)))), moving)["keyframe"]
    assert found[0] < 1e-4 < found[1]


def test_a_keyframe_is_met_whatever_way_the_root_turns(body, moving):
    """A root that leans must not bend the back to make up for it."""
    fields, params = moving
    own = np.asarray(posefield.poses(fields, params, jnp.array([4.0])).body[0, 0])
    targets = targets_of(body, Asked(keys=(Key(0.4, own),)))

    def leaning(tau):
        pose = posefield.poses(fields, params, tau)
        return pose._replace(root=jnp.broadcast_to(jnp.array([0.4, 0.7, 0.0]), (*pose.body.shape[:2], 3)))

    assert misses(targets, leaning)["keyframe"][0] < 1e-4


def test_a_keyframe_is_measured_about_the_pelvis(body, moving):
    fields, params = moving
    other = np.zeros((21, 3), np.float32)
    found = missed(targets_of(body, Asked(keys=(Key(0.4, other),))), moving)["keyframe"]
    pose = np.asarray(posefield.poses(fields, params, jnp.array([4.0])).body[1])
    apart = measures.joints(pose)[0] - measures.joints(other[None])[0]
    assert found[1] == pytest.approx(1e4 * np.square(apart).sum(axis=-1).sum() / 22, rel=1e-3)


def test_a_path_begins_anywhere():
    joints = np.zeros((1, 3, 55, 3), np.float32)
    joints[0, :, 0] = [[1, 0.9, 2], [1.5, 0.8, 2], [2, 0.9, 2.1]]
    path = losses.Path(jnp.arange(3.0), jnp.array([[0.0, 0], [0.5, 0], [1.0, 0]]))
    np.testing.assert_allclose(losses.on_path(jnp.asarray(joints), path), 1e4 * 0.01 / 3, rtol=1e-4)


def test_a_path_is_asked_for_between_its_points_too(body):
    """It passes the points at even times, and does not swing out in between."""
    way = np.array([[0.0, 0.0], [0.3, 0.2], [0.3, 0.9], [0.1, 1.0]])
    path = targets_of(body, Asked(path=tuple(map(tuple, way)))).path
    tau, place = np.asarray(path.tau), np.asarray(path.place)
    np.testing.assert_allclose(place[[0, 6, 12, 18]], way, atol=1e-6)
    np.testing.assert_allclose(np.diff(tau), 0.5)
    for n in range(3):
        part = place[6 * n : 6 * n + 7]
        assert (part >= way[n : n + 2].min(axis=0) - 1e-6).all() and (part <= way[n : n + 2].max(axis=0) + 1e-6).all()


def test_limbs_inside_each_other_agree_with_the_evaluations_measure(body):
    """The arms crossed in front of the trunk and through it: none, some, more, as the yardstick's capsules say."""
    depth, loss = [], []
    for bend in (0.0, 1.0, 1.8):
        pose = np.zeros((1, 21, 3), np.float32)
        pose[:, 16 - 1, 1], pose[:, 17 - 1, 1] = -bend, bend  # shoulders
        pose[:, 18 - 1, 1], pose[:, 19 - 1, 1] = -bend, bend  # elbows
        depth.append(measures.self_penetration(measures.joints(pose))[0])
        joints = lbs.joints_of(body[1], jnp.asarray(pose))[None]
        loss.append(float(losses.inside_itself(joints, jnp.asarray(losses.radii_of(body[0])))[0]))
    assert loss[0] < 1e-3 and depth[0] < 1e-3
    assert loss[1] < loss[2] and depth[1] < depth[2]
    assert loss[2] > 10


def asked():
    """A pin, a pose that walking can reach, and limbs apart."""
    walking = load_statistics("walking")
    key = Key(0.1, np.asarray(walking.body_mean + 0.8 * walking.body_std, np.float32))
    return Asked(pins=(Pin(20, (0.2, 1.1, 0.4), 0.5, 0.8),), keys=(key,), avoid=True)


def test_gradients(body, moving):
    """Along a random direction, in float64, beside a finite difference."""
    targets = targets_of(body, asked())
    with jax.enable_x64(True):
        fields, params, targets = jax.tree.map(
            lambda x: jnp.asarray(x, jnp.float64) if x.dtype == jnp.float32 else x, (*moving, targets)
        )

        @jax.jit
        def total(p):
            return sum(term.sum() for term in misses(targets, lambda tau: posefield.poses(fields, p, tau)).values())

        rng = np.random.default_rng(0)
        way = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), params)
        ahead, back = (jax.tree.map(lambda x, v, s=sign: x + s * 1e-6 * v, params, way) for sign in (1, -1))
        slope = sum(jnp.vdot(g, v) for g, v in zip(*map(jax.tree.leaves, (jax.grad(total)(params), way)), strict=True))
        assert float(slope) == pytest.approx(float(total(ahead) - total(back)) / 2e-6, rel=1e-4)


def test_an_optimiser_fulfils_what_is_asked(body, moving):
    fields, params = moving
    targets = targets_of(body, asked())

    @jax.jit
    def step(params, state):
        total = lambda p: sum(t.sum() for t in misses(targets, lambda tau: posefield.poses(fields, p, tau)).values())  # noqa: E731
        loss, grads = jax.value_and_grad(total)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, loss

    optimizer = optax.adam(0.01)
    state = optimizer.init(params)
    for _ in range(150):
        params, state, _ = step(params, state)
    found = missed(targets, (fields, params))
    assert np.sqrt(found["pin"][0]) < 0.5 and np.sqrt(found["keyframe"][0]) < 3, found  # centimetres


@pytest.mark.parametrize("pin", [Pin(20, (0, 1, 0), 0.5, 1.2), Pin(20, (0, 1, 0), 1.0, 1.0)])
def test_a_time_after_the_end_is_refused(body, pin):
    with pytest.raises(UserError, match=r"the motion ends at 0\.9 s"):
        targets_of(body, Asked(pins=(pin,)))
    if pin.last <= 1.0:
        targets_of(body, Asked(pins=(pin,)), loop=True)
