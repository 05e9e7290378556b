"""What users pass to a body, checked and turned into arrays of one form."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from md_jax.body.model import Body
from md_jax.body.rotations import axis_angle_to_matrix
from md_jax.body.skinning import dot
from md_jax.errors import UserError


def expand_hand_pca(
    body: Body,
    coefficients: Float[ArrayLike, "*batch n"],
    side: Literal["left", "right"],
    *,
    mean: bool = True,
) -> Float[Array, "*batch 45"]:
    """A full hand pose from PCA coefficients.

    Args:
        body: from `load_body`.
        coefficients: of the first n ≤ 45 components; n = 0 gives the mean alone.
        side: which hand.
        mean: add the hand's mean pose, a relaxed hand (`flat_hand_mean=False` in the smplx package).

    Returns:
        Axis-angle of the 15 finger joints, radians, for `left_hand_pose` or `right_hand_pose`.

    Raises:
        UserError: the body's file has no hand components, or n > 45.
    """
    sides = {
        "left": (body.hands_components_left, body.hands_mean_left),
        "right": (body.hands_components_right, body.hands_mean_right),
    }
    if side not in sides:
        raise UserError(f"side should be 'left' or 'right', got {side!r}.")
    components, hand_mean = sides[side]
    if components is None or hand_mean is None:
        raise UserError("this body's file holds no hand PCA (some locked-head files); pass full 45-vectors instead.")
    coefficients = jnp.asarray(coefficients, components.dtype)
    n = coefficients.shape[-1]
    if n > 45:
        raise UserError(f"a hand has 45 PCA components, got {n} coefficients.")
    pose = dot(coefficients, components[:n])
    return pose + hand_mean if mean else pose


def shape_coefficients(body: Body, betas: ArrayLike | None, expression: ArrayLike | None) -> tuple[Array, Array]:
    """Coefficients as arrays, none meaning zero of them."""
    arrays = []
    for name, value, dirs in (("betas", betas, body.shapedirs), ("expression", expression, body.exprdirs)):
        array = jnp.asarray(() if value is None else value, dirs.dtype)
        if array.ndim == 0 or array.shape[-1] > dirs.shape[-1]:
            raise UserError(f"{name}: this body has {dirs.shape[-1]} components, got an array of shape {array.shape}.")
        arrays.append(array)
    return arrays[0], arrays[1]


def axis_angles(name: str, value: ArrayLike | None, count: int, dtype: jnp.dtype) -> Float[Array, "*batch count 3"]:
    """Rotation vectors of `count` joints, from (..., 3·count) or (..., count, 3); zeros for None."""
    if value is None:
        return jnp.zeros((count, 3), dtype)
    array = jnp.asarray(value, dtype)
    if array.ndim and array.shape[-1] == 3 * count:
        return array.reshape(*array.shape[:-1], count, 3)
    if count > 1 and array.shape[-2:] == (count, 3):
        return array
    joints = f" or (..., {count}, 3)" if count > 1 else ""
    raise ValueError(f"{name}: expected shape (..., {3 * count}){joints}, axis-angle in radians; got {array.shape}.")


def moving_rotations(
    body_pose: ArrayLike, global_orient: ArrayLike | None, dtype: jnp.dtype
) -> Float[Array, "*batch 22 3 3"]:
    """Rotation matrices of pelvis and body joints, from axis-angle or matrices."""
    array = jnp.asarray(body_pose, dtype)
    if array.shape[-3:] == (21, 3, 3):
        rotations = array
    elif array.shape[-2:] == (21, 3):
        rotations = axis_angle_to_matrix(array)
    else:
        raise ValueError(f"body_pose: expected (..., 21, 3) axis-angle or (..., 21, 3, 3) matrices, got {array.shape}.")
    batch = rotations.shape[:-3]
    orient = jnp.zeros(3, dtype) if global_orient is None else jnp.asarray(global_orient, dtype)
    if orient.ndim == len(batch) + 2 and orient.shape[-2:] == (3, 3):
        root = orient
    elif 1 <= orient.ndim <= len(batch) + 1 and orient.shape[-1] == 3:
        root = axis_angle_to_matrix(orient)
    else:
        raise ValueError(
            f"global_orient: expected {(*batch, 3)} axis-angle or {(*batch, 3, 3)} matrices to go with"
            f" body_pose of shape {array.shape}, got {orient.shape}."
        )
    return jnp.concatenate([jnp.broadcast_to(root, (*batch, 3, 3))[..., None, :, :], rotations], axis=-3)


def translation(value: ArrayLike | None, dtype: jnp.dtype) -> Float[Array, "*batch 1 3"]:
    """A translation that broadcasts over points; zero for None."""
    array = jnp.zeros(3, dtype) if value is None else jnp.asarray(value, dtype)
    if array.shape[-1:] != (3,):
        raise ValueError(f"transl: expected shape (..., 3), metres; got {array.shape}.")
    return array[..., None, :]


def relaxed_hands(body: Body) -> Float[np.ndarray, "30 3"]:
    """Rotation vectors of the left and then the right hand's fingers at rest; zeros where the file has no mean."""
    means = (body.hands_mean_left, body.hands_mean_right)
    return np.concatenate([np.zeros((15, 3)) if mean is None else np.asarray(mean).reshape(15, 3) for mean in means])
