"""Whole motions on the floor: real clips whose translation is withheld."""

import dataclasses

import numpy as np
import pytest

from md_jax.body.model import load_body
from md_jax.ground.place import measure, on_ground, travels
from md_jax.ground.points import heights, stander
from md_jax.mocap.clips import moving_clips
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import load_statistics

FRAMES = 64


@pytest.fixture(scope="module")
def feet():
    return stander(load_body())


def real(name: str) -> Motion:
    clip = next(clip for clip in moving_clips() if clip.name == name)
    return Motion(clip.body_pose[:FRAMES], clip.root_orient[:FRAMES], clip.transl[:FRAMES], clip.fps)


@pytest.mark.parametrize("name", ["cmu_008_04", "cmu_009_12_2"])
def test_a_real_walk_is_found_again(name, feet):
    clip = real(name)
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


def test_none_moves_the_motion_as_a_whole(feet):
    clip = real("cmu_008_04")
    found = on_ground(clip, feet, "none")
    np.testing.assert_array_equal(found.motion.body_pose, clip.body_pose)
    np.testing.assert_allclose(np.diff(found.motion.transl, axis=0), np.diff(clip.transl, axis=0), atol=1e-5)
    assert heights(feet, found.motion).min() == pytest.approx(0, abs=1e-5)


def test_statistics_say_what_travels():
    assert travels(load_statistics("walking")) and travels(load_statistics("running"))
    assert travels(load_statistics("drinking")) is False and travels(load_statistics("punching")) is None
