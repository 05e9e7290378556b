"""Whole motions on the floor: real clips whose translation is withheld."""

import dataclasses

import jax
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation, RotationSpline

from md_jax.body.model import load_body
from md_jax.config import Config
from md_jax.fit import posefield
from md_jax.fit.problems import make_fields
from md_jax.ground.flight import ballistic
from md_jax.ground.place import measure, on_ground, place, travels
from md_jax.ground.points import heights, in_place, stander
from md_jax.mocap.clips import moving_clips
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import load_statistics

FRAMES = 64


@pytest.fixture(scope="module")
def feet():
    return stander(load_body())


def first_frames(name: str, frames: int = FRAMES) -> Motion:
    clip = next(clip for clip in moving_clips() if clip.name == name)
    return Motion(clip.body_pose[:frames], clip.root_orient[:frames], clip.transl[:frames], clip.fps)


@pytest.mark.parametrize("name", ["cmu_008_04", "cmu_009_12_2"])
def test_a_real_walk_is_found_again(name, feet):
    clip = first_frames(name)
    found = on_ground(dataclasses.replace(clip, transl=np.zeros_like(clip.transl)), feet)
    stands = dataclasses.replace(clip, transl=clip.transl - np.array([0, np.median(heights(feet, clip)), 0]))
    truth = measure(stands, feet, np.zeros(FRAMES, bool))
    assert found.how == "travel" and found.after.way == pytest.approx(truth.way, rel=0.1)
    way = found.motion.transl - (clip.transl - clip.transl[0])
    assert np.linalg.norm(way[:, [0, 2]], axis=1).max() < 0.15
    assert found.after.foot_skate <= truth.foot_skate and found.after.slip <= truth.slip
    assert found.after.penetration < 0.01 and found.after.float < 0.01 and found.turned <= 10.1
    rise = found.motion.transl[:, 1]
    assert abs(rise[-15:].mean() - rise[:15].mean()) < 0.05  # no drift upward
    still = on_ground(dataclasses.replace(clip, transl=np.zeros_like(clip.transl)), feet, "inplace")
    np.testing.assert_allclose(still.motion.transl[-1, [0, 2]], 0, atol=1e-5)


def falls(clip: Motion, feet) -> np.ndarray:
    """Frames in which gravity alone pulls at the captured mass, whose feet are off the floor."""
    still = in_place(feet, dataclasses.replace(clip, transl=np.zeros_like(clip.transl)))
    height = gaussian_filter1d(still.mass[:, 1] + clip.transl[:, 1], clip.fps / 30)
    lowest = still.lowest + clip.transl[:, 1]
    return (np.gradient(np.gradient(height)) * clip.fps**2 < -5) & (lowest > np.median(lowest))


def ten_a_second(clip: Motion) -> Motion:
    """Every third pose, and splines between them: what a prior of ten frames a second can know of a motion."""
    known = np.arange(0, len(clip.body_pose), 3)
    frames = np.arange(known[-1] + 1)
    turns = np.concatenate([clip.root_orient[:, None], clip.body_pose], axis=1)
    splines = [RotationSpline(known, Rotation.from_rotvec(turns[known, joint])) for joint in range(22)]
    smooth = np.stack([spline(frames).as_rotvec() for spline in splines], axis=1).astype(np.float32)
    return Motion(smooth[:, 1:], smooth[:, 0], np.zeros((len(frames), 3), np.float32), clip.fps)


@pytest.mark.parametrize("seen", ["all poses", "ten a second"])
def test_runners_fly_when_gravity_alone_pulls(seen, feet):
    """Heights alone tell half of it. Who flies when he does is as high as he was, and stands on feet that stay."""
    right = wrong = alone = 0
    for name in ("cmu_009_01", "cmu_009_02", "cmu_009_03", "cmu_009_04", "cmu_009_06"):
        clip = first_frames(name, 28)
        motion = dataclasses.replace(clip, transl=np.zeros_like(clip.transl))
        motion = motion if seen == "all poses" else ten_a_second(motion)
        truth = falls(clip, feet)[: len(motion.body_pose)]
        placed, flies = place(motion, feet)
        too_high = placed.transl[:, 1] - clip.transl[: len(flies), 1]
        still = in_place(feet, motion)
        by_height = ballistic(still.mass[:, 1] - still.lowest, motion.fps).flies
        right, wrong = right + (flies & truth).sum(), wrong + (flies != truth).sum()
        alone += (by_height & truth).sum() - (by_height != truth).sum()
        assert too_high.std() < 0.045 and on_ground(motion, feet).after.slip < 0.6
    assert right > wrong and right - wrong > alone + 10


def test_none_moves_the_motion_as_a_whole(feet):
    clip = first_frames("cmu_008_04")
    found = on_ground(clip, feet, "none")
    np.testing.assert_array_equal(found.motion.body_pose, clip.body_pose)
    np.testing.assert_allclose(np.diff(found.motion.transl, axis=0), np.diff(clip.transl, axis=0), atol=1e-5)
    np.testing.assert_array_equal(found.motion.transl[:, [0, 2]], clip.transl[:, [0, 2]])
    assert heights(feet, found.motion).min() == pytest.approx(0, abs=1e-5)


def test_statistics_say_what_travels():
    assert travels(load_statistics("walking")) and travels(load_statistics("running"))
    assert travels(load_statistics("drinking")) is False and travels(load_statistics("punching")) is False
    unknown = dataclasses.replace(load_statistics("punching"), transl_mean=None, transl_std=None)
    assert travels(unknown) is None


@pytest.fixture(scope="module")
def round_walk():
    """A walk that goes round, as the PoseField of a loop makes it: 33 frames at 30 a second."""
    fields, params = make_fields(Config(loop=True), [load_statistics("walking")], 11)
    kernel = 0.2 * jax.random.normal(jax.random.key(4), params["head"]["kernel"].shape)
    params = {**params, "head": {**params["head"], "kernel": kernel}}
    pose = np.asarray(posefield.poses(fields, params, np.arange(33, dtype=np.float32) / 3).body[0])
    return Motion(pose, np.zeros((33, 3), np.float32), np.zeros((33, 3), np.float32), 30.0)


def test_a_loop_has_no_start(round_walk, feet):
    """Wherever its turns are taken to begin, heights, poses and steps are the same; of an open motion they are not."""
    later = np.roll(np.arange(33), -15)
    names = ("body_pose", "root_orient", "transl", "face_and_hands")
    rolled = dataclasses.replace(round_walk, **{name: getattr(round_walk, name)[later] for name in names})

    def apart(loop):
        one, other = (on_ground(each, feet, "travel", loop=loop).motion for each in (round_walk, rolled))
        height = np.abs(one.transl[later, 1] - other.transl[:, 1]).max()
        steps = np.abs(np.diff(one.transl, axis=0)[later[:17]] - np.diff(other.transl, axis=0)[:17])[..., [0, 2]].max()
        return height, steps, np.degrees(np.abs(one.body_pose[later] - other.body_pose).max())

    assert np.all(np.array(apart(loop=True)) < (0.005, 0.005, 1.5))
    height, _, turned = apart(loop=False)
    assert height > 0.01 and turned > 3


def test_a_loop_in_place_comes_back(round_walk, feet):
    """After its last frame it takes the step that leads to the first, which an open motion does not keep."""
    way = on_ground(round_walk, feet, "inplace", loop=True).motion.transl[:, [0, 2]]
    back, steps = np.linalg.norm(way[0] - way[-1]), np.linalg.norm(np.diff(way, axis=0), axis=1)
    assert 0 < back < 1.5 * steps.max() and np.linalg.norm(way, axis=1).max() < 0.3
