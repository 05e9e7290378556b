"""The pelvis's height: feet on the ground whatever the pose, air under them where the capture saw it."""

import numpy as np
import pytest

from md_jax.clips import Clip, load_clips
from md_jax.grounding import ground_clips, height_of, standing_height
from md_jax.windows import cut_windows


def clip_of(body_pose, transl=None):
    root = np.zeros((len(body_pose), 3), np.float32)
    return Clip("a", "waving", "a", "made up", 30.0, np.float32(body_pose), root, transl)


def crouching(frames, angle):
    """Thighs raised and knees bent by the same angle: the feet stay level and come up."""
    pose = np.zeros((frames, 21, 3), np.float32)
    pose[:, 0:2, 0], pose[:, 3:5, 0] = -np.asarray(angle)[..., None], np.asarray(angle)[..., None]
    return pose


def test_a_body_at_rest_stands_and_one_that_crouches_comes_down():
    pose = crouching(2, np.array([0.0, 1.0]))
    height = standing_height(np.zeros((2, 3), np.float32), pose)
    assert height[0] == pytest.approx(0.0, abs=1e-4)
    # the thigh (0.38 m) turns by a radian and the shin stays upright
    assert height[1] == pytest.approx(-0.38 * (1 - np.cos(1.0)), abs=0.02)


def test_air_counts_and_storeys_do_not():
    t = np.arange(90) / 30
    flight = 0.4 * np.maximum(0, 1 - ((t - 1.5) / 0.25) ** 2)
    jump = np.stack([0 * t, 0.9 + flight, 0 * t], axis=1).astype(np.float32)
    height = height_of(clip_of(np.zeros((90, 21, 3)), jump))
    assert height.max() == pytest.approx(0.38, abs=0.03) and np.abs(height[:30]).max() < 1e-4
    stairs = np.stack([0 * t, 0.9 + 0.2 * t, 0 * t], axis=1).astype(np.float32)
    assert height_of(clip_of(np.zeros((90, 21, 3)), stairs)).max() < 0.2  # 0.6 m up in three seconds


def test_windows_with_the_height_alone_stay_where_they_are():
    path = np.stack([np.linspace(0, 3, 40), np.linspace(0.9, 1.0, 40), np.linspace(0, 1, 40)], axis=1)
    (placed,) = ground_clips([clip_of(np.zeros((40, 21, 3)), path.astype(np.float32))])
    cut = cut_windows([placed], np.array([0]), np.array([0.1]), frames=8, fps=10, root="height")
    assert not cut.transl[..., [0, 2]].any() and np.ptp(cut.transl[..., 1]) > 0


def test_shipped_jumps_leave_the_ground_and_shipped_walks_do_not():
    clips = load_clips(actions=["jumping", "walking"])
    jumps = [height_of(c).max() for c in clips if c.action == "jumping" and c.transl is not None]
    walks = [height_of(c) for c in clips if c.action == "walking"][:10]
    assert min(jumps) > 0.15
    assert all(abs(np.median(walk)) < 0.1 and np.ptp(walk) < 0.25 for walk in walks)
