"""Draws: distribution, reproducibility, independence of the company a motion keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.fit.draws import ImageShape, draw, t_range_at

CIRCLE = [(-np.pi, np.pi)]
SIDES = [(np.pi / 4, 3 * np.pi / 4), (-3 * np.pi / 4, -np.pi / 4)]


def draws_of(ranges, *, step=0, views=2, seed=0, image=None):
    return draw(
        jax.random.key(seed),
        jnp.int32(step),
        (jnp.float32(0.2), jnp.float32(0.6)),
        motions=len(ranges),
        views=views,
        latent_shape=(3, 4, 5, 6),
        azimuth_ranges=ranges,
        elevation_range=(0.1, 0.3),
        image=image,
    )


def test_shapes_and_ranges():
    d = draws_of([CIRCLE] * 3)
    assert d.azimuth.shape == d.elevation.shape == d.t.shape == (6,)
    assert d.noise.shape == (6, 3, 4, 5, 6)
    assert d.noise.dtype == jnp.float32
    assert jnp.all((d.t >= 0.2) & (d.t < 0.6))
    assert jnp.all((d.elevation >= 0.1) & (d.elevation <= 0.3))


def test_two_views_on_the_circle_face_each_other():
    azimuth = np.asarray(draws_of([CIRCLE] * 5).azimuth).reshape(5, 2)
    np.testing.assert_allclose(np.cos(azimuth[:, 0] - azimuth[:, 1]), -1, atol=1e-5)


def test_a_motion_draws_the_same_alone_or_in_company():
    together = draws_of([CIRCLE, SIDES, [(0.5, 0.5)]])
    alone = draws_of([CIRCLE])
    for a, b in zip(together[:4], alone[:4], strict=True):
        np.testing.assert_array_equal(np.asarray(a)[:2], np.asarray(b))


def test_the_same_key_and_step_repeat_and_others_differ():
    np.testing.assert_array_equal(draws_of([CIRCLE]).noise, draws_of([CIRCLE]).noise)
    assert not np.array_equal(draws_of([CIRCLE]).noise, draws_of([CIRCLE], step=1).noise)
    assert not np.array_equal(draws_of([CIRCLE]).noise, draws_of([CIRCLE], seed=1).noise)


def test_azimuths_fill_the_arcs_evenly():
    azimuth = np.concatenate([np.asarray(draws_of([SIDES] * 50, step=s).azimuth) for s in range(10)])
    left = (azimuth >= np.pi / 4 - 1e-5) & (azimuth <= 3 * np.pi / 4 + 1e-5)
    right = (azimuth <= -np.pi / 4 + 1e-5) & (azimuth >= -3 * np.pi / 4 - 1e-5)
    assert np.all(left | right)
    assert 0.45 < left.mean() < 0.55
    within = np.where(left, azimuth - np.pi / 4, azimuth + 3 * np.pi / 4) / (np.pi / 2)
    histogram, _ = np.histogram(within, bins=5, range=(0, 1))
    assert histogram.min() > 0.7 * len(azimuth) / 5


def test_fixed_cameras_take_turns():
    azimuth = np.asarray(draws_of([[(0.0, 0.0), (1.0, 1.0)]] * 20).azimuth)
    assert set(np.round(azimuth, 5)) == {0.0, 1.0}
    assert np.mean(azimuth) == pytest.approx(0.5)  # two views, two cameras: one each


@pytest.mark.parametrize(
    ("schedule", "middle"), [("constant", (0.4, 0.9)), ("linear", (0.25, 0.7)), ("sqrt", (0.18787, 0.61716))]
)
def test_t_schedules(schedule, middle):
    ranges = [t_range_at(jnp.float32(x), (0.4, 0.1), (0.9, 0.5), schedule) for x in (0.0, 0.5, 1.0)]
    np.testing.assert_allclose(ranges[0], (0.4, 0.9), rtol=1e-6)
    np.testing.assert_allclose(ranges[1], middle, rtol=1e-4)
    np.testing.assert_allclose(ranges[2], (0.4, 0.9) if schedule == "constant" else (0.1, 0.5), rtol=1e-6)


def test_a_descending_schedule_spends_time_in_proportion_to_the_noise():
    """The times of equal steps from 0.9 down to 0.1: their density, measured, is proportional to t."""
    lows, highs = t_range_at(jnp.linspace(0, 1, 4001), (0.4, 0.1), (0.9, 0.5), "descending")
    times = np.asarray(lows)
    np.testing.assert_array_equal(times, np.asarray(highs))
    np.testing.assert_allclose((times[0], times[-1]), (0.9, 0.1), rtol=1e-5)
    assert np.all(np.diff(times) < 0)
    counts, edges = np.histogram(times, bins=4, range=(0.1, 0.9))
    np.testing.assert_allclose(
        counts / counts.sum(), (edges[:-1] + edges[1:]) / (edges[:-1] + edges[1:]).sum(), atol=2e-3
    )
    d = draw(jax.random.key(0), jnp.int32(0), (jnp.float32(0.3), jnp.float32(0.3)), motions=1, views=3,
             latent_shape=(1, 1, 1, 1), azimuth_ranges=[CIRCLE], elevation_range=(0, 0))  # fmt: skip
    np.testing.assert_allclose(d.t, 0.3, rtol=1e-6)


def test_image_draws_leave_the_others_alone_and_depend_on_the_motion_alone():
    image = ImageShape(10, (4, 2, 6, 6))
    plain, both, alone = draws_of([CIRCLE] * 2), draws_of([CIRCLE] * 2, image=image), draws_of([CIRCLE], image=image)
    for a, b in zip(plain[:4], both[:4], strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(both, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(a)[:2], b)
    assert plain.frames is None and both.frames.shape == (4, 2) and both.frames.dtype == jnp.int32
    assert both.image_t.shape == (4,) and both.image_noise.shape == (4, 4, 2, 6, 6)
    assert not set(np.asarray(both.image_t).tolist()) & set(np.asarray(both.t).tolist())


def test_every_frame_is_chosen_as_often_and_none_twice():
    image = ImageShape(5, (1, 2, 1, 1))
    frames = np.concatenate([draws_of([CIRCLE] * 80, step=s, image=image).frames for s in range(3)])
    assert np.all(frames[:, 0] != frames[:, 1])
    share = np.bincount(frames.ravel(), minlength=5) / frames.size
    np.testing.assert_allclose(share, 0.2, atol=0.05)
