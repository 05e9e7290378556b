"""PoseField: step 0, the bound, gradients, a NumPy twin, and motions that do not notice their company."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.spatial.transform import Rotation

from md_jax.errors import UserError
from md_jax.fit import posefield
from md_jax.mocap.statistics import load_statistics

ACTIONS = ("walking", "punching", "cartwheel", "generic")
CASES = [
    (root, rotation, bound)
    for root in ("fixed", "orient")
    for rotation in ("axis_angle", "6d")
    for bound in ("tanh", "clamp")
]


def keys(count, seed=0):
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(count))


def make(actions=ACTIONS[:2], frames=10, **settings):
    return posefield.init_fields([load_statistics(a) for a in actions], keys(len(actions)), frames=frames, **settings)


def scrambled(params, size, seed=1):
    """The parameters moved far from their start."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return jax.tree.unflatten(tree, [leaf + size * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])


def expected_moments(action, root, rotation):
    statistics, end = load_statistics(action), "_6d" if rotation == "6d" else ""
    moments = []
    for kind in ("mean", "std"):
        body, whole = getattr(statistics, f"body_{kind}{end}"), getattr(statistics, f"root_{kind}{end}")
        moments.append(body if root == "fixed" else np.concatenate([whole[None], body]))
    return moments


@pytest.mark.parametrize(("root", "rotation", "bound"), CASES)
def test_starts_exactly_at_the_mean_and_never_leaves_the_bound(root, rotation, bound):
    fields, params = make(root=root, rotation=rotation, bound=bound, bound_sigma=2.5)
    apply = jax.jit(posefield.apply_fields)
    start, values = np.asarray(apply(fields, params)), np.asarray(apply(fields, scrambled(params, 30.0)))
    reached = 0.0
    for m, action in enumerate(ACTIONS[:2]):
        mean, std = expected_moments(action, root, rotation)
        limit = np.float32(2.5) * std
        np.testing.assert_array_equal(start[m], np.broadcast_to(mean, start[m].shape))
        assert np.all(values[m] <= mean + limit) and np.all(values[m] >= mean - limit)
        reached = max(reached, np.max(np.abs(values[m] - mean) / limit))
    assert reached > 0.99  # the bound is really what stops them


def numpy_twin(field, tau, layer_norm):
    """The field from its weights alone, in float64."""
    angles = np.asarray(tau)[:, None] * field.time_scale * np.asarray(field.frequencies)
    x = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    for i in range(field.depth):
        layer = getattr(field, f"hidden_{i}")
        x = x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)
        if layer_norm:
            x = (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-6)
        x = x / (1 + np.exp(-x))
    raw = x @ np.asarray(field.head.kernel[...], np.float64) + np.asarray(field.head.bias[...], np.float64)
    return raw.reshape(len(x), 21, 3)


@pytest.mark.parametrize("bound", ["tanh", "clamp"])
@pytest.mark.parametrize(("time", "layer_norm"), [("normalized", False), ("raw", True)])
def test_equals_its_numpy_twin(bound, time, layer_norm):
    statistics = load_statistics("jumping")
    mean, std = statistics.body_mean, statistics.body_std
    field = posefield.PoseField(
        mean, std, frames=7, hidden=(16, 24), time=time, layer_norm=layer_norm, bound=bound, rngs=nnx.Rngs(3)
    )
    field.head.kernel[...] = 0.3 * jax.random.normal(jax.random.key(1), field.head.kernel[...].shape)
    tau = np.array([0.0, 1.5, 6.0], np.float32)
    raw = numpy_twin(field, tau, layer_norm)
    want = mean + (3 * std * np.tanh(raw) if bound == "tanh" else np.clip(raw, -3 * std, 3 * std))
    np.testing.assert_allclose(field(jnp.asarray(tau)), want, atol=2e-5)
    if time == "normalized":
        assert field.time_scale == pytest.approx(1 / 6)
    else:
        np.testing.assert_allclose(field.frequencies, [1, 2 ** (5 / 3), 2 ** (10 / 3), 32])


@pytest.mark.parametrize("bound", ["tanh", "clamp"])
def test_gradient_matches_central_differences(bound):
    with jax.enable_x64(True):
        mean, std = np.zeros((2, 3)), np.full((2, 3), 0.4)
        field = posefield.PoseField(
            mean, std, frames=5, hidden=(6, 5), bound=bound, rngs=nnx.Rngs(params=jax.random.key(0))
        )
        graphdef, params, rest = nnx.split(field, nnx.Param, ...)
        flat, unravel = jax.flatten_util.ravel_pytree(nnx.to_pure_dict(params))
        flat = flat.astype(jnp.float64) + 0.2 * jax.random.normal(jax.random.key(1), flat.shape, jnp.float64)

        @jax.jit
        def loss(x):
            tree = jax.tree.map(lambda v: v.astype(jnp.float64), unravel(x.astype(flat.dtype)))
            return jnp.sum(jnp.sin(nnx.merge(graphdef, tree, rest)(jnp.arange(5.0))) ** 2)

        direction = jax.random.normal(jax.random.key(2), flat.shape, jnp.float64)
        exact = float(jax.grad(loss)(flat) @ direction)
        numeric = float(loss(flat + 1e-5 * direction) - loss(flat - 1e-5 * direction)) / 2e-5
    assert exact == pytest.approx(numeric, rel=1e-4)
    assert abs(exact) > 1e-3


