"""Likely poses: unit variance in every direction, a library that covers, and nothing of the held-out side."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.errors import UserError
from md_jax.evaluate.reference import HELD_OUT
from md_jax.mocap.clips import load_clips, moving_clips, split_clips
from md_jax.mocap.poseprior import apart, clips_for, parts_of, pose_prior, prior_clips, rows_of, smoothed, to_poses
from md_jax.mocap.statistics import load_statistics


@pytest.fixture(scope="module")
def baked():
    return lbs.bake(load_body("free"))


def test_apart_takes_the_farthest_each_time():
    points = np.array([0.0, 0.1, 5.0, 9.0, 4.4])[:, None, None] * [[[1.0, 0, 0]]]
    assert apart(points, 4) == [4, 3, 0, 1] or apart(points, 4)[:3] == [4, 3, 0]
    assert sorted(apart(points, 9)) == [0, 1, 2, 3, 4]


def test_an_action_s_poses_have_unit_variance(baked):
    clips = [clip for clip in prior_clips() if clip.action == "swordplay"]
    prior = pose_prior(clips, load_statistics("swordplay"), baked, count=40)
    poses = np.concatenate([clip.body_pose for clip in clips])
    poses = poses[np.unique(np.linspace(0, len(poses) - 1, 600).round().astype(int))]
    white = prior.whitened(poses)
    np.testing.assert_allclose(to_poses(white, prior.mean, prior.axes), poses, atol=1e-3)
    spread = np.sqrt(np.square(white[:, -30:]).mean(axis=0))  # along the widest axes
    np.testing.assert_allclose(spread, 1, atol=0.02)
    assert prior.library.shape == (40, 21, 3)
    turned = (
        Rotation.from_rotvec(prior.library.reshape(-1, 3))
        * Rotation.from_rotvec(np.broadcast_to(prior.mean, prior.library.shape).reshape(-1, 3)).inv()
    )
    assert turned.magnitude().mean() > 0.05


def test_with_a_root_poses_turn_and_rise_and_stay_over_their_place(baked):
    """Standing up from a seat: the pelvis rises by some 40 cm, and the body bends forward and back."""
    clips = [clip for clip in moving_clips() if clip.action == "rising_from_seat"]
    prior = pose_prior(clips, load_statistics("rising_from_seat"), baked, count=60, root="full")
    assert prior.library.shape == (60, 23, 3) and prior.axes.shape == (69, 69)
    body, turned, moved = parts_of(prior.library, "full")
    assert body.shape == (60, 21, 3) and 0.2 < np.ptp(moved[:, 1]) < 1.0 and np.abs(moved[:, [0, 2]]).max() == 0
    assert np.linalg.norm(turned, axis=1).max() > 0.3
    white = prior.whitened(prior.library)
    np.testing.assert_allclose(to_poses(white, prior.mean, prior.axes), prior.library, atol=1e-3)
    assert parts_of(prior.library[:, :22], "orient")[2] is None
    still = pose_prior(clips, load_statistics("rising_from_seat"), baked, count=60)
    assert still.library.shape == (60, 21, 3) and parts_of(still.library, "fixed")[1:] == (None, None)


@pytest.mark.parametrize("root", ["fixed", "orient", "full"])
def test_what_a_camera_sees_is_turned_back(baked, root):
    """Against SciPy, and one camera's view against another's."""
    clips = [clip for clip in moving_clips() if clip.action == "rising_from_seat"]
    prior = pose_prior(clips, load_statistics("rising_from_seat"), baked, count=5, root=root)
    height = np.linspace(0, 0.4, 5).astype(np.float32)
    wanted = prior.library.astype(np.float64)
    joints = {"fixed": np.concatenate([np.zeros((5, 1, 3)), wanted], axis=1), "orient": wanted, "full": wanted[:, :22]}
    turns = Rotation.from_rotvec(joints[root].reshape(-1, 3)).as_matrix().reshape(5, 22, 3, 3)
    for azimuth in (0.0, 2.5):
        seen = turns.copy()
        seen[:, 0] = Rotation.from_euler("y", -azimuth).as_matrix() @ seen[:, 0]
        found = rows_of(prior, seen.astype(np.float32), height, azimuth, root)
        expected = wanted.copy()
        if root == "full":
            expected[:, 22] = height[:, None] * [0, 1, 0]
        np.testing.assert_allclose(found, expected, atol=2e-3)


def test_smoothing_keeps_lines_and_takes_flicker_away():
    """Against plain descent on what it minimises."""
    rng = np.random.default_rng(0)
    line = np.linspace(0, 1, 9)[:, None] * [1.0, -2.0]
    np.testing.assert_allclose(smoothed(line, 5.0), line, atol=1e-6)
    rows = rng.normal(size=(9, 2))
    found = smoothed(rows, 0.3).astype(float)

    def cost(x):
        return np.square(x - rows).sum() + 0.3 * np.square(np.diff(x, n=2, axis=0)).sum()

    assert all(cost(found + 0.01 * rng.normal(size=rows.shape)) > cost(found) for _ in range(50))
    np.testing.assert_allclose(smoothed(rows, 0.0), rows, atol=1e-6)


def test_pooled_poses_are_of_every_action_and_side(baked):
    prior = pose_prior(prior_clips(), load_statistics(), baked, count=64)
    white = prior.whitened(prior.library)
    assert np.isfinite(white).all() and len(np.unique(prior.library.reshape(64, -1), axis=0)) == 64
    assert np.abs(white[:, -1]).max() > 1.5  # they reach far along the widest axis


def test_nothing_of_what_evaluate_holds_out():
    from md_jax.mocap.clips import split_source

    assert {c.name for c in prior_clips()} == {c.name for c in split_source(None, None, HELD_OUT).train}
    assert len(prior_clips()) < len(load_clips())


def test_actions_of_the_moving_capture_have_poses_too(baked):
    held_out = {clip.name for clip in split_clips(moving_clips(), HELD_OUT).held_out if clip.recording}
    clips = clips_for(["sitting_down", "walking"])
    more = [clip for clip in clips if clip.action == "sitting_down"]
    assert more and not {clip.name for clip in more} & held_out
    names = [clip.name for clip in prior_clips()]
    assert [clip.name for clip in clips_for(["walking"])] == names
    assert [clip.name for clip in clips if clip.action != "sitting_down"] == names
    assert len(pose_prior(clips, load_statistics("sitting_down"), baked, count=32, root="full").library) == 32


def test_an_unknown_action_is_named(baked):
    with pytest.raises(UserError, match="no motion capture of 'walking'"):
        pose_prior([], load_statistics("walking"), baked)
