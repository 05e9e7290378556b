"""What training captions say of a window beside its action: its moment, how fast it is, which hand or foot, which way.

Moments: a denoiser that hears only "walking" must answer with the mean over all phases of a walk, and at high noise
that mean stands still. So the windows of each action fall into moments, groups that look alike (k-means of joint
positions): of a walk they are its phases, of other actions its phases and ways. A caption names one: "walking, moment
3".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.cluster.vq import kmeans2
from scipy.spatial.transform import Rotation

from md_jax.evaluate import measures
from md_jax.mocap.windows import Windows

LEAST, MANY, MOST = 4, 24, 48  # moments of an action: two a second up to MANY, then one for each FOUR seconds
FOUR = 4.0
COMPONENTS = 24  # principal components of a window that k-means sees
SLOWLY, QUICKLY = 0.8, 1.25  # speed of a window over the median of its action
TURN = np.radians(25.0)  # of the root within a window
ONE_SIDED = 1.5  # movement of one hand or foot over that of the other
WRISTS, ANKLES = (19, 20), (6, 7)  # left, right, among the 21 body joints
# actions that people do with one hand or foot; the side of a walking window would be that of a half step
HANDS = {"punching", "swordplay", "washwindow", "directing_traffic", "drinking", "scooping", "sparring", "basketball",
         "basketball_signal", "jump_and_reach", "stretching", "laughing"}  # fmt: skip
FEET = {"soccer", "kicking", "hopping"}


def seen(windows: Windows) -> Float[np.ndarray, "N F 21 3"]:
    """Joints in metres as a camera sees them that goes along with the root: turned, and at their height."""
    joints = measures.joints(windows.body_pose, windows.root_orient)
    return joints + windows.transl[..., None, :] * (0, 1, 0)


def moment_count(seconds: float) -> int:
    """Moments of an action of which so many seconds are known."""
    return int(np.clip(round(min(2 * seconds, max(MANY, seconds / FOUR))), LEAST, MOST))


def moments_of(windows: Windows, known: np.ndarray, count: int, seed: int) -> Int[np.ndarray, "N"]:
    """The moment of each window of one action, 1 … count.

    Args:
        windows: of one action.
        known: (N,) bool: those that moments are made of, the training side.
        count: of moments.
        seed: of k-means.
    """
    flat = seen(windows).reshape(len(known), -1)
    centred = flat - flat[known].mean(axis=0)
    axes = np.linalg.svd(centred[known], full_matrices=False)[2][:COMPONENTS]
    points = centred @ axes.T
    centres, _ = kmeans2(points[known], count, iter=40, minit="++", seed=seed)
    return 1 + np.argmin(np.square(points[:, None] - centres).sum(axis=-1), axis=1)


def manners(windows: Windows, names: Sequence[str], known: np.ndarray, fps: float) -> list[str]:
    """ "slowly", "quickly" or nothing, by the speed of each window over the median of its action's training side."""
    speed, owner = measures.speed(seen(windows), fps), np.asarray(names)
    median = {name: np.median(speed[known & (owner == name)]) for name in set(names)}
    ratio = [value / median[name] for value, name in zip(speed, names, strict=True)]
    return ["slowly" if r < SLOWLY else "quickly" if r > QUICKLY else "" for r in ratio]


def sides(windows: Windows, names: Sequence[str]) -> list[str]:
    """ "with the left hand" and so on, where one hand or foot moves clearly more and the action is one for it."""
    joints = measures.joints(windows.body_pose)
    moved = np.sqrt(joints.var(axis=1).sum(axis=-1))
    said = []
    for name, row in zip(names, moved, strict=True):
        pair, what = (ANKLES, "foot") if name in FEET else (WRISTS, "hand")
        left, right = row[list(pair)]
        side = "left" if left > ONE_SIDED * right else "right" if right > ONE_SIDED * left else ""
        said.append(f"with the {side} {what}" if side and name in HANDS | FEET else "")
    return said


def turns(windows: Windows) -> list[str]:
    """ "turning left" or "turning right", by the heading of the last frame beside the first."""
    heading = Rotation.from_rotvec(windows.root_orient[:, -1]).as_matrix()[:, :, 2]
    yaw = np.arctan2(heading[:, 0], heading[:, 2])  # +x is the body's left
    upright = np.abs(heading[:, 1]) < 0.7  # who tips over has no heading
    return ["turning left" if y > TURN and up else "turning right" if y < -TURN and up else ""
            for y, up in zip(yaw, upright, strict=True)]  # fmt: skip