@pytest.mark.parametrize("rotation", ["axis_angle", "6d"])
def test_a_motion_is_the_same_alone_or_in_company(rotation):
    """Values, parameters and gradients, bit for bit."""

    def values_and_gradient(actions, places):
        statistics = [load_statistics(a) for a in actions]
        fields, params = posefield.init_fields(statistics, keys(4)[places], frames=10, rotation=rotation)
        params = jax.tree.map(
            lambda p: p + 0.1 * jnp.sin(jnp.arange(p[0].size, dtype=p.dtype)).reshape(p.shape[1:]), params
        )

        def of_one(fields, params):
            body, pullback = jax.vjp(lambda p: posefield.poses(fields, p).body, params)
            upstream = jnp.sin(jnp.arange(body[0].size, dtype=body.dtype)).reshape(body.shape[1:])
            return body, pullback(jnp.broadcast_to(upstream, body.shape))

        return params, posefield.apply_fields(fields, params), jax.jit(of_one)(fields, params)

    together = values_and_gradient(ACTIONS, jnp.arange(4))
    alone = values_and_gradient(ACTIONS[2:3], jnp.array([2]))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[2], b[0]), together, alone)


def test_seeds_differ_and_repeat():
    first, again = (jax.tree.leaves(make()[1]) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    kernel = make(actions=("walking", "walking"))[1]["hidden_0"]["kernel"]
    assert not np.array_equal(kernel[0], kernel[1])


def test_means_are_not_trained():
    fields, params = make()
    trained = {leaf.shape for leaf in jax.tree.leaves(params)}
    assert (2, 21, 3) not in trained and {x.shape for x in jax.tree.leaves(fields.fixed)} == {(2, 21, 3)}


def test_sixd_poses_are_rotations_and_start_at_the_mean():
    fields, params = make(rotation="6d", root="orient")
    start = posefield.poses(fields, params)
    assert start.body.shape == (2, 10, 21, 3, 3) and start.root.shape == (2, 10, 3, 3) and start.transl is None
    mean = load_statistics("walking").body_mean_6d
    first, second = mean[:, :3], mean[:, 3:]
    for j in range(21):
        oracle, _ = Rotation.align_vectors(np.stack([first[j], second[j]]), np.eye(3)[:2], weights=[np.inf, 1])
        np.testing.assert_allclose(start.body[0, 0, j], oracle.as_matrix(), atol=1e-5)
    moved = np.asarray(posefield.poses(fields, scrambled(params, 5.0)).body).reshape(-1, 3, 3)
    np.testing.assert_allclose(moved @ moved.transpose(0, 2, 1), np.broadcast_to(np.eye(3), moved.shape), atol=1e-5)
    np.testing.assert_allclose(np.linalg.det(moved), 1, atol=1e-5)


@pytest.mark.parametrize(("rotation", "width"), [("axis_angle", 3), ("6d", 6)])
def test_full_root_adds_a_translation(rotation, width):
    walking = load_statistics("walking")
    with_transl = dataclasses.replace(
        walking, transl_mean=np.array([0.1, 0.0, 0.5], np.float32), transl_std=np.array([0.1, 0.05, 0.4], np.float32)
    )
    fields, params = posefield.init_fields([with_transl], keys(1), frames=4, root="full", rotation=rotation)
    assert posefield.apply_fields(fields, params).shape == (1, 4, 23, width)
    start = posefield.poses(fields, params)
    np.testing.assert_array_equal(start.transl[0], np.tile(with_transl.transl_mean, (4, 1)))
    moved = posefield.poses(fields, scrambled(params, 20.0)).transl[0]
    assert np.all(np.abs(moved - with_transl.transl_mean) <= 3 * with_transl.transl_std + 1e-6)
    with pytest.raises(UserError, match="translation"):
        without = dataclasses.replace(walking, transl_mean=None, transl_std=None)
        posefield.init_fields([without], keys(1), frames=4, root="full")


def test_any_frame_in_between():
    fields, params = make()
    params = scrambled(params, 0.3)
    all_frames, some = (
        posefield.apply_fields(fields, params),
        posefield.apply_fields(fields, params, jnp.array([0.0, 4.5, 9.0])),
    )
    np.testing.assert_allclose(some[:, 0], all_frames[:, 0], atol=1e-6)
    np.testing.assert_allclose(some[:, 2], all_frames[:, 9], atol=1e-6)
    assert np.abs(np.asarray(some[:, 1] - all_frames[:, 4])).max() > 1e-3


@pytest.mark.parametrize("tau", [None, np.arange(7) / 2, np.arange(14).reshape(2, 7) / 2], ids=["all", "times", "own"])
def test_poses_are_traced_once_a_shape(tau, monkeypatch):
    """A run asks for them a dozen times; to trace them takes longer than to compute them."""
    fields, params = make(root="orient", frames=9)
    traced = []
    call = posefield.PoseField.__call__
    monkeypatch.setattr(posefield.PoseField, "__call__", lambda field, at: traced.append(at.shape) or call(field, at))
    first = posefield.poses(fields, params, tau)
    count = len(traced)
    other = posefield.poses(fields, scrambled(params, 1.0), tau)
    assert len(traced) == count > 0
    assert first.body.shape == other.body.shape and np.abs(np.asarray(first.body - other.body)).max() > 0.01


@pytest.mark.parametrize("rotation", ["axis_angle", "6d"])
@pytest.mark.parametrize("root", ["fixed", "orient"])
def test_the_mean_pose_is_where_a_field_starts(root, rotation):
    statistics = load_statistics("cartwheel")
    fields, params = make(["cartwheel"], root=root, rotation=rotation, frames=3)
    begun, mean = posefield.poses(fields, params), posefield.mean_pose(statistics, root, rotation)
    np.testing.assert_allclose(np.asarray(mean.body), np.asarray(begun.body[:, :1]), atol=1e-6)
    assert (mean.root is None) == (begun.root is None) == (root == "fixed")
    if mean.root is not None:
        np.testing.assert_allclose(np.asarray(mean.root), np.asarray(begun.root[:, :1]), atol=1e-6)
