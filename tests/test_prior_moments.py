"""Moments of an action: phases of a swing, whose means move; and what captions say of them."""

import random

import numpy as np
import pytest

from bridge.camera import azimuth_range_of_prompt
from md_jax import measures
from tests.test_prior_windows import FPS, swing
from tools import prior_moments, prior_words

FRAMES = 10
CLIPS = [swing("a", 0.0), swing("b", 0.37), swing("c", 0.8)]


@pytest.fixture(scope="module")
def found():
    return prior_moments.find_moments(CLIPS, frames=FRAMES, fps=FPS)


def test_the_means_of_moments_move_as_their_members_do(found):
    moments, facts = found
    windows = prior_moments.windows_of(CLIPS, frames=FRAMES, fps=FPS, mirrored=False)
    points = prior_moments.points_of(windows)
    label, core = prior_moments.moment_of(moments, points)
    usual = measures.speed(points, FPS).mean()
    assert measures.speed(points.mean(0), FPS) < 0.4 * usual  # of all phases
    for k in range(len(moments.centers)):
        of = core & (label == k)
        assert of.sum() > 2 and measures.speed(points[of].mean(0), FPS) > 0.8 * usual
    assert core.mean() > 0.6 and 3 <= facts["moments"] <= 10 and moments.side == ""


def test_moments_follow_one_another(found):
    moments, _ = found
    windows = prior_moments.windows_of(CLIPS[:1], frames=FRAMES, fps=FPS, mirrored=False)
    label, _ = prior_moments.moment_of(moments, prior_moments.points_of(windows))
    steps = (np.diff(label) % len(moments.centers))[np.diff(label) != 0]
    assert (steps == 1).mean() > 0.7


def test_an_arm_that_moves_alone_makes_an_action_one_sided():
    clip = swing("a", 0.0)
    clip.body_pose[:, :] = 0
    clip.body_pose[:, 16, 1] = np.sin(np.arange(len(clip.body_pose)) / 4)  # the right shoulder
    points = prior_moments.points_of(prior_moments.windows_of([clip], frames=FRAMES, fps=FPS, mirrored=False))
    assert prior_moments.side_of(points) == "right"


def test_clips_a_little_short_are_slowed_down_and_shorter_ones_left_out():
    short, shorter = swing("a", 0.0, seconds=0.85), swing("b", 0.0, seconds=0.5)
    windows = prior_moments.windows_of([short, shorter], frames=FRAMES, fps=FPS, mirrored=False)
    assert set(windows.clip) == {0} and windows.speed.max() < 1


def test_captions_say_what_is_true():
    rng, entry = random.Random(0), {"phrase": "punching", "synonyms": ["boxes"]}
    texts = []
    for i in range(300):
        azimuth = 2 * np.pi * i / 300
        facts = prior_words.Facts(azimuth, 2, 7, "left", "right", "slowly", "left", "")
        text = prior_words.caption(entry, facts, rng)
        arcs = azimuth_range_of_prompt(text)
        inside = [low <= azimuth + turn <= high for low, high in arcs or [] for turn in (0, -2 * np.pi)]
        assert arcs is None or any(inside), text
        assert "left-handed" in text and "right-handed" not in text  # not the side that goes without saying
        assert not any(word in text.split() for word in ("quickly", "fast"))
        texts.append(text)
    assert 200 < sum("moment 3 of 7" in text for text in texts) < 300
