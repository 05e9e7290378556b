"""SMPL-X bodies: the full model (`forward`); a fast path for fixed shape, face and hands (`bake`, `pose`).

Source: Loper et al. 2015 (SMPL); Pavlakos et al. 2019 (SMPL-X). `skinning` has the equations.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from md_jax.body.arguments import axis_angles, expand_hand_pca, moving_rotations, shape_coefficients, translation
from md_jax.body.model import PARENTS, Body
from md_jax.body.rotations import axis_angle_to_matrix
from md_jax.body.skinning import apply, compose, correct, dot, kinematics, pose_features, skin
from md_jax.errors import UserError

__all__ = ["BakedBody", "bake", "expand_hand_pca", "forward", "joints_of", "landmarks", "pose", "select"]

# Joints 0–21 (pelvis, body) move on the fast path; 22–54 (jaw, eyes, fingers) hang rigidly from one of those.
_MOVING = 22
_CARRIER = np.arange(55, dtype=np.int32)
for _joint in range(_MOVING, 55):
    _CARRIER[_joint] = _CARRIER[PARENTS[_joint]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Correctives:
    """What a baked body with pose correctives keeps."""

    template: Float[Array, "3 V"]
    dirs: Float[Array, "189 3*V"]  # of the 21 body joints; the fixed joints' share is in the template
    weights: Float[Array, "B V"]  # B = 22 bones, or all 55 where face or hands are posed
    fixed: Float[Array, "55 3 4"] | None  # each bone relative to the moving bone that carries it, where B = 55


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BakedBody:
    """A body of fixed shape, face and hands, ready for `pose`. A JAX pytree: pass it to jit as argument."""

    joints: Float[Array, "55 3"]  # with face and hands posed and the body at rest
    skin: Float[Array, "88 V"] | None  # (bone, x y z 1) rows: Σ w (posed v̄; 1) over what each of 22 bones carries
    correctives: Correctives | None  # instead of skin


# --- the full model -------------------------------------------------------------------------------------


def forward(
    body: Body,
    *,
    betas: Float[ArrayLike, "*#batch n"] | None = None,
    expression: Float[ArrayLike, "*#batch n"] | None = None,
    global_orient: Float[ArrayLike, "*#batch 3"] | None = None,
    body_pose: Float[ArrayLike, "*#batch 21 3"] | None = None,
    jaw_pose: Float[ArrayLike, "*#batch 3"] | None = None,
    leye_pose: Float[ArrayLike, "*#batch 3"] | None = None,
    reye_pose: Float[ArrayLike, "*#batch 3"] | None = None,
    left_hand_pose: Float[ArrayLike, "*#batch 45"] | None = None,
    right_hand_pose: Float[ArrayLike, "*#batch 45"] | None = None,
    transl: Float[ArrayLike, "*#batch 3"] | None = None,
) -> tuple[Float[Array, "*batch V 3"], Float[Array, "*batch 55 3"]]:
    """Vertices and joints of the full model; what is not given is zero.

    Args:
        body: from `load_body`.
        betas, expression: coefficients of the first n shape and expression directions.
        global_orient: rotation about the pelvis. All rotations are axis-angle in radians, relative to the
            parent joint; several joints may also come flat, (..., 63).
        body_pose, jaw_pose, leye_pose, reye_pose: rotations of joints 1–21, 22, 23 and 24.
        left_hand_pose, right_hand_pose: full hands (`expand_hand_pca` makes them); no hand mean is added.
        transl: metres, added last.

    Returns:
        Vertices and the 55 joints in metres, with the broadcast leading axes of all arguments.

    Raises:
        UserError: more coefficients than the body has directions.
        ValueError: an argument of the wrong shape.
    """
    shape = shape_coefficients(body, betas, expression)
    pose_parts = {
        "global_orient": (global_orient, 1), "body_pose": (body_pose, 21), "jaw_pose": (jaw_pose, 1),
        "leye_pose": (leye_pose, 1), "reye_pose": (reye_pose, 1), "left_hand_pose": (left_hand_pose, 15),
        "right_hand_pose": (right_hand_pose, 15),
    }  # fmt: skip
    dtype = body.v_template.dtype
    parts = [axis_angles(name, value, count, dtype) for name, (value, count) in pose_parts.items()]
    shift = translation(transl, dtype)
    batch = jnp.broadcast_shapes(*(x.shape[:-1] for x in shape), *(x.shape[:-2] for x in parts), shift.shape[:-2])
    full_pose = jnp.concatenate([jnp.broadcast_to(x, (*batch, *x.shape[-2:])) for x in parts], axis=-2)
    vertices, joints = _forward(body, *shape, full_pose)
    return vertices + shift, joints + shift


@jax.jit
def _forward(body: Body, betas: Array, expression: Array, full_pose: Array) -> tuple[Array, Array]:
    batch = full_pose.shape[:-2]
    shaped, joints = _shaped(body, betas, expression)  # (*shape batch, V, 3), (*shape batch, 55, 3)
    rotations = axis_angle_to_matrix(full_pose.reshape(-1, 55, 3))
    if joints.ndim > 2:  # one shape a pose; otherwise a single shape serves all poses
        shaped = jnp.broadcast_to(shaped, (*batch, *shaped.shape[-2:])).reshape(-1, *shaped.shape[-2:])
        joints = jnp.broadcast_to(joints, (*batch, 55, 3)).reshape(-1, 55, 3)
    if body.posedirs is not None:
        shaped = shaped + correct(pose_features(rotations), body.posedirs).reshape(-1, *shaped.shape[-2:])
    transforms = kinematics(rotations, joints, body.parents)
    vertices = skin(transforms, body.weights.T, jnp.swapaxes(shaped, -1, -2))
    posed = apply(transforms, joints)
    return vertices.reshape(*batch, -1, 3), posed.reshape(*batch, 55, 3)


def landmarks(body: Body, vertices: Float[Array, "*batch V 3"]) -> Float[Array, "*batch L 3"]:
    """The 51 face landmarks that do not depend on the view (brows, nose, eyes, mouth), in metres.

    Raises:
        UserError: the body's file has none.
    """
    if body.landmark_triangles is None or body.landmark_barycentric is None:
        raise UserError("this body's file holds no face landmarks (lmk_faces_idx, lmk_bary_coords).")
    corners = vertices[..., body.triangles[body.landmark_triangles], :]  # (*batch, L, 3, 3)
    return jnp.sum(corners * body.landmark_barycentric[..., None], axis=-2)


def _shaped(
    body: Body, betas: Array, expression: Array
) -> tuple[Float[Array, "*batch V 3"], Float[Array, "*batch 55 3"]]:
    """The shaped rest mesh and its joints."""
    shaped = body.v_template
    for coefficients, dirs in ((betas, body.shapedirs), (expression, body.exprdirs)):
        n = coefficients.shape[-1]
        if n:
            offsets = dot(coefficients, dirs[:, :, :n].reshape(-1, n).T)
            shaped = shaped + offsets.reshape(*coefficients.shape[:-1], *body.v_template.shape)
    return shaped, dot(body.J_regressor, shaped)


# --- the fast path --------------------------------------------------------------------------------------


def bake(
    body: Body,
    *,
    betas: Float[ArrayLike, "n"] | None = None,
    expression: Float[ArrayLike, "n"] | None = None,
    jaw_pose: Float[ArrayLike, "3"] | None = None,
    leye_pose: Float[ArrayLike, "3"] | None = None,
    reye_pose: Float[ArrayLike, "3"] | None = None,
    left_hand_pose: Float[ArrayLike, "45"] | None = None,
    right_hand_pose: Float[ArrayLike, "45"] | None = None,
) -> BakedBody:
    """Fold everything that stays fixed into a body that `pose` moves fast; nothing is approximated.

    Args:
        body: from `load_body`.
        betas, expression, jaw_pose, leye_pose, reye_pose, left_hand_pose, right_hand_pose: as in `forward`,
            for one body (no batch axes). Leaving out all of face and hands, instead of passing zeros, makes a
            body with pose correctives faster still.

    Raises:
        UserError, ValueError: as in `forward`.
    """
    shape = shape_coefficients(body, betas, expression)
    given = (jaw_pose, leye_pose, reye_pose, left_hand_pose, right_hand_pose)
    names = ("jaw_pose", "leye_pose", "reye_pose", "left_hand_pose", "right_hand_pose")
    parts = [
        axis_angles(name, x, 15 if "hand" in name else 1, body.v_template.dtype)
        for name, x in zip(names, given, strict=True)
    ]
    for name, array in zip(("betas", "expression", *names), (*shape, *parts), strict=True):
        if array.ndim > 2 or (array.ndim > 1 and name in ("betas", "expression")):
            raise ValueError(f"bake takes one body: {name} should have no batch axes, got shape {array.shape}.")
    rest = all(x is None for x in given)
    return _bake(body, *shape, None if rest else jnp.concatenate(parts))


@jax.jit
def _bake(body: Body, betas: Array, expression: Array, fixed_pose: Float[Array, "33 3"] | None) -> BakedBody:
    shaped, joints = _shaped(body, betas, expression)
    moving = jnp.zeros((_MOVING, 3), shaped.dtype)
    full_pose = jnp.concatenate([moving, jnp.zeros((33, 3), shaped.dtype) if fixed_pose is None else fixed_pose])
    rotations = axis_angle_to_matrix(full_pose)[None]
    if body.posedirs is not None and fixed_pose is not None:
        shaped = shaped + correct(pose_features(rotations), body.posedirs).reshape(-1, 3)
    fixed = kinematics(rotations, joints, body.parents)[0]  # the moving joints' are the identity
    joints = apply(fixed, joints)
    carried = jnp.asarray(np.arange(_MOVING)[:, None] == _CARRIER, shaped.dtype)  # (22, 55) of 0 and 1
    weights = body.weights.T
    if body.posedirs is None:
        ones = jnp.ones((1, shaped.shape[0]), shaped.dtype)
        points = jnp.concatenate(
            [dot(fixed, jnp.concatenate([shaped.T, ones])), jnp.broadcast_to(ones, (55, *ones.shape))], axis=1
        )
        rows = jnp.einsum("ab,blv->alv", carried, weights[:, None] * points, precision="highest")
        return BakedBody(joints, rows.reshape(4 * _MOVING, -1), None)
    dirs = jnp.swapaxes(body.posedirs[:189].reshape(189, -1, 3), 1, 2).reshape(189, -1)
    if fixed_pose is None:
        return BakedBody(joints, None, Correctives(shaped.T, dirs, dot(carried, weights), None))
    return BakedBody(joints, None, Correctives(shaped.T, dirs, weights, fixed))


@jax.jit
def select(baked: BakedBody, vertices: Int[np.ndarray, "N"]) -> BakedBody:
    """The same body with only some of its vertices, in the order given: `pose` moves them as it moves the whole.

    Args:
        baked: from `bake`; its joints stay the whole's.
        vertices: their indices.
    """
    if baked.correctives is None:
        assert baked.skin is not None
        return BakedBody(baked.joints, baked.skin[:, vertices], None)
    fold = baked.correctives
    dirs = fold.dirs.reshape(len(fold.dirs), 3, -1)[:, :, vertices].reshape(len(fold.dirs), -1)
    some = Correctives(fold.template[:, vertices], dirs, fold.weights[:, vertices], fold.fixed)
    return BakedBody(baked.joints, None, some)


def pose(
    baked: BakedBody,
    body_pose: Float[ArrayLike, "*batch 21 3"] | Float[ArrayLike, "*batch 21 3 3"],
    global_orient: Float[ArrayLike, "*#batch 3"] | Float[ArrayLike, "*batch 3 3"] | None = None,
    transl: Float[ArrayLike, "*#batch 3"] | None = None,
) -> Float[Array, "*batch V 3"]:
    """Vertices of a baked body; equal to `forward`.

    Args:
        baked: from `bake`.
        body_pose: rotations of joints 1–21 relative to their parents, axis-angle in radians or matrices.
        global_orient: rotation about the pelvis. Matrices must have body_pose's batch axes: (3, 3) beside a
            batch reads as three rotation vectors; axis-angle may have fewer.
        transl: metres, added last.

    Returns:
        Vertices in metres.

    Raises:
        ValueError: an argument of the wrong shape.
    """
    return _pose(baked, *_arrays(body_pose, global_orient, transl))


def _arrays(*values: ArrayLike | None) -> list[Array | None]:
    return [None if value is None else jnp.asarray(value) for value in values]


# With its preparations one program: each by itself would be compiled, or looked up, for every shape.
@jax.jit
def _pose(baked: BakedBody, body_pose: Array, global_orient: Array | None, transl: Array | None) -> Array:
    rotations = moving_rotations(body_pose, global_orient, baked.joints.dtype)
    batch = rotations.shape[:-3]
    rotations = rotations.reshape(-1, _MOVING, 3, 3)
    transforms = kinematics(rotations, baked.joints[:_MOVING], PARENTS[:_MOVING])
    if baked.correctives is None:
        assert baked.skin is not None
        rows = jnp.swapaxes(transforms, 1, 2).reshape(-1, 4 * _MOVING)
        vertices = jnp.swapaxes(dot(rows, baked.skin).reshape(len(rotations), 3, -1), 1, 2)
    else:
        fold = baked.correctives
        points = correct(pose_features(rotations), fold.dirs).reshape(-1, *fold.template.shape) + fold.template
        if fold.fixed is not None:
            transforms = compose(transforms[:, _CARRIER], fold.fixed)
        vertices = skin(transforms, fold.weights, points)
    vertices = vertices.reshape(*batch, -1, 3)
    return vertices if transl is None else vertices + translation(transl, vertices.dtype)


def joints_of(
    baked: BakedBody,
    body_pose: Float[ArrayLike, "*batch 21 3"] | Float[ArrayLike, "*batch 21 3 3"],
    global_orient: Float[ArrayLike, "*#batch 3"] | Float[ArrayLike, "*batch 3 3"] | None = None,
    transl: Float[ArrayLike, "*#batch 3"] | None = None,
) -> Float[Array, "*batch 55 3"]:
    """The 55 joints of a baked body in metres; arguments as in `pose`."""
    return _joints_of(baked, *_arrays(body_pose, global_orient, transl))


@jax.jit
def _joints_of(baked: BakedBody, body_pose: Array, global_orient: Array | None, transl: Array | None) -> Array:
    rotations = moving_rotations(body_pose, global_orient, baked.joints.dtype)
    transforms = kinematics(rotations, baked.joints[:_MOVING], PARENTS[:_MOVING])
    joints = apply(transforms[..., _CARRIER, :, :], baked.joints)
    return joints if transl is None else joints + translation(transl, joints.dtype)
