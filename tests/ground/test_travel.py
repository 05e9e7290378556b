"""Travel against a gait made by hand, whose way is known."""

import numpy as np
import pytest

from md_jax.ground.contacts import standing, standing_points
from md_jax.ground.points import SOLE_POINTS
from md_jax.ground.travel import bearing, footing, path, velocity


def gait(speed: float, fps: float, *, hang: float = -0.02, turn: float = 0.0, seconds: float = 3.0):
    """(points of two stiff feet in the body's frame, root (F,3)): each foot stands for 0.6 s, and swings for 0.4 s, its
    toes `hang` metres from the floor; the root goes at `speed` m/s, turning by `turn` rad/s."""
    t = np.arange(0, seconds, 1 / fps)
    heading = turn * t
    root = np.stack([np.cumsum(np.sin(heading)), np.zeros(len(t)), np.cumsum(np.cos(heading))], axis=1) * speed / fps
    feet = []
    for phase in (0.0, 0.5):
        cycle, share = np.divmod(t + phase, 1.0)
        swing = np.clip((share - 0.6) / 0.4, 0, 1)
        when = np.clip(cycle + (swing * swing * (3 - 2 * swing)) - phase + 0.3, 0, None)  # at mid-stance
        ankle = np.stack([np.interp(when, t, root[:, a], right=root[-1, a]) for a in range(3)], axis=1)
        lift = np.where(swing > 0, hang, 0.0)
        along = np.linspace(-0.05, 0.15, SOLE_POINTS)
        feet.append(ankle[:, None] + np.array([0, 0, 1])[None, None] * along[:, None] + lift[:, None, None] * (0, 1, 0))
    world = np.concatenate(feet, axis=1)
    return world - root[:, None], root


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
@pytest.mark.parametrize(("speed", "hang"), [(1.2, 0.03), (1.2, -0.02), (0.5, 0.02), (-0.9, 0.02)])
def test_a_body_goes_as_far_as_its_feet_take_it(speed, hang, fps):
    """Also where the swinging foot hangs through the floor, lower than the one that stands."""
    points, root = gait(speed, fps, hang=hang)
    none = np.zeros(len(points), bool)
    way = path(velocity(points, np.maximum(points[..., 1], 0), np.zeros((len(points), 3)), none, fps), fps)
    keep = slice(round(0.3 * fps), None)
    gone, true = way[-1] - way[keep][0], root[-1] - root[keep][0]
    assert np.linalg.norm(gone - true) < 0.07 * np.linalg.norm(true), (gone, true)


def test_who_stands_still_goes_nowhere():
    points = np.zeros((40, 2 * SOLE_POINTS, 3))
    found = velocity(points, points[..., 1], np.zeros((40, 3)), np.zeros(40, bool), 30.0)
    np.testing.assert_allclose(found, 0, atol=1e-9)


def test_in_flight_the_mass_keeps_its_speed():
    """Nothing touches the floor from frame 10 to 20; the root sways against the mass, and is given back."""
    frames, fps = 30, 30.0
    flies = np.zeros(frames, bool)
    flies[10:20] = True
    sway = np.zeros((frames, 3))
    sway[10:20, 2] = 0.1 * np.sin(np.linspace(0, 2 * np.pi, 10))
    points = np.zeros((frames, 2 * SOLE_POINTS, 3))
    points[..., 2] = -np.arange(frames)[:, None] / fps  # at 1 m/s against the body while it stands
    found = velocity(points, points[..., 1], sway, flies, fps)
    mass = found[:, 1] + np.diff(sway[:, 2]) * fps
    np.testing.assert_allclose(mass, 1.0, atol=0.05)


def test_measures_of_feet_whose_answer_is_known():
    frames, fps = 31, 30.0
    soles = np.zeros((frames, 2 * SOLE_POINTS, 3))
    root, flies, floor = np.zeros((frames, 3)), np.zeros(frames, bool), np.zeros(frames)
    still = standing(floor, soles, root, flies, fps)
    assert (still.foot_skate, still.slip, still.travel) == (0, 0, 0)
    soles[:, :SOLE_POINTS, 2] = np.arange(frames)[:, None] / fps  # the left foot slides at 1 m/s, the right one bears
    root[:, 2] = np.arange(frames) / fps
    one = standing(floor - 0.02, soles, root, flies, fps)
    assert one.foot_skate == pytest.approx(0.5) and one.slip == pytest.approx(0)
    assert one.penetration == pytest.approx(0.02) and one.travel == one.way == pytest.approx(1.0)
    both = soles.copy()
    both[:, SOLE_POINTS:] = both[:, :SOLE_POINTS]
    assert standing(floor + 0.03, both, root, flies, fps).slip == pytest.approx(1.0)
    stands = standing_points(soles, flies, fps)
    assert not stands[:, :SOLE_POINTS].any() and stands[:, SOLE_POINTS:].all()
    assert (bearing(soles, soles[..., 1], fps) == stands).all()
    assert not standing_points(soles, ~flies, fps).any()


def test_where_no_point_stands_the_expected_velocity_holds_and_standing_feet_overrule_it():
    points = np.random.default_rng(0).normal(size=(40, 2 * SOLE_POINTS, 3))  # far from the floor, going anywhere
    none, expected = np.zeros(40, bool), np.tile([0.2, 1.5], (39, 1))
    high = np.full(points.shape[:2], 1.0)
    np.testing.assert_allclose(velocity(points, high, np.zeros((40, 3)), none, 30.0, expected), expected, atol=1e-3)
    standing, _ = gait(1.2, 30.0, hang=0.03)
    none, mass = np.zeros(len(standing), bool), np.zeros((len(standing), 3))
    wrong = np.tile([0.0, 0.9], (len(standing) - 1, 1))
    found = velocity(standing, np.maximum(standing[..., 1], 0), mass, none, 30.0, wrong)
    assert abs(found[10:, 1].mean() - 1.2) < 0.1


@pytest.mark.parametrize("speed", [0.0, 2.0, 3.0])
def test_footing_is_of_the_slowest_low_point(speed):
    """One low point stands if the body goes at 2 m/s, one if at 5; a high one that stands does not count."""
    t = np.arange(12) / 30
    ways = np.stack([-2 * t, -5 * t, -speed * t], axis=1)
    points = np.stack([ways, np.broadcast_to([0.0, 0.01, 0.5], ways.shape), np.zeros_like(ways)], axis=-1)
    found = footing(points, np.zeros(12), np.full((11, 2), (speed, 0.0)), 30.0)
    np.testing.assert_allclose(found.slip, abs(speed - 2), atol=1e-9)
    np.testing.assert_allclose(found.pace, speed)
