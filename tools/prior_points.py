"""Where the joints of windows are, the pelvis's turn and height included: what moments and judges compare."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float

from md_jax import lbs, measures, rotations
from md_jax.windows import Windows


def points_of(windows: Windows) -> Float[np.ndarray, "N F 22 3"]:
    """Joints in metres about where the pelvis rests: turned and lifted as the windows say, and not moved along."""
    return points(windows.body_pose, windows.root_orient, windows.transl)


def points(
    body_pose: Float[np.ndarray, "N F 21 3"],
    root_orient: Float[np.ndarray, "N F 3"],
    transl: Float[np.ndarray, "N F 3"],
) -> Float[np.ndarray, "N F 22 3"]:
    """As `points_of`, of arrays."""
    count, frames = body_pose.shape[:2]
    parts = (body_pose.reshape(-1, 21, 3), root_orient.reshape(-1, 3), (transl * [0, 1, 0]).reshape(-1, 3))
    joints = rotations.on_host(_joints, *(part.astype(np.float32) for part in parts), rows=1024)
    return joints.reshape(count, frames, 22, 3)


def _joints(
    body_pose: Float[Array, "N 21 3"], root_orient: Float[Array, "N 3"], transl: Float[Array, "N 3"]
) -> Float[Array, "N 22 3"]:
    baked = measures.free_body()[1]
    return lbs.joints_of(baked, body_pose, root_orient, transl)[:, :22] - baked.joints[0]
