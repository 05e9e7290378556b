"""Rotations against scipy, and their gradients against central differences in float64."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from md_jax.body import rotations

# Compiled once each: op by op, the small functions cost seconds of compilation.
r = SimpleNamespace(
    **{n: jax.jit(f) for n, f in vars(rotations).items() if getattr(f, "__module__", "") == rotations.__name__}
)

BATCHES = [(), (5,), (2, 3)]
# Rotation angles around every place where a formula could break.
ANGLES = [
    0.0,
    1e-12,
    1e-6,
    0.00999,
    0.01001,
    0.5,
    2.0,
    np.pi - 1e-3,
    np.pi - 1e-7,
    np.pi,
    4.0,
    2 * np.pi - 1e-5,
]


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def random_axis_angle(seed, batch):
    return np.asarray(Rotation.random(int(np.prod(batch, dtype=int)), rng=seed).as_rotvec().reshape(*batch, 3))


def with_angle(angle, seed=0):
    axes = np.random.default_rng(seed).normal(size=(20, 3))
    return angle * axes / np.linalg.norm(axes, axis=-1, keepdims=True)


def wxyz(rotation):
    return rotation.as_quat(canonical=True, scalar_first=True)


@pytest.mark.parametrize("batch", BATCHES)
def test_matches_scipy_for_any_batch(batch):
    v = random_axis_angle(0, batch)
    rotation = Rotation.from_rotvec(v.reshape(-1, 3))
    matrix = rotation.as_matrix().reshape(*batch, 3, 3)
    quaternion = wxyz(rotation).reshape(*batch, 4)
    np.testing.assert_allclose(r.axis_angle_to_matrix(v), matrix, atol=1e-14)
    np.testing.assert_allclose(r.matrix_to_quaternion(matrix), quaternion, atol=1e-14)
    np.testing.assert_allclose(r.quaternion_to_matrix(quaternion), matrix, atol=1e-14)
    np.testing.assert_allclose(r.axis_angle_to_quaternion(v), quaternion, atol=1e-14)
    np.testing.assert_allclose(r.quaternion_to_axis_angle(quaternion), v, atol=1e-14)
    np.testing.assert_allclose(r.matrix_to_axis_angle(matrix), v, atol=1e-13)
    np.testing.assert_allclose(r.sixd_to_matrix(r.matrix_to_6d(jnp.asarray(matrix))), matrix, atol=1e-14)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_angle_is_exact(angle, dtype):
    tolerance = 2e-6 if dtype == np.float32 else 1e-13
    v = with_angle(angle).astype(dtype)
    rotation = Rotation.from_rotvec(v.astype(np.float64))
    matrix = r.axis_angle_to_matrix(v)
    assert matrix.dtype == dtype
    np.testing.assert_allclose(matrix, rotation.as_matrix(), atol=tolerance)
    for back in (r.matrix_to_axis_angle(matrix), r.quaternion_to_axis_angle(r.axis_angle_to_quaternion(v))):
        assert np.all(np.linalg.norm(back, axis=-1) <= np.pi + 1e-6)
        error = (Rotation.from_rotvec(np.array(back, np.float64)) * rotation.inv()).magnitude()
        assert np.max(error) < 2 * tolerance


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_one_of_the_two_axes(axis):
    v = np.pi * np.eye(3)[axis]
    np.testing.assert_allclose(np.abs(r.matrix_to_axis_angle(r.axis_angle_to_matrix(v))), v, atol=1e-7)


FUNCTIONS = {
    "axis_angle_to_matrix": (r.axis_angle_to_matrix, lambda v: v),
    "axis_angle_to_quaternion": (r.axis_angle_to_quaternion, lambda v: v),
    "quaternion_to_axis_angle": (r.quaternion_to_axis_angle, r.axis_angle_to_quaternion),
    "quaternion_to_matrix": (r.quaternion_to_matrix, r.axis_angle_to_quaternion),
    "matrix_to_quaternion": (r.matrix_to_quaternion, r.axis_angle_to_matrix),
    "matrix_to_axis_angle": (r.matrix_to_axis_angle, r.axis_angle_to_matrix),
    "sixd_to_matrix": (r.sixd_to_matrix, lambda v: r.matrix_to_6d(r.axis_angle_to_matrix(v))),
    "log_exp": (lambda v: r.matrix_to_axis_angle(r.axis_angle_to_matrix(v)), lambda v: v),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-3, 1.0, np.pi - 1e-4])
def test_gradients_match_central_differences(name, angle):
    function, prepare = FUNCTIONS[name]
    x = prepare(jnp.asarray(with_angle(angle, seed=3)[0]))
    shape = x.shape

    @jax.jit  # the whole check is one compilation: values at every displaced point and the exact Jacobian
    def both(y):
        def flat(y):
            return function(y.reshape(shape)).reshape(-1)

        displaced = h * jnp.eye(y.size)
        steps = (jax.vmap(flat)(y + displaced) - jax.vmap(flat)(y - displaced)) / (2 * h)
        return jax.jacobian(flat)(y), steps.T

    h = 1e-6
    jacobian, steps = both(x.reshape(-1))
    assert np.all(np.isfinite(jacobian))
    np.testing.assert_allclose(jacobian, steps, atol=1e-7 * max(1, np.abs(jacobian).max()))


def test_gradient_at_the_identity_is_the_known_one():
    jacobian = jax.jit(jax.jacobian(r.axis_angle_to_matrix))(jnp.zeros(3))
    generators = np.array(
        [
            [[0, 0, 0], [0, 0, -1], [0, 1, 0]],
            [[0, 0, 1], [0, 0, 0], [-1, 0, 0]],
            [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
        ]
    )
    np.testing.assert_array_equal(np.moveaxis(jacobian, -1, 0), generators)
    np.testing.assert_array_equal(jax.jit(jax.jacobian(FUNCTIONS["log_exp"][0]))(jnp.zeros(3)), np.eye(3))
    hessian = jax.jit(jax.hessian(lambda v: r.axis_angle_to_matrix(v).sum()))(jnp.zeros(3))
    assert np.all(np.isfinite(hessian))


def test_slerp_matches_scipy():
    ends = Rotation.random(2 * 50, rng=1)
    start, end = wxyz(ends[:50]), -wxyz(ends[50:])  # the sign of a quaternion must not matter
    fraction = np.random.default_rng(2).uniform(size=50)
    ours = r.quaternion_slerp(jnp.asarray(start), jnp.asarray(end), jnp.asarray(fraction))
    for i in range(50):
        oracle = Slerp([0, 1], ends[[i, 50 + i]])(fraction[i])
        error = (Rotation.from_quat(np.asarray(ours[i]), scalar_first=True) * oracle.inv()).magnitude()
        assert error < 1e-12


@pytest.mark.parametrize("angle", [0.0, 1e-9, 0.005, 0.0199, 0.0201, 1.0])
def test_slerp_between_close_rotations(angle):
    axis = with_angle(1.0)[0]
    start, end = jnp.array([1.0, 0, 0, 0]), r.axis_angle_to_quaternion(jnp.asarray(angle * axis))
    fraction = jnp.linspace(0, 1, 5)
    between = r.quaternion_slerp(jnp.tile(start, (5, 1)), jnp.tile(end, (5, 1)), fraction)
    np.testing.assert_allclose(r.quaternion_to_axis_angle(between), angle * fraction[:, None] * axis, atol=1e-13)
    gradient = jax.jit(jax.jacobian(lambda q: r.quaternion_slerp(start, q, jnp.asarray(0.3))))(end)
    assert np.all(np.isfinite(gradient))


sixd_and_jacobian = jax.jit(lambda x: (r.sixd_to_matrix(x), jax.jacobian(r.sixd_to_matrix)(x)))


@given(st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_sixd_always_gives_a_rotation_and_finite_gradients(numbers):
    with jax.enable_x64(True):
        sixd = jnp.asarray(numbers, jnp.float64)
        matrix, gradient = sixd_and_jacobian(sixd)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(matrix) == pytest.approx(1, abs=1e-9)
    assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("sixd", [np.zeros(6), [0, 2, 0, 0, 3, 0], [1e-9, 0, 0, 1, 0, 0], [1, 1, 1, 1, 1, 1]])
def test_sixd_without_a_direction_is_still_a_rotation(sixd):
    matrix = r.sixd_to_matrix(jnp.asarray(sixd, jnp.float64))
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.all(np.isfinite(sixd_and_jacobian(jnp.asarray(sixd, jnp.float64))[1]))


def test_yaw_is_the_closest_turn_about_y():
    matrix = Rotation.random(30, rng=5).as_matrix()
    yaw = np.asarray(r.yaw_of(jnp.asarray(matrix)))
    grid = np.linspace(-np.pi, np.pi, 20001)
    turns = Rotation.from_rotvec(grid[:, None] * np.array([0.0, 1.0, 0.0])).as_matrix()
    best = grid[np.argmax(np.einsum("gij,nij->ng", turns, matrix), axis=1)]
    np.testing.assert_allclose(np.cos(yaw - best), 1, atol=1e-6)
    left = np.asarray(r.yaw_matrix(-jnp.asarray(yaw)) @ jnp.asarray(matrix))
    np.testing.assert_allclose(r.yaw_of(jnp.asarray(left)), 0, atol=1e-12)
    np.testing.assert_allclose(Rotation.from_matrix(left).as_matrix() @ np.eye(3), left, atol=1e-12)


def test_yaw_of_pure_turns_pitches_and_rolls():
    angle = np.linspace(-3.1, 3.1, 9)
    np.testing.assert_allclose(r.yaw_of(r.yaw_matrix(jnp.asarray(angle))), angle, atol=1e-12)
    np.testing.assert_allclose(r.yaw_matrix(jnp.asarray(np.pi / 2)) @ np.array([0.0, 0, 1]), [1, 0, 0], atol=1e-15)
    for axis in ([1.0, 0, 0], [0, 0, 1.0]):
        matrix = r.axis_angle_to_matrix(jnp.asarray(angle[:, None] * np.array(axis)))
        np.testing.assert_allclose(r.yaw_of(matrix), 0, atol=1e-12)
    upside_down = r.axis_angle_to_matrix(jnp.array([0, 0, np.pi]))
    assert np.all(np.isfinite(jax.grad(lambda m: r.yaw_of(m).sum())(upside_down)))


def test_broadcasts_under_vmap_and_jit():
    v = jnp.asarray(random_axis_angle(7, (4, 3)))
    mapped = jax.jit(jax.vmap(jax.vmap(r.axis_angle_to_matrix)))(v)
    np.testing.assert_allclose(mapped, r.axis_angle_to_matrix(v), atol=1e-15)
