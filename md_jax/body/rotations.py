"""Rotations: axis-angle, quaternions (w, x, y, z), matrices and the 6D form; all batched and differentiable.

Every function takes any leading batch axes. Those that are called outside of compiled functions, too, are compiled
themselves: step by step they would load a program an operation, at every start.

Values and gradients are exact and finite at the identity, where the textbook formulas divide 0 by 0: each `where` below
also feeds its unused branch a harmless number, for the gradient of a `where` multiplies the unused branch by zero, and
0 · inf is NaN. The logarithm is stable up to half a turn; *at* half a turn the axis is defined only up to its sign, and
one of the two is returned.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# Below this squared angle (0.01 rad) series replace sin and cos ratios: their error there is under 1e-15.
_SMALL_SQUARED = 1e-4
# Vectors shorter than 1e-5 have no direction in the 6D form.
_DEGENERATE_SQUARED = 1e-10


@jax.jit
def axis_angle_to_matrix(axis_angle: Float[Array, "*batch 3"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrices of rotation vectors in radians (of any length).

    Source: Rodrigues' formula, R = I + sin θ/θ [v]ₓ + (1 − cos θ)/θ² [v]ₓ².
    """
    squared = jnp.sum(axis_angle * axis_angle, axis=-1)[..., None, None]
    small = squared < _SMALL_SQUARED
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    first = jnp.where(small, 1 - squared / 6 + squared * squared / 120, jnp.sin(angle) / angle)
    half = jnp.sin(angle / 2) / angle
    second = jnp.where(small, 0.5 - squared / 24 + squared * squared / 720, 2 * half * half)
    x, y, z = axis_angle[..., 0], axis_angle[..., 1], axis_angle[..., 2]
    zero = jnp.zeros_like(x)
    skew = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*x.shape, 3, 3)
    outer = axis_angle[..., :, None] * axis_angle[..., None, :]
    eye = _eye_like(skew)
    return eye + first * skew + second * (outer - squared * eye)  # [v]ₓ² = v vᵀ − θ² I


@jax.jit
def matrix_to_quaternion(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 4"]:
    """Unit quaternions (w, x, y, z), w ≥ 0, of rotation matrices; no cancellation for any rotation.

    Row i of 4 q qᵀ is linear in the matrix and is q up to scale; the row with the largest diagonal is divided
    by its length, which is at least 1 in any rotation.
    """
    m = [[matrix[..., i, j] for j in range(3)] for i in range(3)]
    wx, wy, wz = m[2][1] - m[1][2], m[0][2] - m[2][0], m[1][0] - m[0][1]
    xy, xz, yz = m[0][1] + m[1][0], m[0][2] + m[2][0], m[1][2] + m[2][1]
    ww = 1 + m[0][0] + m[1][1] + m[2][2]
    xx = 1 + m[0][0] - m[1][1] - m[2][2]
    yy = 1 - m[0][0] + m[1][1] - m[2][2]
    zz = 1 - m[0][0] - m[1][1] + m[2][2]
    rows = [[ww, wx, wy, wz], [wx, xx, xy, xz], [wy, xy, yy, yz], [wz, xz, yz, zz]]
    outer = jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)
    largest = jnp.argmax(jnp.stack([ww, xx, yy, zz], axis=-1), axis=-1)
    row = jnp.take_along_axis(outer, largest[..., None, None], axis=-2)[..., 0, :]
    quaternion = row / jnp.sqrt(jnp.sum(row * row, axis=-1, keepdims=True))
    return jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)


