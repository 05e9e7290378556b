"""Windows of real motion: cut, mirrored, turned forward; what they leave out; and fingerprints of clips."""

from dataclasses import replace

import numpy as np
import pytest

from md_jax.errors import UserError
from md_jax.evaluate import measures, reference
from md_jax.mocap.clips import Clip, Split, mirror_clip, split_source
from md_jax.mocap.motion import Motion
from md_jax.mocap.windows import cut_windows, every_window

ACTION = "punching"  # a short one


@pytest.fixture(scope="module")
def split():
    return split_source(None, None, reference.HELD_OUT)


@pytest.fixture(scope="module")
def real(split):
    return reference.make_reference(split, ACTION)


def held_out(split, action=ACTION):
    return [clip for clip in split.held_out if clip.action == action]


def test_windows_are_those_of_the_poses(split, real):
    """Positions interpolated between frames, against poses interpolated on the sphere of rotations."""
    every = every_window(held_out(split), frames=10, fps=10.0, stride=reference.STRIDE)
    joints = measures.joints(every.body_pose)
    joints = joints[measures.speed(joints, 10.0) >= reference.STILL_SPEED]
    np.testing.assert_allclose(real.held_out.joints, joints, atol=2e-3)
    faster = every_window(held_out(split), frames=10, fps=10.0, stride=1 / 30, speed=1.25, mirrored=True)
    apart = np.abs(real.near.joints[:, None, 0] - measures.joints(faster.body_pose)[None, ::20, 0]).max(axis=(2, 3))
    assert apart.min(axis=0).max() < 2e-3  # every one of them is there


def test_a_turning_root_is_that_of_the_windows_and_heads_forward(split):
    clip = max(held_out(split, "walking"), key=lambda c: c.duration)
    one = Split([clip], [clip], {"walking": "recording"})
    turning = reference.make_reference(one, "walking", root="turning")
    every = every_window([clip], frames=10, fps=10.0, stride=reference.STRIDE, root="orient")
    expected = measures.joints(every.body_pose, every.root_orient)
    expected = expected[measures.speed(expected, 10.0) >= reference.STILL_SPEED]
    np.testing.assert_allclose(turning.held_out.joints, expected[: len(turning.held_out)], atol=3e-3)
    turned = replace(clip, root_orient=np.zeros_like(clip.root_orient) + np.float32([0, 2.0, 0]))
    still = reference.make_reference(Split([turned], [turned], {"walking": "recording"}), "walking", root="turning")
    fixed = reference.make_reference(one, "walking")
    np.testing.assert_allclose(still.held_out.joints, fixed.held_out.joints, atol=1e-5)


def test_mirrored_windows_are_those_of_the_mirrored_clip(split, real):
    clips = [mirror_clip(clip) for clip in held_out(split)]
    every = every_window(clips, frames=10, fps=10.0, stride=reference.STRIDE)
    joints = measures.joints(every.body_pose)
    joints = joints[measures.speed(joints, 10.0) >= reference.STILL_SPEED]
    np.testing.assert_allclose(reference.mirrored(real.held_out.joints), joints, atol=2e-3)


def test_every_phase_side_and_speed_is_there_and_nobody_waits(real):
    assert len(real.near) > 6 * 2 * len(real.held_out)
    for windows in (real.held_out, real.others, real.near, real.seen):
        assert measures.speed(windows.joints, 10.0).min() >= reference.STILL_SPEED


def test_sides_do_not_touch(split):
    """Whole recordings, or parts of one that are a second apart."""
    for action in reference.actions_of(split):
        sides = [[c for c in side if c.action == action] for side in split[:2]]
        both = {c.recording for c in sides[0]} & {c.recording for c in sides[1]}
        assert not both or split.how[action] == "time"


def test_an_action_without_a_held_out_window_is_refused(split):
    assert "backflip" not in reference.actions_of(split)
    with pytest.raises(UserError, match="backflip"):
        reference.make_reference(split, "backflip")


