"""Measures of a motion against closed forms and slow twins."""

import math

import numpy as np
import pytest

from md_jax.body import lbs
from md_jax.evaluate import measures
from md_jax.mocap.clips import load_clips
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import load_statistics

FPS = 10.0


def line(velocity, frames=8):
    """One point moving evenly along x."""
    return np.arange(frames)[:, None, None] * np.array([velocity / FPS, 0, 0])


def test_speed_of_even_motion_is_its_velocity_and_its_jerk_is_zero():
    assert measures.speed(line(1.5), FPS) == pytest.approx(1.5)
    assert measures.jerk(line(1.5), FPS) == pytest.approx(0, abs=1e-9)


def test_jerk_of_a_cubic_is_six():
    t = np.arange(9) / FPS
    points = np.stack([t**3, 0 * t, 0 * t], axis=-1)[:, None]
    assert measures.jerk(points, FPS) == pytest.approx(6.0)


def test_jerk_needs_four_frames():
    assert math.isnan(measures.jerk(np.zeros((3, 1, 3)), FPS))


def test_leading_axes_are_kept():
    points = np.random.default_rng(0).normal(size=(2, 5, 8, 4, 3))
    assert measures.speed(points, FPS).shape == measures.jerk(points, FPS).shape == (2, 5)
    assert measures.speed(points, FPS)[1, 2] == pytest.approx(measures.speed(points[1, 2], FPS))


def test_joints_are_those_of_the_body():
    pose = np.random.default_rng(0).normal(scale=0.3, size=(3, 10, 21, 3)).astype(np.float32)
    _, baked = measures.free_body()
    expected = np.stack([np.asarray(lbs.joints_of(baked, clip))[:, 1:22] for clip in pose])
    np.testing.assert_allclose(measures.joints(pose), expected, atol=2e-6)
    root = np.random.default_rng(1).normal(size=(3, 10, 3)).astype(np.float32)
    turned = np.stack([np.asarray(lbs.joints_of(baked, *clip))[:, 1:22] for clip in zip(pose, root, strict=True)])
    np.testing.assert_allclose(measures.joints(pose, root), turned, atol=2e-6)


def test_range_of_motion_is_the_largest_angle():
    pose = np.zeros((5, 21, 3))
    pose[:, :, 1] = np.radians([0, 10, 40, -20, 5])[:, None]
    assert measures.range_of_motion(pose) == pytest.approx(60, abs=1e-3)


@pytest.mark.parametrize("period", [0.4, 0.6])
def test_periodicity_finds_the_period(period):
    t = np.arange(20) / FPS
    points = np.stack([np.sin(2 * np.pi * t / period), np.cos(2 * np.pi * t / period), 0 * t], axis=-1)[:, None]
    correlation, found = measures.periodicity(points, FPS)
    assert correlation > 0.9
    assert found == pytest.approx(period)


def test_a_still_motion_has_no_period():
    assert measures.periodicity(np.ones((10, 3, 3)), FPS)[0] == 0


def test_pose_deviation_counts_standard_deviations():
    statistics = load_statistics("generic")
    assert measures.pose_deviation(statistics.body_mean[None], statistics) == pytest.approx(0, abs=1e-5)
    shifted = statistics.body_mean + 0.5 * statistics.body_std
    assert measures.pose_deviation(shifted[None], statistics) == pytest.approx(0.5, rel=1e-3)


def test_real_poses_deviate_by_about_one():
    statistics = load_statistics("generic")
    values = [measures.pose_deviation(clip.body_pose, statistics) for clip in load_clips(None, ["walking"])[:10]]
    assert 0.4 < np.median(values) < 1.4


def test_arms_through_the_trunk_overlap_and_spread_arms_do_not():
    spread = np.zeros((1, 1, 21, 3), np.float32)  # the rest pose: a T
    crossed = spread.copy()
    crossed[..., 15, 2], crossed[..., 16, 2] = -1.5, 1.5  # shoulders down: arms along the body
    crossed[..., 17, 1], crossed[..., 18, 1] = -1.2, 1.2
    crossed[..., 15, 1], crossed[..., 16, 1] = -1.5, 1.5  # and through the belly
    depth_spread = measures.self_penetration(measures.joints(spread)[0])
    assert depth_spread[0] == 0
    assert measures.self_penetration(measures.joints(crossed)[0])[0] > 0.03


def test_real_walking_hardly_overlaps():
    clip = load_clips(None, ["walking"])[0]
    assert measures.self_penetration(measures.joints(clip.body_pose[None, ::10])[0]).mean() < 0.05


def test_a_sliding_body_skates_and_a_standing_one_does_not():
    vertices = np.random.default_rng(0).uniform(0, 1, size=(1, 50, 3)).repeat(6, axis=0)
    feet = np.zeros((6, 2, 3))
    skate, depth = measures.ground_contact(vertices, feet, FPS)
    assert (skate, depth) == (0, 0)
    sliding = feet + np.arange(6)[:, None, None] * np.array([0.1, 0, 0])
    assert measures.ground_contact(vertices, sliding, FPS)[0] == pytest.approx(1.0)


def test_a_dip_below_the_ground_is_measured():
    vertices = np.ones((5, 4, 3))
    vertices[2, 1, 1] = 0.9
    assert measures.ground_contact(vertices, np.zeros((5, 2, 3)), FPS)[1] == pytest.approx(0.1 / 5)


def test_feet_in_the_air_cannot_skate():
    feet = np.zeros((5, 2, 3))
    feet[1::2, :, 1] = 1.0
    assert math.isnan(measures.ground_contact(np.ones((5, 4, 3)), feet, FPS)[0])


def test_tilt_is_the_angle_from_the_vertical_whatever_the_heading():
    angles = np.radians([0.0, 40.0, 170.0, 90.0])
    about_z = angles[:, None] * np.array([0, 0, 1.0])
    heading = np.tile([0, 1.2, 0], (4, 1))
    assert measures.tilt(about_z) == pytest.approx(170, abs=1e-2)
    assert measures.tilt(heading) == pytest.approx(0, abs=0.05)
    assert measures.tilt(np.array([[0, 0, 2 * np.pi - 0.5]])) == pytest.approx(np.degrees(0.5), abs=1e-2)


def test_reference_free_measures_leave_out_contact_without_translation():
    pose = np.zeros((12, 21, 3), np.float32)
    flat = Motion(pose, np.zeros((12, 3)), np.zeros((12, 3)), 10.0)
    assert measures.reference_free(flat)["foot_skate_metres_per_second"] is None
    sliding = Motion(pose, np.zeros((12, 3)), np.linspace(0, 1.1, 12)[:, None] * np.array([1.0, 0, 0]), 10.0)
    assert measures.reference_free(sliding)["foot_skate_metres_per_second"] == pytest.approx(1.0, rel=1e-3)
    assert measures.reference_free(sliding)["ground_penetration_metres"] == pytest.approx(0, abs=1e-5)
