"""What can be said of a motion without a reference: how much, how fast and smoothly it moves, what a prior says of it.

Positions are in metres, rates in frames a second. Functions take any leading batch axes where that costs nothing.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.body import lbs, rotations
from md_jax.body.model import BODY_JOINTS, Body, load_body
from md_jax.control.losses import APART, LIMBS, radii_of
from md_jax.mocap.joints import joints, matrices, rest_joints
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import PoseStatistics, load_statistics
from md_jax.mocap.windows import evenly
from md_jax.prompts.checks import check_prompt, texts_for_prior
from md_jax.prompts.vocabulary import words_of_prior
from md_jax.run import torch_side

# Pairs of limbs that may be inside each other, beside those that --avoid keeps apart.
_PAIRS = (*APART, ("left shank", "torso"), ("right shank", "torso"))
_POINTS = 9  # a capsule's axis is sampled at so many points
FEET = (10, 11)  # joints at the balls of the feet
CONTACT_HEIGHT = 0.05  # metres above the ground within which a foot stands


@functools.lru_cache(maxsize=1)
def free_body() -> tuple[Body, lbs.BakedBody]:
    """The shipped body: motions are compared on one body, whatever they were made with."""
    return load_body(), lbs.bake(load_body())


def speed(points: Float[np.ndarray, "*N F P 3"], fps: float) -> Float[np.ndarray, "*N"]:
    """Mean speed of the points, m/s."""
    return np.linalg.norm(np.diff(points, axis=-3), axis=-1).mean(axis=(-1, -2)) * fps


def jerk(points: Float[np.ndarray, "*N F P 3"], fps: float) -> Float[np.ndarray, "*N"]:
    """Mean norm of the third time derivative, m/s³ (NaN for fewer than four frames)."""
    if points.shape[-3] < 4:
        return np.full(points.shape[:-3], np.nan)
    return np.linalg.norm(np.diff(points, n=3, axis=-3), axis=-1).mean(axis=(-1, -2)) * fps**3


def range_of_motion(body_pose: Float[np.ndarray, "F 21 3"]) -> float:
    """Mean over the joints of the largest angle between any two of its orientations, degrees."""
    some = body_pose[evenly(len(body_pose), 200)]
    quaternion = rotations.on_host(rotations.axis_angle_to_quaternion, np.asarray(some, np.float32), rows=256)
    cosine = np.abs(np.einsum("akq,bkq->kab", quaternion, quaternion)).clip(max=1)
    return float(np.degrees(2 * np.arccos(cosine.min(axis=(1, 2)))).mean())


def tilt(root_orient: Float[np.ndarray, "F 3"]) -> float:
    """Largest angle between the pelvis's own up and the vertical, degrees: 180 is upside down."""
    up = matrices(np.asarray(root_orient, np.float32))[:, :, 1]
    return float(np.degrees(np.arccos(up[:, 1].clip(-1, 1))).max())


def periodicity(points: Float[np.ndarray, "F P 3"], fps: float, shortest: float = 0.3) -> tuple[float, float]:
    """How well a motion repeats itself, and after how many seconds.

    The best correlation, in [-1, 1], between the motion (its mean removed) and itself shifted by at least `shortest`
    seconds and at most two thirds of its length.

    Returns:
        (correlation, period in seconds); (0, NaN) for a motion that is too short or still.
    """
    moving = points - points.mean(axis=0)
    best = (0.0, float("nan"))
    for lag in range(max(round(shortest * fps), 1), int(len(points) * 2 / 3) + 1):
        a, b = moving[:-lag], moving[lag:]
        scale = np.sqrt((a**2).sum() * (b**2).sum())
        correlation = float((a * b).sum() / scale) if scale > 1e-8 else 0.0
        if correlation > best[0]:
            best = (correlation, lag / fps)
    return best


def pose_deviation(body_pose: Float[np.ndarray, "F 21 3"], statistics: PoseStatistics) -> float:
    """Root mean square of the pose in standard deviations from the mean of real poses.

    Real poses give about 1. It is the pose's negative log-likelihood under independent Gaussians, up to constants.
    """
    pose = np.asarray(body_pose, np.float32)
    near = rotations.on_host(
        rotations.nearest_axis_angle, pose, np.broadcast_to(statistics.body_mean, pose.shape), rows=256
    )
    return float(np.sqrt((((near - statistics.body_mean) / statistics.body_std) ** 2).mean()))


# --- self penetration -------------------------------------------------------------------------------------------


@functools.cache
def _radii() -> dict[str, float]:
    """Radii of the limbs of the shipped body (m)."""
    return dict(zip(LIMBS, radii_of(load_body()).tolist(), strict=True))


