"""How high the pelvis is: from the capture's translation where there is one, else from the lowest joint.

Heights are of the shipped body, in metres above its pelvis at rest, so that a body stands on the ground whatever legs
the capture had. The ground follows the person upstairs: what counts is the air under the feet, not the storey.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Array, Float
from scipy.ndimage import minimum_filter1d, uniform_filter1d

from md_jax import lbs, rotations
from md_jax.body import Body, load_body
from md_jax.clips import Clip

FEET = (7, 8, 10, 11)  # ankles and balls of the feet
CLEARANCE = 0.08  # metres between any other joint and the ground it rests on
GROUND_SECONDS = 1.0  # the ground is the lowest that a person has been within so long, before and after
LEAST_AIR = 0.02  # metres: what the two skeletons may disagree by


def standing_height(root_orient: Float[np.ndarray, "T 3"], body_pose: Float[np.ndarray, "T 21 3"]) -> np.ndarray:
    """Height (T,) of the pelvis over its height at rest, of a body whose lowest joint touches the ground."""
    body, baked = _body()
    rest = np.asarray(baked.joints)[:22, 1]
    floor = float(np.asarray(body.v_template)[:, 1].min())
    clearance = np.full(22, CLEARANCE)
    clearance[list(FEET)] = rest[list(FEET)] - floor
    joints = rotations.on_host(_joints, body_pose, root_orient, rows=256)
    return -(joints[:, :, 1] - clearance).min(axis=1) + floor


@functools.lru_cache(maxsize=1)
def _body() -> tuple[Body, lbs.BakedBody]:
    body = load_body("free")
    return body, lbs.bake(body)


def _joints(body_pose: Float[Array, "N 21 3"], root_orient: Float[Array, "N 3"]) -> Float[Array, "N 22 3"]:
    return lbs.joints_of(_body()[1], body_pose, root_orient)[:, :22]


def height_of(clip: Clip) -> Float[np.ndarray, "T"]:
    """Height of the pelvis over its height at rest in each frame of a clip, air under the feet included."""
    height = standing_height(clip.root_orient, clip.body_pose)
    if clip.transl is None:
        return height
    air = clip.transl[:, 1] - height
    air = air - minimum_filter1d(air, 2 * round(GROUND_SECONDS * clip.fps) + 1, mode="nearest")
    return height + uniform_filter1d(np.maximum(air - LEAST_AIR, 0.0), 3)


def ground_clips(clips: Sequence[Clip]) -> list[Clip]:
    """The clips with `transl` in the shipped body's measure: the height as above, the path as the capture has it."""
    placed = []
    for clip in clips:
        path = np.zeros((len(clip.body_pose), 3), np.float32) if clip.transl is None else clip.transl.copy()
        path[:, 1] = height_of(clip)
        placed.append(replace(clip, transl=path))
    return placed
