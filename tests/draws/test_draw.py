"""Draws: distribution, reproducibility, independence of the company a motion keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.draws.draw import ImageShape, draw, t_range_at

CIRCLE = [(-np.pi, np.pi)]
SIDES = [(np.pi / 4, 3 * np.pi / 4), (-3 * np.pi / 4, -np.pi / 4)]


def draws_of(ranges, *, step=0, views=2, seed=0, image=None, fixed_noise=False):
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
        noise="fixed" if fixed_noise else "fresh",
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
        assert (a is None) == (b is None)
        if a is not None:
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


# --- noise of the run -------------------------------------------------------------------------------------------------


def test_fixed_noise_is_the_same_in_every_step_and_nothing_else_is():
    image = ImageShape(10, (4, 2, 6, 6))
    first, later = (draws_of([CIRCLE] * 2, step=s, image=image, fixed_noise=True) for s in (0, 7))
    fresh = draws_of([CIRCLE] * 2, step=7, image=image)
    for name in ("noise", "image_noise"):
        np.testing.assert_array_equal(getattr(first, name), getattr(later, name))
        assert not np.array_equal(getattr(later, name), getattr(fresh, name))
    for name in ("azimuth", "elevation", "t", "frames", "image_t"):
        np.testing.assert_array_equal(getattr(later, name), getattr(fresh, name))
    flat = np.asarray(first.noise).reshape(4, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(4)).max() < 0.2  # each motion and each view has its own
    other = draws_of([CIRCLE] * 2, seed=1, fixed_noise=True)
    assert not np.array_equal(first.noise, other.noise)


def test_fixed_noise_has_unit_variance():
    noise = np.concatenate([np.asarray(draws_of([CIRCLE] * 4, seed=s, fixed_noise=True).noise) for s in range(20)])
    assert noise.mean() == pytest.approx(0, abs=0.01) and noise.std() == pytest.approx(1, abs=0.01)


def distilled(denoise, size, *, fixed_noise, seed, end=0.002, steps=500):
    """The flow dz = d(log s)·(z − x̂₀(z + s·ε)) of s = σ/α from 50 down to `end`: (z, the last ε), each (size,)."""
    z, s = np.zeros(size), np.geomspace(50.0, end, steps + 1)
    one = jax.jit(lambda i: draw(
        jax.random.key(seed), i, (jnp.float32(0.5), jnp.float32(0.5)), motions=1, views=1, latent_shape=(size, 1, 1, 1),
        azimuth_ranges=[CIRCLE], elevation_range=(0.0, 0.0), noise="fixed" if fixed_noise else "fresh",
    ).noise.reshape(-1))  # fmt: skip
    noise = np.asarray(jax.lax.map(one, jnp.arange(steps)), np.float64)
    for i in range(steps):
        z = z + np.log(s[i + 1] / s[i]) * (z - denoise(z + s[i] * noise[i], s[i]))
    return z, noise[-1]


def test_the_flow_of_a_gaussian_ends_where_its_closed_form_says():
    """For data N(μ, v²) the probability-flow ODE ends at μ + v·ε: a sample of the right spread, by the noise."""
    mu, v = 3.0, 0.7

    def denoise(x, s):
        return mu + v**2 / (v**2 + s**2) * (x - mu)

    z, noise = distilled(denoise, 400, fixed_noise=True, seed=0)
    np.testing.assert_allclose(z, mu + v * noise, atol=0.06)
    assert z.std() == pytest.approx(v, rel=0.1)
    assert distilled(denoise, 400, fixed_noise=False, seed=0)[0].std() < 0.4 * v  # fresh noise averages out


def test_on_a_ring_of_phases_fixed_noise_finds_a_phase_and_fresh_noise_the_middle():
    """A toy of a gait: all phases of one movement are as likely, and their mean stands still."""
    angles = 2 * np.pi * np.arange(24) / 24
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)

    def denoise(x, s):
        logits = -((x - ring) ** 2).sum(1) / (2 * s**2)
        weight = np.exp(logits - logits.max())
        return weight @ ring / weight.sum()

    ends = np.array([distilled(denoise, 2, fixed_noise=True, seed=s)[0] for s in range(6)])
    np.testing.assert_allclose(np.linalg.norm(ends, axis=1), 1, atol=0.02)
    assert len(np.unique(np.round(np.arctan2(ends[:, 1], ends[:, 0]), 1))) >= 4  # other seeds, other phases
    halfway = [np.linalg.norm(distilled(denoise, 2, fixed_noise=f, seed=0, end=1.0)[0]) for f in (True, False)]
    assert halfway[0] > 2 * halfway[1]