def test_other_rates_and_lengths(split):
    longer = reference.make_reference(split, "walking", frames=16)
    assert longer.near.joints.shape[1:] == (16, 21, 3)
    assert "running" not in reference.actions_of(split, frames=16) or longer.frames == 16


def test_a_long_motion_is_judged_by_many_windows_and_a_short_one_is_refused():
    def motion(frames, fps):
        return Motion(np.zeros((frames, 21, 3)), np.zeros((frames, 3)), np.zeros((frames, 3)), fps)

    assert len(reference.windows_of(motion(28, 30.0))) == 1
    assert len(reference.windows_of(motion(16, 10.0))) == 7
    assert len(reference.windows_of(motion(400, 30.0))) == reference.MAX_WINDOWS
    assert reference.windows_of(motion(31, 20.0), frames=16).shape == (1, 16, 21, 3)
    with pytest.raises(UserError, match=r"0\.90 s"):
        reference.windows_of(motion(20, 30.0))


def test_windows_of_a_clip_as_a_motion_are_its_windows(split):
    clip = max(held_out(split, "walking"), key=lambda c: c.duration)
    motion = Motion(clip.body_pose, clip.root_orient, np.zeros((len(clip.body_pose), 3)), clip.fps)
    for root, how in (("fixed", "fixed"), ("turning", "orient")):
        first = cut_windows([clip], np.array([0]), np.array([0.0]), frames=10, fps=10.0, root=how)
        expected = measures.joints(first.body_pose, first.root_orient)
        np.testing.assert_allclose(reference.windows_of(motion, root=root)[:1], expected, atol=1e-4)


def test_a_motion_turns_if_its_root_does():
    still, zeros = np.zeros((5, 21, 3)), np.zeros((5, 3))
    assert not reference.turns(Motion(still, zeros, zeros, 10.0))
    assert not reference.turns(Motion(still, zeros + np.array([0, 1.0, 0]), zeros, 10.0))  # a heading is no turning
    assert reference.turns(Motion(still, zeros + np.array([0.3, 0, 0]), zeros, 10.0))
    assert reference.turns(Motion(still, np.linspace(0, 1, 5)[:, None] * [0, 1.0, 0], zeros, 10.0))


def test_the_fingerprint_knows_poses_names_and_nothing_of_the_order(split):
    clips = split.held_out[:4]
    known = reference.digest_of(clips)
    assert reference.digest_of(clips[::-1]) == known
    assert reference.digest_of(clips[:3]) != known

    def changed(**what):
        return reference.digest_of([replace(clips[0], **what), *clips[1:]])

    assert len({known, changed(name="other"), changed(fps=29.0), changed(body_pose=clips[0].body_pose + 0.01)}) == 4
    assert isinstance(clips[0], Clip)


def test_a_file_at_24_frames_a_second_is_measured_like_one_at_30():
    """Its last frame lies before the end of the clip that both were sampled from: the window reaches a little on."""

    def at(fps, frames):
        t = np.arange(frames) / fps
        pose = np.zeros((frames, 21, 3))
        pose[:, 0, 0], pose[:, 3, 0] = 0.4 * np.sin(5 * t), 0.3 * np.cos(4 * t)
        return Motion(pose, np.zeros((frames, 3)), np.zeros((frames, 3)), fps)

    ours, theirs = reference.windows_of(at(24.0, 22)), reference.windows_of(at(30.0, 28))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours[:, :-1], theirs[:, :-1], atol=2e-3)
    # going straight on for 25 ms, at the velocity of the last 1/24 s: half the acceleration times 25 ms times 67 ms
    np.testing.assert_allclose(ours[:, -1], theirs[:, -1], atol=0.5 * 10 * 0.9 * 0.025 * (0.025 + 1 / 24))
    with pytest.raises(UserError, match=r"at least 0\.90 s"):
        reference.windows_of(at(24.0, 21))
