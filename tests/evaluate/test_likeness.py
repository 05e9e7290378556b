"""Measures of likeness against closed forms and slow twins."""

import numpy as np
import pytest

from md_jax.evaluate import likeness

FPS = 10.0


def windows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 10, 21, 3)).astype(np.float32)


def test_distances_equal_a_slow_twin():
    some, others = windows(3), windows(5, seed=1)
    slow = [[np.mean([np.linalg.norm(a[f, j] - b[f, j]) for f in range(10) for j in range(21)]) for b in others]
            for a in some]  # fmt: skip
    np.testing.assert_allclose(likeness.distances(some, others), slow, rtol=1e-5)


def test_distances_do_not_depend_on_how_many_are_taken_at_a_time():
    some, others = windows(2), windows(likeness._ROWS + 7, seed=1)
    np.testing.assert_array_equal(likeness.distances(some, others)[:, -7:], likeness.distances(some, others[-7:]))


def test_a_window_is_its_own_neighbour_and_a_shifted_one_is_as_far_as_it_is_shifted():
    some = windows(4)
    apart, index = likeness.nearest(some, some[::-1])
    np.testing.assert_allclose(apart, 0, atol=1e-6)
    np.testing.assert_array_equal(index, [3, 2, 1, 0])
    assert likeness.nearest(some[:1] + np.float32([0.3, 0.4, 0]), some[:1])[0] == pytest.approx(0.5, rel=1e-5)


def test_velocity_cosine_of_the_same_the_opposite_and_no_motion():
    some = windows(2)
    np.testing.assert_allclose(likeness.velocity_cosine(some, 2 * some + 1), 1, rtol=1e-5)
    np.testing.assert_allclose(likeness.velocity_cosine(some, -some), -1, rtol=1e-5)
    np.testing.assert_array_equal(likeness.velocity_cosine(some, np.ones_like(some)), 0)


def test_sweeps_are_ranges_along_their_axis():
    some = np.zeros((1, 10, 21, 3), np.float32)
    some[0, :, likeness.ANKLES[0], likeness.FORE_AFT] = np.linspace(-0.2, 0.4, 10)
    some[0, :, likeness.WRISTS[1], likeness.SIDEWAYS] = np.sin(np.arange(10) * np.pi / 2)
    found = {name: float(of(some, FPS)[0]) for name, of in likeness.EXTENTS.items()}
    assert found["ankles_fore_aft"] == pytest.approx(0.3)  # the mean of .6 and 0
    assert found["wrists_sideways"] == pytest.approx(1.0)
    assert found["ankles_sideways"] == found["wrists_fore_aft"] == 0


def test_the_lower_foot_is_the_one_on_the_ground():
    some = np.zeros((1, 10, 21, 3), np.float32)
    left, right = likeness.TOES
    some[0, :, left, 1] = 0.2  # swings forward, fast
    some[0, :, left, 2] = 0.3 * np.arange(10)
    some[0, :, right, 2] = -0.1 * np.arange(10)  # stands, while the pelvis passes over it
    assert likeness.lower_foot_speed(some, FPS) == pytest.approx(1.0, rel=1e-4)


def test_diversity_is_the_mean_distance_of_pairs():
    points = np.zeros((3, 10, 21, 3), np.float32)
    points[1, ..., 0], points[2, ..., 1] = 3, 4
    assert likeness.diversity(points) == pytest.approx((3 + 4 + 5) / 3)
    assert np.isnan(likeness.diversity(points[:1]))


def test_coverage_counts_the_real_windows_that_are_reached():
    real = np.zeros((4, 10, 21, 3), np.float32)
    real[:, ..., 0] = np.arange(4)[:, None, None]
    assert likeness.coverage(real[:1], real, 1.5) == 0.5
    assert likeness.coverage(real[[0, 3]], real, 1.5) == 1.0
    assert likeness.coverage(real[:1] + 9, real, 1.5) == 0.0
