"""Losses of poses: smoothness; and what is asked of a motion beside its sentence, of its joints, in square cm."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from md_jax.body.model import BODY_JOINTS, Body

SQUARE_CM = 1e4  # square centimetres in a square metre
SAMPLES = 5  # points along the axis of a limb

# Limbs as capsules from one joint to another, and the pairs of them that should not be inside each other.
LIMBS = {
    "torso": ("pelvis", "neck"),
    "head": ("neck", "head"),
    "left forearm": ("left_elbow", "left_wrist"),
    "right forearm": ("right_elbow", "right_wrist"),
    "left thigh": ("left_hip", "left_knee"),
    "right thigh": ("right_hip", "right_knee"),
    "left shank": ("left_knee", "left_ankle"),
    "right shank": ("right_knee", "right_ankle"),
}
APART = (
    ("left forearm", "torso"), ("right forearm", "torso"), ("left forearm", "head"), ("right forearm", "head"),
    ("left forearm", "right forearm"), ("left forearm", "left thigh"), ("right forearm", "right thigh"),
    ("left forearm", "right thigh"), ("right forearm", "left thigh"), ("left shank", "right shank"),
    ("left shank", "right thigh"), ("right shank", "left thigh"),
)  # fmt: skip


class Pins(NamedTuple):
    """Places of joints at times; metres, y up from the floor, z ahead of the body, x to its left."""

    tau: Float[Array, "P"]  # frame indices, whole or in between
    joint: Int[Array, "P"]  # of the 55
    place: Float[Array, "P 3"]


class Keys(NamedTuple):
    """Whole poses at times."""

    tau: Float[Array, "K"]
    joints: Float[Array, "K 22 3"]  # metres, about a pelvis that is not turned


class Path(NamedTuple):
    """Where the pelvis is above the ground at times."""

    tau: Float[Array, "Q"]
    place: Float[Array, "Q 2"]  # x and z, metres


def pinned(joints: Float[Array, "*M P 55 3"], floor: Float[Array, "*M"], pins: Pins) -> Float[Array, "*M"]:
    """Mean squared distance of the pinned joints from their places.

    Args:
        joints: at the times of the pins, metres.
        floor: height of the floor under the body, metres.
        pins: what is asked for.
    """
    found = joints[..., jnp.arange(len(pins.joint)), pins.joint, :]
    found = found - floor[..., None, None] * jnp.array([0.0, 1.0, 0.0])
    return SQUARE_CM * jnp.square(found - pins.place).sum(axis=-1).mean(axis=-1)


def posed(joints: Float[Array, "*M K 55 3"], keys: Keys) -> Float[Array, "*M"]:
    """Mean squared distance of the 22 body joints from those of the key poses, both about a pelvis not turned.

    A pose is asked for, not where the body faces: a root that turns or tilts meets it as well as one that does not.
    """
    found = joints[..., :22, :] - joints[..., :1, :]
    return SQUARE_CM * jnp.square(found - keys.joints).sum(axis=-1).mean(axis=(-1, -2))


def on_path(joints: Float[Array, "*M Q 55 3"], path: Path) -> Float[Array, "*M"]:
    """Mean squared distance, on the ground, of the pelvis from its path; both begin at the origin."""
    ground = joints[..., 0, :][..., jnp.array([0, 2])]
    apart = (ground - ground[..., :1, :]) - (path.place - path.place[:1])
    return SQUARE_CM * jnp.square(apart).sum(axis=-1).mean(axis=-1)


def inside_itself(joints: Float[Array, "*M F 55 3"], radii: Float[Array, "L"]) -> Float[Array, "*M"]:
    """How deep limbs are inside each other or the trunk: squared depths, summed over pairs, mean over frames.

    Args:
        joints: of all frames, metres.
        radii: of the capsules in `LIMBS`, metres (`radii_of`).
    """
    share = jnp.linspace(0, 1, SAMPLES)[:, None]
    number = {name: k for k, name in enumerate(LIMBS)}
    axes = []
    for start, end in LIMBS.values():
        a, b = (joints[..., BODY_JOINTS.index(name), :][..., None, :] for name in (start, end))
        axes.append(a * (1 - share) + b * share)
    total = jnp.zeros(joints.shape[:-2])
    for one, other in APART:
        i, j = number[one], number[other]
        square = jnp.square(axes[i][..., :, None, :] - axes[j][..., None, :, :]).sum(axis=-1).min(axis=(-1, -2))
        total += jnp.square(jax.nn.relu(radii[i] + radii[j] - jnp.sqrt(square + 1e-8)))
    return SQUARE_CM * total.mean(axis=-1)


def radii_of(body: Body) -> Float[np.ndarray, "L"]:
    """Radii of a body's limbs at rest: the median distance of a limb's own vertices from its axis, metres."""
    vertices = np.asarray(body.v_template)
    rest = np.asarray(body.J_regressor) @ vertices
    owner = np.asarray(body.weights).argmax(axis=1)
    radii = []
    for name, (start, end) in LIMBS.items():
        a, b = BODY_JOINTS.index(start), BODY_JOINTS.index(end)
        own = vertices[np.isin(owner, (0, 3, 6, 9) if name == "torso" else (b,) if name == "head" else (a,))]
        axis = rest[b] - rest[a]
        along = ((own - rest[a]) @ axis / (axis @ axis)).clip(0, 1)
        radii.append(np.median(np.linalg.norm(own - rest[a] - along[:, None] * axis, axis=1)))
    return np.array(radii, np.float32)


def soles_of(body: Body, within: float = 0.06) -> Int[np.ndarray, "S"]:
    """The vertices of the feet that may touch the floor: those at most `within` metres above the lowest at rest."""
    height = np.asarray(body.v_template)[:, 1]
    return np.flatnonzero(height < height.min() + within)


def smoothness(params: Float[Array, "M F K R"], loop: bool = False) -> Float[Array, "M"]:
    """Sum of squared differences between consecutive frames, per motion; in a loop the first follows the last.

    The paper prints its equation 5, Σ(θ_{i+1} − θ_i), without a norm; as printed it telescopes to the last minus the
    first frame. Its published code squares each difference, and so do we.

    Args:
        params: pose parameters, axis-angle in radians or 6D.

    Source: Janson et al. 2024, eq. 5.
    """
    after = params[:, :1] if loop else params[:, :0]
    return jnp.sum(jnp.square(jnp.diff(params, axis=1, append=after)), axis=(1, 2, 3))
