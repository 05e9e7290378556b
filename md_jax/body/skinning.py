"""The numerical core of `lbs`: kinematic chains, skinning and pose correctives as large matrix products.

A bone's transform here takes rest coordinates to posed ones, A = [R | t] with t = J − R J for a bone turning
alone, so a chain is a plain product and skinning is v = Σ_b w_b A_b (v̄; 1). Points are rows (3, V): every
product with a V axis is one large matrix product, and what is left vectorises.

Source: Loper et al. 2015 (SMPL), eqs. 2–10; Pavlakos et al. 2019 (SMPL-X), eqs. 1–4.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def dot(a: Array, b: Array) -> Array:
    """A matrix product in full float32: a GPU's default (TF32) would move vertices by millimetres."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def compose(a: Float[Array, "*#batch 3 4"], b: Float[Array, "*#batch 3 4"]) -> Float[Array, "*batch 3 4"]:
    """The affine maps a ∘ b."""
    product = dot(a[..., :3], b)
    return product + jnp.concatenate([jnp.zeros_like(a[..., :3]), a[..., 3:]], axis=-1)


def apply(transforms: Float[Array, "*#batch 3 4"], points: Float[Array, "*#batch 3"]) -> Float[Array, "*batch 3"]:
    """Each affine map applied to its own point."""
    return dot(transforms[..., :3], points[..., None])[..., 0] + transforms[..., 3]


def kinematics(
    rotations: Float[Array, "*batch J 3 3"], joints: Float[Array, "*#batch J 3"], parents: tuple[int, ...]
) -> Float[Array, "*batch J 3 4"]:
    """Rest-to-posed transforms of all bones from rotations relative to the parents.

    Pointer jumping: a bone that holds the product of its nearest 2ⁿ bones takes that of the bone where it
    ends, so a chain of 12 takes 4 rounds over all joints at once. It compiles faster than a loop over joints.

    Args:
        rotations: one a joint.
        joints: rest positions, metres.
        parents: −1 for the root.
    """
    turned = dot(rotations, joints[..., None])[..., 0]
    transforms = jnp.concatenate([rotations, (joints - turned)[..., None]], axis=-1)
    ends = np.array(parents, np.int32)
    while (ends >= 0).any():
        product = compose(transforms[..., np.maximum(ends, 0), :, :], transforms)
        transforms = jnp.where((ends >= 0)[:, None, None], product, transforms)
        ends = np.where(ends >= 0, ends[np.maximum(ends, 0)], -1)
    return transforms


def pose_features(rotations: Float[Array, "N J 3 3"]) -> Float[Array, "N 9*(J-1)"]:
    """R − I of every joint but the root, the coefficients of the pose correctives (SMPL eq. 9)."""
    return (rotations[:, 1:] - jnp.eye(3, dtype=rotations.dtype)).reshape(len(rotations), -1)


def skin(
    transforms: Float[Array, "N B 3 4"], weights: Float[Array, "B V"], points: Float[Array, "*N 3 V"]
) -> Float[Array, "N V 3"]:
    """Linear blend skinning of rest points."""
    n, bones = transforms.shape[:2]
    # Dense although a vertex has few bones: one matrix product beats gathers several times, also on CPU.
    blended = dot(jnp.moveaxis(transforms, 1, -1).reshape(n * 12, bones), weights).reshape(n, 3, 4, -1)
    x, y, z = (points[..., None, axis, :] for axis in range(3))
    # Written out, because XLA does not vectorise a sum over an axis of three.
    posed = blended[:, :, 0] * x + blended[:, :, 1] * y + blended[:, :, 2] * z + blended[:, :, 3]
    return jnp.swapaxes(posed, 1, 2)


@jax.custom_vjp
def correct(features: Float[Array, "N P"], dirs: Float[Array, "P D"]) -> Float[Array, "N D"]:
    """Displacements features · dirs of the pose correctives, D = 3V."""
    return dot(features, dirs)


def _correct_forward(features: Array, dirs: Array) -> tuple[Array, tuple[Array, Array]]:
    return correct(features, dirs), (features, dirs)


def _correct_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    features, dirs = saved
    # With N small, dirs · gradᵀ streams through dirs nearly twice as fast on CPU as (grad · dirsᵀ)ᵀ. The
    # barrier keeps XLA from turning one into the other.
    grad_features = jax.lax.optimization_barrier(dot(dirs, grad.T)).T
    return grad_features, dot(features.T, grad)


correct.defvjp(_correct_forward, _correct_backward)
