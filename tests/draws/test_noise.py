"""Coherent noise: one movement in every camera, unit variance, and the flow of a single camera."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.config import Config
from md_jax.draws.draw import draw
from md_jax.draws.noise import Coherence, coherent_noise, shared_directions, stations, unseen
from md_jax.fit.train import draws_at, init_state, make_step
from md_jax.run.build import make_job
from md_jax.timeline.windows import Stretch, make_windows
from tests.bridge.priors import tiny_priors

SHAPE = (2, 3, 2, 3)  # C, f, h, w
VALUES = 12  # of a latent frame
WAYS, MOVEMENTS, CAMERAS = 3, 8, 4


def moved_in(cameras=CAMERAS, seed=0):
    """(eyes (A, P, ways) with orthonormal columns, moved (A, K, P)): cameras that see the same three ways to move."""
    rng = np.random.default_rng(seed)
    eyes = np.stack([np.linalg.qr(rng.normal(size=(VALUES, WAYS)))[0] for _ in range(cameras)])
    ways = rng.normal(size=(MOVEMENTS, WAYS)) * [1.0, 2.0, 0.5]
    return eyes, ways @ eyes.transpose(0, 2, 1)


def coherence_of(moved, motions=1):
    seen, shares = (jnp.asarray(x, jnp.float32)[None] for x in shared_directions(moved))
    azimuth = jnp.linspace(0, 2 * np.pi, len(moved), endpoint=False)[None]
    return Coherence(jnp.zeros(motions, jnp.int32), azimuth, seen, shares)


def frames_of(noise):
    """(views, f, P)."""
    return np.moveaxis(np.asarray(noise), 1, 2).reshape(noise.shape[0], noise.shape[2], -1)


def of_seeds(coherence, azimuth, count):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(lambda key: coherent_noise(key, coherence, jnp.int32(0), azimuth, None, SHAPE))(keys)


def test_what_cameras_see_is_orthonormal_and_no_more_than_there_is():
    seen, shares = shared_directions(moved_in()[1])
    for u, share in zip(seen, shares, strict=True):
        some = np.linalg.norm(u, axis=0) > 0.5
        assert some.sum() == WAYS
        np.testing.assert_allclose(u[:, some].T @ u[:, some], np.eye(WAYS), atol=1e-9)
        np.testing.assert_allclose(share[some] @ share[some].T, np.eye(WAYS), atol=1e-9)
        assert not u[:, ~some].any()


def test_all_cameras_see_the_same_movement_and_nothing_else_in_common():
    """Where every camera sees every way to move, its noise read as movements is that of all others."""
    eyes, moved = moved_in()
    coherence = coherence_of(moved)
    noise = coherent_noise(jax.random.key(3), coherence, jnp.int32(0), coherence.azimuth[0], None, SHAPE)
    flat = frames_of(noise)
    movements = np.einsum("vpw,vfp->vfw", eyes, flat)
    np.testing.assert_allclose(movements, np.broadcast_to(movements[:1], movements.shape), atol=1e-5)
    assert np.abs(movements[0]).min() > 1e-4
    rest = flat - np.einsum("vpw,vfw->vfp", eyes, movements)
    assert np.abs(np.diff(rest, axis=0)).mean() > 0.3


def test_a_clip_has_unit_variance_and_its_values_are_independent():
    """Also where a camera sees two of three ways, and hardly a third."""
    _, moved = moved_in()
    moved[1] *= np.linspace(1, 0, VALUES)
    coherence = coherence_of(moved)
    noise = np.asarray(of_seeds(coherence, coherence.azimuth[0], 20_000)).reshape(20_000, CAMERAS, -1)
    for camera in range(CAMERAS):
        np.testing.assert_allclose(np.cov(noise[:, camera].T), np.eye(noise.shape[2]), atol=0.05)


def test_a_frame_keeps_its_noise_in_every_step_and_window():
    windows = make_windows([[Stretch(0, 0.0, 20.0)]], length=6, frames=20, loop=True, frame_stride=2)
    coherence = coherence_of(moved_in()[1])
    arcs = [[(float(a), float(a)) for a in coherence.azimuth[0]]]
    seen: dict[tuple[int, int], np.ndarray] = {}
    met = 0
    one = jax.jit(lambda step: draw(
        jax.random.key(5), step, (jnp.float32(0.2), jnp.float32(0.6)), motions=1, views=2, latent_shape=SHAPE,
        azimuth_ranges=arcs, elevation_range=(0.1, 0.3), noise="coherent", coherence=coherence, windows=windows,
    ))  # fmt: skip
    for step in range(40):
        drawn = one(jnp.int32(step))
        for view, (start, azimuth) in enumerate(zip(np.asarray(drawn.start), np.asarray(drawn.azimuth), strict=True)):
            camera = int(np.argmin(np.abs(np.asarray(coherence.azimuth[0]) - azimuth)))
            for k, frame in enumerate(frames_of(drawn.noise)[view]):
                place = (camera, (start // 2 + k) % 10)
                met += place in seen
                np.testing.assert_array_equal(seen.setdefault(place, frame), frame)
    assert met > 60 and len(seen) > 25


def test_videos_without_a_body_have_one_noise_for_all_their_clips():
    coherence = unseen([0.5, 1.5], SHAPE)
    views = jnp.full(3, 1.5)
    first, other = (coherent_noise(jax.random.key(k), coherence, jnp.int32(k), views, None, SHAPE) for k in (0, 1))
    np.testing.assert_array_equal(first, jnp.broadcast_to(first[:1], first.shape))
    assert not np.array_equal(first, other)


def test_stations_lie_evenly_on_their_arcs():
    circle = [low for low, high in stations([(-np.pi, np.pi)]) if low == high]
    np.testing.assert_allclose(np.diff(circle), np.pi / 4)
    quarter = stations([(0.0, np.pi / 2), (2.0, 2.0)])
    np.testing.assert_allclose(quarter, [(np.pi / 8,) * 2, (3 * np.pi / 8,) * 2, (2.0, 2.0)])


# --- the flow -------------------------------------------------------------------------------------------------------


def test_cameras_that_agree_follow_the_flow_of_one_and_others_fall_behind():
    """A ring of phases seen from four sides: with coherent noise the flow is that of a single camera, step for step."""
    eyes, _ = moved_in(seed=1)
    eyes = eyes[:, :, :2]
    angles = 2 * np.pi * np.arange(24) / 24
    ring = 2 * np.stack([np.cos(angles), np.sin(angles)], 1)
    ways = np.random.default_rng(2).normal(size=(MOVEMENTS, 2))
    coherence = coherence_of(ways @ eyes.transpose(0, 2, 1))

    def end_of(noise, cameras, end):
        theta, s = np.zeros(2), np.geomspace(50.0, end, 300)
        for now, then in itertools.pairwise(s):
            step = np.zeros(2)
            for camera in cameras:
                eye = eyes[camera]
                x = eye @ theta + now * noise[camera]
                logits = -((x - ring @ eye.T) ** 2).sum(1) / (2 * now**2)
                weight = np.exp(logits - logits.max())
                step += eye.T @ (eye @ theta - weight @ (ring @ eye.T) / weight.sum()) / len(cameras)
            theta = theta + np.log(then / now) * step
        return theta

    everyone, together, apart, alone = range(CAMERAS), [], [], []
    for seed in range(6):
        azimuth = coherence.azimuth[0]
        coherent = coherent_noise(jax.random.key(seed), coherence, jnp.int32(0), azimuth, None, (2, 1, 2, 3))
        coherent = frames_of(coherent)[:, 0]
        own = np.random.default_rng(seed).normal(size=(CAMERAS, VALUES))
        together.append(end_of(coherent, everyone, 1.0))
        alone.append(end_of(coherent, [0], 1.0))
        apart.append(end_of(own, everyone, 1.0))
    np.testing.assert_allclose(together, alone, atol=1e-4)
    size_together, size_apart = (np.linalg.norm(each, axis=1).mean() for each in (together, apart))
    assert size_apart < 0.8 * size_together  # four noises average out, and the middle of the ring holds the run


# --- runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def config(tmp_path):
    folder = tiny_priors.packed_folder(tmp_path / "prior")
    return Config(
        prior_path=str(folder), mode="pose", noise="coherent", views=2, steps=3, guidance_scale=2.0, device="cpu",
        azimuths=(), control_run=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_run_films_from_eight_cameras_and_keeps_their_noise(config):
    job = make_job(dataclasses.replace(config, num_motions=2))
    problem = job.problem
    assert [len(own) for own in problem.azimuth_ranges] == [8, 8]
    assert problem.coherence.seen.shape[0] == 1  # both motions begin alike
    assert np.abs(problem.coherence.seen).max() > 0.05  # cameras see the body move
    kept: dict[tuple[int, float], np.ndarray] = {}
    for n in range(8):
        drawn = draws_at(config, problem, 2, jnp.int32(n), problem.key)
        for clip, azimuth in enumerate(np.asarray(drawn.azimuth).round(5).tolist()):
            noise = np.asarray(drawn.noise[clip])
            np.testing.assert_array_equal(kept.setdefault((clip // 2, azimuth), noise), noise)
    assert len(kept) > 8
    state, step = init_state(config, job.params), make_step(config, problem, job.op)
    for _ in range(config.steps):
        state, report = step(state)
    assert np.isfinite(np.asarray(report.shown)).all() and not np.asarray(state.skipped).any()


def test_motions_are_the_same_alone_or_in_company(config):
    def first_noise(changed):
        job = make_job(changed)
        return np.asarray(draws_at(changed, job.problem, changed.num_motions, jnp.int32(0), job.problem.key).noise)

    both = first_noise(dataclasses.replace(config, num_motions=2))
    np.testing.assert_array_equal(first_noise(dataclasses.replace(config, first_motion=1)), both[2:])


@pytest.mark.slow
def test_a_fit_samples_from_the_same_camera_as_with_fresh_noise(config):
    """The eight places are those of the steps: a sample is filmed from the side."""

    def start(noise):
        return make_job(dataclasses.replace(config, mode="fit", noise=noise, fit_steps=2, sample_steps=3)).params

    fresh, coherent = (jax.tree.leaves(start(noise)) for noise in ("fresh", "coherent"))
    for one, other in zip(fresh, coherent, strict=True):
        np.testing.assert_array_equal(one, other)


def test_latent_mode_has_one_camera_and_one_noise(config):
    job = make_job(dataclasses.replace(config, mode="latent", views=2))
    drawn = draws_at(job.config, job.problem, 1, jnp.int32(1), job.problem.key)
    np.testing.assert_array_equal(drawn.noise[0], drawn.noise[1])
