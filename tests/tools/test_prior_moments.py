"""What captions say of training windows: their moments, speed, side and way, and how an action repeats."""

import dataclasses

import numpy as np
import pytest

from md_jax.mocap.clips import Clip
from md_jax.mocap.windows import every_window
from tools import prior_moments

FRAMES, FPS = 10, 10
PERIOD = 1.2  # seconds


def swing(name: str, phase: float, seconds: float = 6.0, rate: float = 30.0, action: str = "walking") -> Clip:
    """Legs and arms that swing with a known period; at t = phase the left leg starts forward."""
    t = np.arange(int(seconds * rate) + 1) / rate
    angle = 2 * np.pi * (t - phase) / PERIOD
    pose = np.zeros((len(t), 21, 3), np.float32)
    pose[:, 0, 0], pose[:, 1, 0] = 0.6 * np.sin(angle), -0.6 * np.sin(angle)
    pose[:, 3, 0] = 0.5 + 0.5 * np.cos(angle)
    return Clip(name, action, name, "test", rate, pose, np.zeros((len(t), 3), np.float32))


PHASES = {"a": 0.0, "b": 0.37, "c": 0.8}


@pytest.fixture(scope="module")
def clips():
    return [swing(name, phase) for name, phase in PHASES.items()]


@pytest.fixture(scope="module")
def windows(clips):
    return every_window(clips, frames=FRAMES, fps=FPS, stride=1 / 30, root="full")


def test_the_moments_of_a_walk_are_its_phases_whoever_walks(windows):
    known = np.arange(len(windows.start)) % 5 > 0  # a fifth is held out
    moment = prior_moments.moments_of(windows, known, 8, seed=0)
    assert set(moment) == set(range(1, 9))
    phase = np.exp(2j * np.pi * (windows.start - np.array(list(PHASES.values()))[windows.clip]) / PERIOD)
    for k in range(1, 9):
        # 1 where all agree; windows spread evenly over an eighth of the circle have .97, over a third .83
        assert np.abs(phase[moment == k].mean()) > 0.85
    assert np.abs(phase.mean()) < 0.2  # without moments every phase is as common, and their mean stands still


def test_more_seconds_have_more_moments():
    assert [prior_moments.moment_count(s) for s in (1, 4, 12, 60, 160, 1000)] == [4, 8, 24, 24, 40, 48]


def test_tempo_is_told_by_the_median_of_the_action(clips):
    parts = [every_window(clips, frames=FRAMES, fps=FPS, stride=0.5, speed=speed) for speed in (0.6, 1.0, 1.5)]
    joined = type(parts[0])(*(np.concatenate(each) for each in zip(*parts, strict=True)))
    found = np.array(prior_moments.manners(joined, ["walking"] * len(joined.start), joined.speed == 1.0, FPS))
    assert np.mean(found[joined.speed == 0.6] == "slowly") > 0.9
    assert np.mean(found[joined.speed == 1.5] == "quickly") > 0.9
    assert np.mean(found[joined.speed == 1.0] == "") > 0.9


def test_the_hand_that_moves_is_named_and_walks_have_no_side():
    still = swing("still", 0.0)
    pose = np.zeros_like(still.body_pose)
    pose[:, 15, 2] = 1.2 * np.sin(np.arange(len(pose)) / 5)  # the left shoulder
    one = every_window([dataclasses.replace(still, body_pose=pose)], frames=FRAMES, fps=FPS, stride=1.0)
    other = every_window(
        [dataclasses.replace(still, body_pose=pose)], frames=FRAMES, fps=FPS, stride=1.0, mirrored=True
    )
    count = len(one.start)
    assert prior_moments.sides(one, ["punching"] * count) == ["with the left hand"] * count
    assert prior_moments.sides(other, ["punching"] * count) == ["with the right hand"] * count
    assert prior_moments.sides(one, ["walking"] * count) == [""] * count


def test_turning_is_told_by_the_root():
    still = swing("turns", 0.0, seconds=3.0)
    turn = np.zeros_like(still.root_orient)
    turn[:, 1] = np.linspace(0, 2.0, len(turn))  # to the left: +z turns to +x
    left = every_window([dataclasses.replace(still, root_orient=turn)], frames=FRAMES, fps=FPS, stride=1.0, root="full")
    right = every_window(
        [dataclasses.replace(still, root_orient=-turn)], frames=FRAMES, fps=FPS, stride=1.0, root="full"
    )
    straight = every_window([still], frames=FRAMES, fps=FPS, stride=1.0, root="full")
    assert set(prior_moments.turns(left)) == {"turning left"} and set(prior_moments.turns(right)) == {"turning right"}
    assert set(prior_moments.turns(straight)) == {""}
