"""Where a run begins: at a clip that the prior samples, at the first render of a video, with the noise it keeps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from md_jax.body import lbs
from md_jax.config import Config
from md_jax.draws.noise import Coherence, shared_directions, stations, unseen
from md_jax.errors import UserError
from md_jax.fit import posefield
from md_jax.fit.match import ClipSource, field_at, fit_clips
from md_jax.fit.problems import LatentProblem, Params, PoseProblem, posed_vertices
from md_jax.fit.train import draws_at
from md_jax.mocap.clips import Clip
from md_jax.mocap.poseprior import pose_prior
from md_jax.mocap.statistics import PoseStatistics

SIDE = math.radians(75)  # where a sample is filmed from, if nothing says otherwise: from here no limb hides another
SAMPLE = 2**31 - 2  # folded into a motion's key for the noise of its sample, as `md_jax.draws.noise.FIXED` is
MOVEMENTS = 32  # random ones, from which is learnt what cameras see
AT_ONCE = 16  # pictures filmed and encoded for that


class Camera(Protocol):
    """What films and encodes (`bridge.build.TorchSide`)."""

    def first_latents(
        self, verts: Float[Array, "N F V 3"], azimuth: Float[Array, "N"], elevation: Float[Array, "N"]
    ) -> Float[Array, "N C f h w"]:
        """The latents of N clips, each filmed by one camera (radians)."""
        ...

    def decode(self, z: Float[Array, "M C f h w"]) -> UInt8[np.ndarray, "M F H W 3"]:
        """The videos of latents."""
        ...


def check_fit(prior: str) -> None:
    """Refuse what a fit cannot do, before anything is loaded.

    Raises:
        UserError: samples do not show our body.
    """
    if prior != "embedded":
        raise UserError(f"--mode=fit compares pictures of our own body pixel by pixel, and samples of"
                        f" --prior={prior} show others: use --prior=embedded, or --mode=pose.")  # fmt: skip


def fitted_starts(
    config: Config,
    problem: PoseProblem,
    params: Params,
    source: ClipSource,
    statistics: Sequence[PoseStatistics],
    clips: Sequence[Clip],
    scales: Sequence[float],
) -> list[Params]:
    """Sample a clip of every motion, and fit its PoseField to that; once for each guidance scale.

    Args:
        config, problem, params: as pose mode would begin.
        source: samples, films and compares.
        statistics: of each motion.
        clips: motion capture of what poses are likely.
        scales: of the samples, which begin at the same noise; 0 is the prior without the sentence.

    Returns:
        The parameters to go on from; the same for the same seed.
    """
    cameras, draws, windows, shape = [], [], None, problem.latent_shape
    if problem.windows is not None:  # a latent a frame: see `check_fit`
        windows = problem.windows.starts, problem.windows.sentences
        shape = (shape[0], problem.fields.frames, *shape[2:])
    for m, arcs in enumerate(problem.azimuth_ranges, config.first_motion):
        low, high = arcs[0]
        cameras.append(SIDE if high - low > 1.99 * math.pi else (low + high) / 2)
        key = jax.random.fold_in(jax.random.fold_in(problem.key, m), SAMPLE)
        draws.append(jax.random.normal(key, shape))
    azimuth, noise = jnp.asarray(cameras, jnp.float32), jnp.stack(draws)
    elevation = jnp.full_like(azimuth, sum(problem.elevation_range) / 2)
    root = problem.fields.root
    of_action = {each.action: pose_prior(clips, each, problem.baked, root=root) for each in statistics}
    likely = [of_action[each.action] for each in statistics]
    starts = []
    for scale in scales:
        video = source.sample(azimuth, noise, config.sample_steps, scale, windows)
        poses = fit_clips(
            likely, problem.baked, azimuth, elevation, video, source, config.fit_steps, root, config.fit_smoothness
        )
        starts.append(field_at(problem.fields, params, poses, problem.targets))
    return starts


def first_render(config: Config, problem: PoseProblem, params: Params, camera: Camera) -> tuple[LatentProblem, Params]:
    """Film every motion once, from the camera that its first step draws, and keep that camera for the sentence.

    Args:
        config, problem, params: as pose mode would begin.
        camera: films and encodes.

    Returns:
        What stays fixed from here on, and the parameters {"z": latents of the first render}.
    """
    first = dataclasses.replace(config, noise="fresh")  # of its draws, only the cameras count
    drawn = draws_at(first, problem, len(problem.azimuth_ranges), jnp.zeros((), jnp.int32), problem.key)
    azimuth, elevation = (x[:: config.views] for x in (drawn.azimuth, drawn.elevation))
    filmed = posed_vertices(problem.fields, params, problem.baked, follow=True)
    z = camera.first_latents(filmed, azimuth, elevation)
    angles = np.asarray(azimuth, float).tolist()
    cameras = [[(angle, angle)] for angle in angles]
    coherence = unseen(angles, problem.latent_shape) if config.noise == "coherent" else None
    latent = LatentProblem(
        problem.key, problem.latent_shape, cameras, problem.elevation_range, camera.decode, coherence
    )
    return latent, {"z": z}


def with_coherence(problem: PoseProblem, params: Params, camera: Camera) -> PoseProblem:
    """The problem with coherent noise: what single cameras see of random movements about the start (`Coherence`).

    Args:
        problem, params: as pose mode begins, at the mean poses.
        camera: films and encodes single pictures, from the middle of the elevations.

    Returns:
        The same problem, filmed by these cameras alone.
    """
    cameras = [stations(arcs) for arcs in problem.azimuth_ranges]
    most, elevation = max(len(own) for own in cameras), sum(problem.elevation_range) / 2
    starts: dict[tuple[object, ...], int] = {}
    of, azimuths, found = [], [], []
    for m, own in enumerate(cameras):
        fixed, alone = jax.tree.map(lambda x, m=m: x[m : m + 1], (problem.fields.fixed, params))
        key = (*own, *(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(fixed)))
        if key not in starts:
            starts[key] = len(starts)
            fields = dataclasses.replace(problem.fields, fixed=fixed)
            verts = _moved(fields, alone, problem.baked, jax.random.key(MOVEMENTS))
            seen = [_moved_latents(verts, azimuth, elevation, camera) for azimuth, _ in own]
            pad = np.minimum(np.arange(most), len(own) - 1)  # a motion with fewer cameras repeats its last
            azimuths.append(np.array([azimuth for azimuth, _ in own])[pad])
            found.append([x[pad] for x in shared_directions(np.stack(seen))])
        of.append(starts[key])
    seen_by, shares = (jnp.asarray(np.stack(each), jnp.float32) for each in zip(*found, strict=True))
    coherence = Coherence(jnp.asarray(of), jnp.asarray(np.stack(azimuths), jnp.float32), seen_by, shares)
    return dataclasses.replace(problem, azimuth_ranges=cameras, coherence=coherence)


@jax.jit
def _moved(fields: posefield.Fields, params: Params, baked: lbs.BakedBody, key: Array) -> Float[Array, "K 2 V 3"]:
    """The first frame of one motion, moved by a random standard deviation to either side."""

    def posed(offset: Array) -> Array:
        moved = {**fields.fixed, "mean": fields.fixed["mean"] + offset * fields.fixed["std"]}
        frame = jnp.zeros((1, 1))
        return posed_vertices(dataclasses.replace(fields, fixed=moved), params, baked, frame, follow=True)[0, 0]

    def either(key: Array) -> Array:
        offset = jax.random.normal(key, fields.fixed["mean"].shape[-2:])
        return jnp.stack([posed(offset), posed(-offset)])

    return jax.lax.map(either, jax.random.split(key, MOVEMENTS))


def _moved_latents(
    verts: Float[Array, "K 2 V 3"], azimuth: float, elevation: float, camera: Camera
) -> Float[np.ndarray, "K P"]:
    """How far each movement changes the latents of one picture, seen from one camera."""
    stills = verts.reshape(-1, 1, *verts.shape[2:])
    parts = []
    for first in range(0, len(stills), AT_ONCE):
        part = stills[first : first + AT_ONCE]
        z = camera.first_latents(part, jnp.full(len(part), azimuth), jnp.full(len(part), elevation))
        parts.append(np.asarray(z).reshape(len(part), -1))
    both = np.concatenate(parts).reshape(len(verts), 2, -1)
    return (both[:, 0] - both[:, 1]) / 2