def self_penetration(points: Float[np.ndarray, "*F 21 3"]) -> Float[np.ndarray, "*F"]:
    """How deep limbs are inside each other or the trunk: the sum over pairs of capsules, metres.

    Capsules stand for the trunk, the head and the limbs of the shipped body; neighbours that always touch are left out.

    Args:
        points: positions of the 21 body joints about the pelvis, as `joints` gives them.
    """
    skeleton = np.concatenate([np.broadcast_to(rest_joints()[0], (*points.shape[:-2], 1, 3)), points], axis=-2)
    share = np.linspace(0, 1, _POINTS)[:, None]
    ends = {name: [skeleton[..., BODY_JOINTS.index(end), None, :] for end in limb] for name, limb in LIMBS.items()}
    axes = {name: start * (1 - share) + end * share for name, (start, end) in ends.items()}
    radii, depth = _radii(), np.zeros(points.shape[:-2])
    for first, second in _PAIRS:
        gaps = np.linalg.norm(axes[first][..., :, None, :] - axes[second][..., None, :, :], axis=-1)
        depth += (radii[first] + radii[second] - gaps.min(axis=(-1, -2))).clip(min=0)
    return depth


# --- contact with the ground ------------------------------------------------------------------------------------


def ground_contact(
    vertices: Float[np.ndarray, "F V 3"], feet: Float[np.ndarray, "F 2 3"], fps: float
) -> tuple[float, float]:
    """Foot skate and ground penetration of a motion that has a translation.

    The ground is taken at the median height of the body's lowest vertex.

    Returns:
        (mean horizontal speed in m/s of a foot that stands, NaN if none does; mean depth in metres of the lowest vertex
        below the ground).
    """
    lowest = vertices[..., 1].min(axis=1)
    ground = np.median(lowest)
    clearance = feet[..., 1] - feet[..., 1].min()
    stands = (clearance[1:] < CONTACT_HEIGHT) & (clearance[:-1] < CONTACT_HEIGHT)
    horizontal = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * fps
    skate = float(horizontal[stands].mean()) if stands.any() else float("nan")
    return skate, float((ground - lowest).clip(min=0).mean())


# --- all of them -------------------------------------------------------------------------------------------------


def reference_free(motion: Motion) -> dict[str, float | None]:
    """Range of motion, tilt, periodicity, self penetration, deviation from usual poses, and contact with the ground.

    Foot skate and ground penetration need a translation: None where there is none.
    """
    points = joints(motion.body_pose)
    correlation, period = periodicity(points, motion.fps)
    values: dict[str, float | None] = {
        "range_of_motion_degrees": range_of_motion(motion.body_pose),
        "tilt_degrees": tilt(motion.root_orient),
        "periodicity": correlation,
        "period_seconds": None if math.isnan(period) else period,
        "self_penetration_metres": float(self_penetration(points).mean()),
        "pose_deviation": pose_deviation(motion.body_pose, load_statistics("generic")),
        "foot_skate_metres_per_second": None,
        "ground_penetration_metres": None,
    }
    if np.ptp(motion.transl, axis=0).max() > 1e-4:
        _, baked = free_body()
        where = jnp.asarray(motion.body_pose), jnp.asarray(motion.root_orient), jnp.asarray(motion.transl)
        vertices = np.concatenate([
            np.asarray(lbs.pose(baked, *(x[i : i + 100] for x in where))) for i in range(0, len(points), 100)
        ])  # fmt: skip
        feet = np.asarray(lbs.joints_of(baked, *where))[:, FEET, :]
        skate, depth = ground_contact(vertices, feet, motion.fps)
        values["foot_skate_metres_per_second"] = None if math.isnan(skate) else skate
        values["ground_penetration_metres"] = depth
    return {name: value if value is None else round(value, 4) for name, value in values.items()}


def prompt_losses(
    body_pose: Float[np.ndarray, "M F 21 3"], prompts: Sequence[str], *, name: str = "embedded", path: str = ""
) -> Float[np.ndarray, "M P"]:
    """Mean squared error with which the prior denoises each motion under each prompt (`bridge.distill.prompt_losses`).

    Args:
        body_pose: motions at the prior's rate and frame count; the root is not turned.
        prompts: sentences that the prior knows.
        name, path: the prior, as in --prior and --prior_path.

    Raises:
        UserError: the prior cannot be loaded, takes other clips, or does not know a prompt.
    """
    words = words_of_prior(name, path)
    for prompt in prompts:
        check_prompt(prompt, words.actions)
    torch_side.start("auto")
    body, baked = free_body()
    vertices = lbs.pose(baked, jnp.asarray(body_pose))
    texts = [texts_for_prior(prompt, words.actions, manner=words.manner) for prompt in prompts]
    return torch_side.prompt_losses(name, path, body, vertices, texts)
