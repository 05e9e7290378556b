"""Judges of distilled motion and of a prior's samples, on swings whose answers are known."""

import numpy as np
import pytest
import torch

from tests.test_prior_windows import swing
from tools import prior_judge, prior_nearest


@pytest.fixture(scope="module")
def judge():
    return prior_judge.Judge([swing("a", 0.0), swing("b", 0.4)], [swing("c", 0.21)])


def at_ten(clip, first=0):
    return clip.body_pose[first::3][:12]


def test_a_held_out_movement_is_as_near_as_it_should_be(judge):
    found = judge(at_ten(swing("d", 0.13)))
    assert found["ratio"] < 2 and found["cosine"] > 0.95
    for name in ("foreaft", "speed"):
        assert found[name] == pytest.approx(1.0, abs=0.2)


def test_a_still_pose_and_a_larger_swing_are_found_out(judge):
    still = judge(np.zeros((12, 21, 3), np.float32))
    assert still["ratio"] > 4 and still["speed"] < 0.01
    assert judge(1.7 * at_ten(swing("d", 0.13)))["speed"] > 1.4


def test_copies_are_near_the_training_side(judge):
    assert judge(at_ten(swing("a", 0.0))[:10])["copying"] < 0.1


def test_samples_that_are_training_clips_are_called_copies():
    generator = torch.Generator().manual_seed(0)
    train, held = torch.rand(20, 24, generator=generator), torch.rand(6, 24, generator=generator)
    copies = prior_nearest.judge(train[:6], train, held, frames=4)
    assert copies["copying"] == pytest.approx(0, abs=1e-3) and copies["ratio"] > 0.5
    real = prior_nearest.judge(torch.rand(6, 24, generator=generator), train, held, frames=4)
    assert 0.7 < real["copying"] < 1.4 and 0.7 < real["motion"] < 1.4
