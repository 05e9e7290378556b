"""All randomness of a step, drawn from JAX keys and handed to torch, so that a run can be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from md_jax.draws.noise import FIXED, Coherence, coherent_noise, fixed_noise, places_of
from md_jax.timeline.windows import Windows

Noise = Literal["fresh", "fixed", "coherent"]


class Draws(NamedTuple):
    """The draws of one step for N = M·views clips; clip n belongs to motion n // views."""

    azimuth: Float[Array, "N"]  # radians, 0 = in front of the body, π/2 = at its left
    elevation: Float[Array, "N"]  # radians above the horizon
    t: Float[Array, "N"]  # diffusion time in (0, 1)
    noise: Float[Array, "N C f h w"]  # ε, standard normal, float32
    frames: Int[Array, "N n"] | None  # frames that an image prior sees; like the rest None where there is none
    image_t: Float[Array, "N"] | None = None
    image_noise: Float[Array, "N c n h w"] | None = None
    start: Int[Array, "N"] | None = None  # first frame of each clip, where clips are windows of a longer motion
    sentence: Int[Array, "N"] | None = None  # of the run's sentences, the one of each clip; None: the motion's own


class ImageShape(NamedTuple):
    """What the draws of an image term look like."""

    clip_frames: int  # F, of which n are chosen without repeats
    latent_shape: tuple[int, int, int, int]  # (C, n, h, w)


WINDOW = 101  # folded into a step's key for its windows, which so leave the other draws alone
IMAGE = 100  # folded into a motion's key for its image draws, which so leave the others alone


def draw(
    key: Array,
    step: Int[Array, ""],
    t_range: tuple[Float[Array, ""], Float[Array, ""]],
    *,
    motions: int,
    views: int,
    latent_shape: tuple[int, int, int, int],
    azimuth_ranges: Sequence[Sequence[tuple[float, float]]],
    elevation_range: tuple[float, float],
    image: ImageShape | None = None,
    noise: Noise = "fresh",
    coherence: Coherence | None = None,
    windows: Windows | None = None,
    first: int = 0,
) -> Draws:
    """Draw cameras, diffusion times and noise of one step.

    Motion m folds m into the key before the step, so its draws are the same alone or in company. The views of a motion
    are evenly spaced from a random start along the arcs it may use (two views on the circle face each other).

    Args:
        key: the run's PRNG key.
        step: index of the step.
        t_range: (low, high) of the diffusion times.
        motions, views: M and the cameras a motion.
        latent_shape: (C, f, h, w) of the prior's latents.
        azimuth_ranges: per motion the arcs of azimuth (low, high) in radians; a zero-width arc is a fixed camera.
        elevation_range: (low, high) in radians.
        image: draws of an image term as well, in the same range of diffusion times.
        noise: "fresh" in every step; or that of the run, so that a frame keeps it in every step and window: "fixed"
            for each place of a clip among its motion's views, "coherent" between cameras (`md_jax.draws.noise`). With
            diffusion times that fall once (`t_range_at`, "descending") the last two follow the probability-flow ODE to
            a sample, where fresh noise ends near a mean (flow score distillation, Yan et al. 2024). An image term's
            noise is fixed for both.
        coherence: for coherent noise: what cameras see of the body's movements.
        windows: the motions are longer than a clip, and each clip is one of these windows.
        first: the number of the first motion.
    """
    start, sentence = (None, None) if windows is None else drawn_windows(key, step, windows, views, first)

    def of_motion(m: Array, arcs: Array, shares: Array) -> tuple[Array, Array, Array, Array]:
        of_run = jax.random.fold_in(key, m)
        k_azimuth, k_elevation, k_t, k_noise = jax.random.split(jax.random.fold_in(of_run, step), 4)
        azimuth = _along_arcs(arcs, shares, (jax.random.uniform(k_azimuth) + jnp.arange(views) / views) % 1.0)
        elevation = jax.random.uniform(k_elevation, (views,), minval=elevation_range[0], maxval=elevation_range[1])
        t = jax.random.uniform(k_t, (views,), minval=t_range[0], maxval=t_range[1])
        kept = jax.random.fold_in(of_run, FIXED)
        place = None if windows is None or start is None else places_of(windows, start[m - first], latent_shape[1])
        if noise == "fresh":
            drawn = jax.random.normal(k_noise, (views, *latent_shape))
        elif noise == "coherent":
            assert coherence is not None
            drawn = coherent_noise(kept, coherence, m - first, azimuth, place, latent_shape)
        elif place is None:
            drawn = jax.random.normal(kept, (views, *latent_shape))
        else:
            drawn = fixed_noise(kept, jnp.arange(views), place, latent_shape)
        return azimuth, elevation, t, drawn

    drawn = jax.vmap(of_motion)(first + jnp.arange(motions), *_stacked_arcs(azimuth_ranges))
    azimuth, elevation, t, eps = (x.reshape(motions * views, *x.shape[2:]) for x in drawn)
    of_windows = {} if start is None or sentence is None else {"start": start.ravel(), "sentence": sentence.ravel()}
    if image is None:
        return Draws(azimuth, elevation, t, eps, None, **of_windows)

    def of_images(m: Array) -> tuple[Array, Array, Array]:
        of_run = jax.random.fold_in(key, m)
        k_frames, k_t, k_noise = jax.random.split(jax.random.fold_in(jax.random.fold_in(of_run, step), IMAGE), 3)
        orders = jax.vmap(lambda k: jax.random.permutation(k, image.clip_frames))(jax.random.split(k_frames, views))
        t = jax.random.uniform(k_t, (views,), minval=t_range[0], maxval=t_range[1])
        frames = orders[:, : image.latent_shape[1]].astype(jnp.int32)
        if noise != "fresh":
            k_noise = jax.random.fold_in(jax.random.fold_in(of_run, IMAGE), FIXED)
        return frames, t, jax.random.normal(k_noise, (views, *image.latent_shape))

    of_clips = (x.reshape(motions * views, *x.shape[2:]) for x in jax.vmap(of_images)(first + jnp.arange(motions)))
    return Draws(azimuth, elevation, t, eps, *of_clips, **of_windows)


