"""Flights against a hop made by hand, whose height follows from its take-off speed."""

import numpy as np
import pytest

from md_jax.ground.flight import GRAVITY, arc, ballistic, flights

CROUCH, PUSH = 0.9, 10.0  # m, m/s²


def hop(speed: float, fps: float, fold: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(standing height, true height, flies): legs push at PUSH until they leave the floor at `speed`, are drawn up by
    `fold` in the air, and take the landing up as they pushed."""
    push, air, rest = speed / PUSH, 2 * speed / GRAVITY, 0.5
    t = np.arange(0, 2 * rest + 2 * push + air, 1 / fps) - rest - push
    up = CROUCH + PUSH / 2 * np.clip(t + push, 0, push) ** 2
    down = CROUCH + PUSH / 2 * np.clip(air + push - t, 0, push) ** 2
    flies = (t > 0) & (t < air)
    true = np.where(flies, CROUCH + speed**2 / 2 / PUSH + speed * t - GRAVITY / 2 * t**2, np.minimum(up, down))
    drawn = np.where(flies, fold * np.sin(np.pi * np.clip(t / air, 0, 1)), 0)
    return np.minimum(up, down) - drawn, true, flies


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0, 120.0])
@pytest.mark.parametrize("speed", [1.5, 2.5])
def test_a_hop_rises_as_high_as_it_was_pushed(speed, fps):
    standing, true, flies = hop(speed, fps)
    found = ballistic(standing, fps)
    rise, expected = np.ptp(found.height[flies]), np.ptp(true[flies])
    assert found.flies.sum() / fps == pytest.approx(flies.sum() / fps, abs=0.1)
    assert found.height.max() - CROUCH == pytest.approx(true.max() - CROUCH, rel=0.15)
    assert rise == pytest.approx(expected, rel=0.35)  # the first and last frames of a flight are the floor's
    inside = np.flatnonzero(found.flies)[1:-1]
    np.testing.assert_allclose(np.diff(found.height, 2)[inside - 1] * fps**2, -GRAVITY, rtol=1e-3)


@pytest.mark.parametrize("fps", [30.0, 60.0])
def test_walking_does_not_fly(fps):
    """The mass of a walk rises and sinks by 4 cm, twice a second, with noise in the poses."""
    t = np.arange(0, 4, 1 / fps)
    noise = np.random.default_rng(0).normal(0, 0.002, len(t))
    assert flights(0.95 + 0.02 * np.sin(4 * np.pi * t) + noise, fps) == []


def test_an_arc_falls_freely_and_lands_where_it_should():
    speed, heights, landing = arc(1.0, 1.2, 12, 30.0)
    assert landing == pytest.approx(speed - GRAVITY * 0.4)
    whole = np.concatenate([[1.0], heights, [1.2]])
    np.testing.assert_allclose(np.diff(whole, 2) * 900, -GRAVITY, rtol=1e-9)


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_motions_stay_on_the_floor(frames):
    found = ballistic(np.full(frames, 0.9), 30.0)
    np.testing.assert_allclose(found.height, 0.9)
    assert not found.flies.any()
