"""How fast a body goes: captured motion that the network has not seen, and what must not change what it says."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from md_jax.ground import gait
from md_jax.mocap.clips import moving_clips, split_clips
from md_jax.mocap.motion import Motion, resample


def held_out(action):
    clip = max((c for c in split_clips(moving_clips(), 0.2).held_out if c.action == action), key=lambda c: c.duration)
    return Motion(clip.body_pose, clip.root_orient, clip.transl, clip.fps)


def mean_of(motion):
    return gait.velocity(motion).mean(axis=0)


@pytest.mark.parametrize(("action", "within"), [("walking", 0.25), ("running", 0.6), ("sitting_down", 0.2)])
def test_a_captured_body_goes_as_fast_as_it_went(action, within):
    motion = held_out(action)
    true = np.diff(motion.transl[:, [0, 2]], axis=0).mean(axis=0) * motion.fps
    assert np.linalg.norm(mean_of(motion) - true) < within, (mean_of(motion), true)


def test_translation_is_not_read_and_frames_may_be_of_any_rate():
    motion = held_out("walking")
    found = mean_of(motion)
    np.testing.assert_array_equal(mean_of(dataclasses.replace(motion, transl=0 * motion.transl)), found)
    assert np.linalg.norm(mean_of(resample(motion, 60.0)) - found) < 0.1


def test_who_heads_another_way_goes_that_way():
    motion = held_out("walking")
    turn = Rotation.from_euler("y", 2.0)
    turned = (turn * Rotation.from_rotvec(motion.root_orient)).as_rotvec().astype(np.float32)
    x, z = gait.velocity(motion).T
    expected = turn.apply(np.stack([x, 0 * x, z], axis=1))[:, [0, 2]]
    np.testing.assert_allclose(gait.velocity(dataclasses.replace(motion, root_orient=turned)), expected, atol=1e-3)


def test_who_stands_still_stays():
    rest = Motion(np.zeros((20, 21, 3), np.float32), np.zeros((20, 3), np.float32), np.zeros((20, 3)), 30.0)
    assert np.linalg.norm(mean_of(rest)) < 0.25


def test_features_are_joints_a_tenth_of_a_second_apart():
    """A slow twin: a loop over frames, which interpolates and turns one joint at a time."""
    rng = np.random.default_rng(0)
    points, heading, fps = rng.normal(size=(9, 21, 3)), rng.uniform(-3, 3, 9), 24.0
    found = gait.features(points, heading, fps)
    for frame in (0, 4, 8):
        rows = []
        for apart in (-0.1, 0.0, 0.1):
            at = min(max(frame + apart * fps, 0), 8)
            seen = [[np.interp(at, np.arange(9), points[:, j, a]) for a in range(3)] for j in range(21)]
            rows.append(Rotation.from_euler("y", -heading[frame]).apply(seen))
        np.testing.assert_allclose(found[frame], np.ravel(rows), atol=1e-5)