def drawn_windows(
    key: Array, step: Int[Array, ""], windows: Windows, views: int, first: int = 0
) -> tuple[Int[Array, "M views"], Int[Array, "M views"]]:
    """(first frame, sentence) of each view's window in a step; a motion's are the same alone or in company.

    Args:
        key, step: as in `draw`.
        windows: where they may begin.
        views: cameras a motion, each with a window of its own.
        first: the number of the first motion.
    """
    starts = jnp.asarray(windows.starts)

    def of_motion(m: Array, sentences: Array) -> tuple[Array, Array]:
        of_step = jax.random.fold_in(jax.random.fold_in(key, m), step)
        which = jax.random.randint(jax.random.fold_in(of_step, WINDOW), (views,), 0, len(starts))
        return starts[which], sentences[which]

    motions = first + jnp.arange(len(windows.sentences))
    return jax.vmap(of_motion)(motions, jnp.asarray(windows.sentences))


def t_range_at(
    fraction: Float[Array, ""], t_min: tuple[float, float], t_max: tuple[float, float], schedule: str
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """(low, high) of the diffusion times when `fraction` in [0, 1] of the steps is done.

    `linear` and `sqrt` (HiFA, 2023, §3.3) move from the start to the end of each pair, `constant` stays at the start.
    `descending` passes once through all times from the start of `t_max` to the end of `t_min`, every draw of a step at
    the same one, and stays at each in proportion to it (DreamTime, Huang et al. 2024, with W(t) ∝ t).
    """
    if schedule == "descending":
        t = jnp.sqrt(t_max[0] ** 2 + (t_min[1] ** 2 - t_max[0] ** 2) * fraction)
        return t, t
    done = {"constant": jnp.zeros_like(fraction), "linear": fraction, "sqrt": jnp.sqrt(fraction)}[schedule]
    return t_min[0] + (t_min[1] - t_min[0]) * done, t_max[0] + (t_max[1] - t_max[0]) * done


def _along_arcs(arcs: Float[Array, "A 2"], shares: Float[Array, "A"], u: Float[Array, "n"]) -> Float[Array, "n"]:
    """Map u in [0, 1) to azimuths along the arcs, each taking its share of the unit interval."""
    ends = jnp.cumsum(shares)
    which = jnp.minimum(jnp.searchsorted(ends, u, side="right"), len(arcs) - 1)
    within = (u - (ends[which] - shares[which])) / jnp.maximum(shares[which], 1e-9)
    return arcs[which, 0] + jnp.clip(within, 0.0, 1.0) * (arcs[which, 1] - arcs[which, 0])


def _stacked_arcs(azimuth_ranges: Sequence[Sequence[tuple[float, float]]]) -> tuple[Array, Array]:
    """Arcs (M, A, 2) and their shares (M, A): by length, or equal where all are single points.

    Motions with fewer arcs are padded with arcs of share 0, which no draw can reach.
    """
    most = max(len(arcs) for arcs in azimuth_ranges)
    stacked = np.zeros((len(azimuth_ranges), most, 2), np.float32)
    shares = np.zeros((len(azimuth_ranges), most), np.float32)
    for m, arcs in enumerate(azimuth_ranges):
        stacked[m, : len(arcs)] = arcs
        lengths = np.diff(np.asarray(arcs), axis=1)[:, 0]
        shares[m, : len(arcs)] = lengths / lengths.sum() if lengths.sum() > 0 else 1 / len(arcs)
    return jnp.asarray(stacked), jnp.asarray(shares)
