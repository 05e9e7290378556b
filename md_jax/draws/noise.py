"""Noise of a whole run: fixed, or coherent between cameras.

Fixed noise leads distillation along the flow to one sample, but every camera has noise of its own and may ask for
another sample: another moment of a gait. A body has far fewer ways to move than a picture has pixels. Coherent noise is
the same random movement in every camera, as far as the camera sees it, and independent noise in all that no pose can
change. So all cameras ask for one sample. Each value keeps unit variance, and none depends on another of its clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from md_jax.timeline.windows import Windows

# Folded into a motion's key in place of the step, for noise that is the same in every step: no run has so many.
FIXED = 2**31 - 1
SHARED = 2**31 - 3  # folded into that for what all cameras share: no run has so many cameras
CAMERAS = 8  # on a whole circle
VISIBLE = 0.05  # of the largest singular value: what changes a picture less than that no camera needs to agree on
_TURN = 2 * np.pi


class Coherence(NamedTuple):
    """What cameras see of a body's movements, of S different starts, from A cameras each.

    Attributes:
        of: the start of each of the M motions.
        azimuth: radians; clips take the nearest of these cameras.
        seen: orthonormal columns, the directions in one latent frame's P = C·h·w values that poses move it in; zeros
            fill up where there are fewer than K.
        shares: orthonormal rows, how K numbers that all cameras share decide these directions.
    """

    of: Int[Array, "M"]
    azimuth: Float[Array, "S A"]
    seen: Float[Array, "S A P K"]
    shares: Float[Array, "S A K K"]


def shared_directions(
    moved: Float[np.ndarray, "A K P"],
) -> tuple[Float[np.ndarray, "A P K"], Float[np.ndarray, "A K K"]]:
    """`Coherence.seen` and `.shares` of one start.

    With D_a the (P, K) changes of camera a's latents under K random movements and G the mean of all D_aᵀD_a, the
    movements D_a G^(-1/2) are as visible, on average over cameras, in any direction. u_a spans what camera a sees of
    them, and the rows of (BBᵀ)^(-1/2) B, with B = u_aᵀ D_a G^(-1/2), are the nearest orthonormal ones to how they get
    there.

    Args:
        moved: how far each movement changes each value of a latent frame, seen from each camera.
    """
    cameras, movements, _ = moved.shape
    moved = moved.astype(np.float64)
    energy, ways = np.linalg.eigh(np.mean(moved @ moved.transpose(0, 2, 1), axis=0))
    root = ways * np.where(energy > VISIBLE**2 * energy[-1], 1 / np.sqrt(np.maximum(energy, 1e-30)), 0.0)
    even = root @ ways.T
    seen = np.zeros((cameras, moved.shape[2], movements))
    shares = np.zeros((cameras, movements, movements))
    for a, own in enumerate(moved):
        _, size, directions = np.linalg.svd(own, full_matrices=False)
        directions = directions[size > VISIBLE * max(size[0], 1e-30)]
        out, gain, into = np.linalg.svd(directions @ own.T @ even, full_matrices=False)
        count = int(np.sum(gain > 1e-6 * max(gain[0], 1e-30)))  # no more than the movements that are left in `even`
        seen[a, :, :count] = (out[:, :count].T @ directions).T
        shares[a, :count] = into[:count]
    return seen, shares


def unseen(azimuth: Sequence[float], latent_shape: tuple[int, int, int, int]) -> Coherence:
    """Coherence of M videos that no body moves, each filmed by one camera: all clips of a video have the same noise.

    Args:
        azimuth: of each video's camera, radians.
        latent_shape: (C, f, h, w).
    """
    channels, _, height, width = latent_shape
    around = jnp.asarray(azimuth, jnp.float32)[:, None]
    seen = jnp.zeros((len(azimuth), 1, channels * height * width, 0))
    return Coherence(jnp.arange(len(azimuth)), around, seen, jnp.zeros((len(azimuth), 1, 0, 0)))


def stations(arcs: Sequence[tuple[float, float]], count: int = CAMERAS) -> list[tuple[float, float]]:
    """Single cameras, as arcs of no width: about `count` to the circle, evenly along the arcs that have a width."""
    found = []
    for low, high in arcs:
        several = max(round(count * (high - low) / _TURN), 1)
        inner = low + (high - low) * (np.arange(several) + 0.5) / several
        found += [(float(angle), float(angle)) for angle in inner]
    return found


def places_of(windows: Windows, start: Int[Array, "views"], count: int) -> Int[Array, "views f"]:
    """Which latent frames of the whole motion each window shows; `count` is f, those of a window."""
    place = (start // windows.frame_stride)[:, None] + jnp.arange(count)
    return place % (windows.frames // windows.frame_stride) if windows.loop else place


def fixed_noise(
    key: Array, of: Int[Array, "views"], place: Int[Array, "views f"], latent_shape: tuple[int, int, int, int]
) -> Float[Array, "views C f h w"]:
    """Noise that belongs to the latent frames of a motion, whatever clip shows them.

    Args:
        key: of the motion and the run.
        of: whose noise each clip has: the number of its view, or of its camera.
        place: the frames that each clip shows.
        latent_shape: (C, f, h, w) of a clip.
    """
    channels, _, height, width = latent_shape

    def of_frame(own: Array, place: Array) -> Array:
        return jax.random.normal(jax.random.fold_in(own, place), (channels, height, width))

    def of_clip(number: Array, places: Array) -> Array:
        return jnp.moveaxis(jax.vmap(of_frame, (None, 0))(jax.random.fold_in(key, number), places), 0, 1)

    return jax.vmap(of_clip)(of, place)


def coherent_noise(
    key: Array,
    coherence: Coherence,
    motion: Int[Array, ""],
    azimuth: Float[Array, "views"],
    place: Int[Array, "views f"] | None,
    latent_shape: tuple[int, int, int, int],
) -> Float[Array, "views C f h w"]:
    """Noise of a motion's clips in which all cameras see one random movement: ε + u (L ξ - uᵀε) in each frame.

    Args:
        key: of the motion and the run.
        coherence: what cameras see.
        motion: its number among those of `coherence.of`.
        azimuth: of each clip's camera, radians.
        place: the frames that each clip shows; None: all, in order.
        latent_shape: (C, f, h, w) of a clip.
    """
    channels, count, height, width = latent_shape
    start = coherence.of[motion]
    apart = jnp.abs((coherence.azimuth[start] - azimuth[:, None] + jnp.pi) % (2 * jnp.pi) - jnp.pi)
    camera = jnp.argmin(apart, axis=1)
    if place is None:
        place = jnp.broadcast_to(jnp.arange(count), (len(azimuth), count))
    own = fixed_noise(key, camera, place, latent_shape)
    seen, shares = coherence.seen[start, camera], coherence.shares[start, camera]
    movements = shares.shape[-1]
    keys = jax.vmap(jax.vmap(jax.random.fold_in, (None, 0)), (None, 0))(jax.random.fold_in(key, SHARED), place)
    common = jax.vmap(jax.vmap(lambda k: jax.random.normal(k, (movements,))))(keys)
    flat = jnp.moveaxis(own, 1, 2).reshape(*place.shape, -1)
    decided = jnp.einsum("vrk,vfk->vfr", shares, common) - jnp.einsum("vpr,vfp->vfr", seen, flat)
    flat = flat + jnp.einsum("vpr,vfr->vfp", seen, decided)
    return jnp.moveaxis(flat.reshape(*place.shape, channels, height, width), 2, 1)