@jax.jit
def quaternion_to_matrix(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrices of unit quaternions (w, x, y, z)."""
    w, x, y, z = (quaternion[..., i] for i in range(4))
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return jnp.stack([jnp.stack(row, axis=-1) for row in rows], axis=-2)


@jax.jit
def nearest_axis_angle(
    axis_angle: Float[Array, "*batch 3"], reference: Float[Array, "*batch 3"]
) -> Float[Array, "*batch 3"]:
    """The same rotations, as the rotation vectors (whole turns added) that come closest to `reference`.

    Args:
        axis_angle: rotation vectors in radians. A zero vector may turn about any axis: it takes the
        reference's. reference: rotation vectors in radians, of any length.
    """
    squared = jnp.sum(axis_angle * axis_angle, axis=-1, keepdims=True)
    angle = jnp.sqrt(jnp.where(squared > 0, squared, 1.0)) * (squared > 0)
    axis = _direction(axis_angle, _direction(reference, jnp.zeros_like(reference)))
    turns = jnp.round((jnp.sum(axis * reference, axis=-1, keepdims=True) - angle) / (2 * jnp.pi))
    return axis_angle + 2 * jnp.pi * turns * axis


@jax.jit
def axis_angle_to_quaternion(axis_angle: Float[Array, "*batch 3"]) -> Float[Array, "*batch 4"]:
    """Unit quaternions (w, x, y, z) of rotation vectors in radians."""
    squared = jnp.sum(axis_angle * axis_angle, axis=-1, keepdims=True)
    small = squared < _SMALL_SQUARED
    angle = jnp.sqrt(jnp.where(small, 1.0, squared))
    w = jnp.where(small, 1 - squared / 8 + squared * squared / 384, jnp.cos(angle / 2))
    scale = jnp.where(small, 0.5 - squared / 48 + squared * squared / 3840, jnp.sin(angle / 2) / angle)
    return jnp.concatenate([w, scale * axis_angle], axis=-1)


@jax.jit
def quaternion_to_axis_angle(quaternion: Float[Array, "*batch 4"]) -> Float[Array, "*batch 3"]:
    """The shortest rotation vectors, at most π long, of quaternions (w, x, y, z) of any non-zero length."""
    quaternion = jnp.where(quaternion[..., :1] < 0, -quaternion, quaternion)  # q and −q are the same rotation
    w, vector = quaternion[..., :1], quaternion[..., 1:]
    squared = jnp.sum(vector * vector, axis=-1, keepdims=True)
    small = squared < _SMALL_SQUARED / 4 * w * w
    length = jnp.sqrt(jnp.where(small, 1.0, squared))
    safe_w = jnp.where(small, w, 1.0)
    ratio = jnp.where(small, squared, 0.0) / (safe_w * safe_w)  # tan²(θ/2)
    series = 2 / safe_w * (1 - ratio / 3 + ratio * ratio / 5)
    return jnp.where(small, series, 2 * jnp.arctan2(length, w) / length) * vector


@jax.jit
def matrix_to_axis_angle(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 3"]:
    """The shortest rotation vectors, at most π long, of rotation matrices."""
    return quaternion_to_axis_angle(matrix_to_quaternion(matrix))


def quaternion_slerp(
    start: Float[Array, "*batch 4"], end: Float[Array, "*batch 4"], fraction: Float[Array, "*batch"]
) -> Float[Array, "*batch 4"]:
    """Unit quaternions at `fraction` of the shorter way from `start` (0) to `end` (1), at constant speed.

    Source: Shoemake, Animating rotation with quaternion curves, 1985.
    """
    end = jnp.where(jnp.sum(start * end, axis=-1, keepdims=True) < 0, -end, end)
    t = fraction[..., None]
    # The angle from the two chords: arccos of the dot product loses half the digits where the ends are close.
    chord = jnp.sum((end - start) ** 2, axis=-1, keepdims=True)
    small = chord < _SMALL_SQUARED
    chord_safe = jnp.where(small, 1.0, chord)
    angle = 2 * jnp.arctan2(jnp.sqrt(chord_safe), jnp.sqrt(jnp.sum((end + start) ** 2, axis=-1, keepdims=True)))
    squared = chord * (1 + chord / 12)  # angle² in the small branch, from chord = 2 sin(angle/2)

    def weight(s: Array) -> Array:
        """sin(s·angle) / sin(angle)"""
        series = s * (1 + (1 - s * s) * squared / 6 + (3 * s**4 - 10 * s * s + 7) * squared * squared / 360)
        return jnp.where(small, series, jnp.sin(s * angle) / jnp.sin(angle))

    return weight(1 - t) * start + weight(t) * end


def matrix_to_6d(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch 6"]:
    """The first two columns of rotation matrices, one after the other.

    Source: Zhou et al., On the continuity of rotation representations in neural networks, CVPR 2019, eq. 15.
    """
    return jnp.concatenate([matrix[..., :, 0], matrix[..., :, 1]], axis=-1)


@jax.jit
def sixd_to_matrix(sixd: Float[Array, "*batch 6"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrices from two columns of any length and angle, by Gram-Schmidt.

    Columns without a direction (shorter than 1e-5, or parallel) are replaced by an arbitrary fixed one, so
    the result is a rotation for any input.

    Source: Zhou et al. 2019, eq. 16.
    """
    unit_x = jnp.broadcast_to(jnp.eye(3, dtype=sixd.dtype)[0], (*sixd.shape[:-1], 3))
    first = _direction(sixd[..., :3], unit_x)
    rest = sixd[..., 3:] - jnp.sum(first * sixd[..., 3:], axis=-1, keepdims=True) * first
    # The axis least aligned with `first`, made perpendicular to it: its remaining length is at least √(2/3).
    axis = jax.nn.one_hot(jnp.argmin(jnp.abs(first), axis=-1), 3, dtype=sixd.dtype)
    axis = axis - jnp.sum(first * axis, axis=-1, keepdims=True) * first
    second = _direction(rest, axis / jnp.sqrt(jnp.sum(axis * axis, axis=-1, keepdims=True)))
    return jnp.stack([first, second, jnp.cross(first, second)], axis=-1)


def yaw_of(matrix: Float[Array, "*batch 3 3"]) -> Float[Array, "*batch"]:
    """The heading of rotations in radians, (−π, π]: the turn about +y that comes closest to each of them.

    It is the twist of the swing-twist decomposition, 2 atan2(y, w), written in matrix entries; a pure pitch
    or roll has yaw 0. Only fully upside down is every yaw equally close: 0 is returned there, gradient 0.
    """
    sine, cosine = matrix[..., 0, 2] - matrix[..., 2, 0], matrix[..., 0, 0] + matrix[..., 2, 2]
    undefined = sine * sine + cosine * cosine < _DEGENERATE_SQUARED
    return jnp.arctan2(jnp.where(undefined, 0.0, sine), jnp.where(undefined, 1.0, cosine))


def yaw_matrix(yaw: Float[Array, "*batch"]) -> Float[Array, "*batch 3 3"]:
    """Rotation matrices about +y (up); positive angles turn +z (forward) towards +x (the body's left)."""
    zero = jnp.zeros_like(yaw)
    return axis_angle_to_matrix(jnp.stack([zero, yaw, zero], axis=-1))


@functools.partial(jax.jit, static_argnums=0)
def _compiled(function: Callable[..., Array], *arrays: Array) -> Array:
    return function(*arrays)


def on_host(function: Callable[..., Array], *arrays: np.ndarray, rows: int = 4096) -> np.ndarray:
    """`function` of numpy arrays of any length, by equal chunks of rows, so that it is compiled only once.

    Args:
        function: a function of this module, or any other that treats the rows of its arguments independently.
        arrays: its arguments, of the same length N; zeros must be among what it accepts.
        rows: length of a chunk.

    Returns:
        its result for all N rows.
    """
    length = len(arrays[0])
    padded = [np.concatenate([a, np.zeros((-length % rows, *a.shape[1:]), a.dtype)]) for a in arrays]
    chunks = [_compiled(function, *(p[i : i + rows] for p in padded)) for i in range(0, length, rows)]
    return np.concatenate([np.asarray(chunk) for chunk in chunks])[:length]


def _eye_like(matrix: Array) -> Array:
    return jnp.broadcast_to(jnp.eye(3, dtype=matrix.dtype), matrix.shape)


def _direction(vector: Array, fallback: Array) -> Array:
    """`vector` divided by its length, or `fallback` where it has none."""
    squared = jnp.sum(vector * vector, axis=-1, keepdims=True)
    degenerate = squared < _DEGENERATE_SQUARED
    return jnp.where(degenerate, fallback, vector / jnp.sqrt(jnp.where(degenerate, 1.0, squared)))
