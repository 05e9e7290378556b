"""Where a body goes along the floor: what stands on it stays where it is, so the body moves against it.

In poses without translation standing feet slide backward, and all at one speed, while swinging ones go forward, each
faster or slower. Heights alone do not tell them apart: captured feet are stiff, and their toes hang through the floor.
So the body's velocity is that on which most low points agree, and its mass speeds up and down as little as can be:
ever narrower around what was found, until points that move count no more. It begins at what the gait says
(`md_jax.ground.gait`), and stays near it where no point stands; without that, at least absolute differences.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy.linalg import solveh_banded

from md_jax.ground.flight import Footing
from md_jax.ground.points import slower_speed, slowest_low

LOW = 0.05  # metres: a point counts 1/e as much with each that it is higher
SMOOTH, FLYING = 0.1, 100.0  # weight of squared accelerations (m/s²)²; how much more in flight, where nothing pushes
WIDEST, NARROWEST = 2.0, 0.25  # m/s: from where on a point that moves counts less
ABSOLUTE, NARROWING = 15, 25  # rounds
GAIT = 1.0  # weight of squared differences from the expected velocity (m/s)²
STILL, NEAR = 0.5, 0.08  # m/s, metres: what is slower and lower may carry the body
RATE = 30.0  # frames a second whose weights these are
TINY = 0.02  # m/s: below it, differences are squared


def velocity(
    points: Float[np.ndarray, "F P 3"],
    clearance: Float[np.ndarray, "F P"],
    mass: Float[np.ndarray, "F 3"],
    flies: Bool[np.ndarray, "F"],
    fps: float,
    expected: Float[np.ndarray, "F-1 2"] | None = None,
) -> Float[np.ndarray, "F-1 2"]:
    """Velocity of the root along x and z between frames, m/s.

    Args:
        points: that may touch the floor, the root at the origin, metres.
        clearance: their heights above the floor once the body stands, metres.
        mass: centre of mass, the root at the origin.
        flies: frames in flight.
        fps: frames a second.
        expected: the velocity to begin at and to stay near.
    """
    share = RATE / fps
    weight = np.exp(-np.maximum(np.maximum(clearance[1:], clearance[:-1]), 0) / LOW)
    weight[flies[1:] | flies[:-1]] = 0
    against = -np.diff(points[..., [0, 2]], axis=0) * fps  # the body's velocity if this point stands
    change = np.diff(mass[:, [0, 2]], axis=0) * fps  # of the mass beside the root's
    # Σ weight |against − v| + SMOOTH |acceleration of the mass|²: tridiagonal in v
    stiff = SMOOTH * (1 + FLYING * flies[1:-1]) * share * fps**2
    bands = np.zeros((2, len(change)))
    bands[0, 1:] = -stiff
    bands[1, :-1] += stiff
    bands[1, 1:] += stiff
    pull = np.zeros_like(change)
    steps = stiff[:, None] * np.diff(change, axis=0)
    pull[:-1] += steps
    pull[1:] -= steps
    widths = list(np.geomspace(WIDEST, NARROWEST, NARROWING))
    if expected is None:
        found, near = _mean(against, np.maximum(weight, 1e-9)), 0.0
        widths = [np.inf] * ABSOLUTE + widths
    else:
        found, near = expected, GAIT * share
        pull += near * expected
    for width in widths:
        off = np.linalg.norm(against - found[:, None], axis=-1)
        if np.isinf(width):
            counts = weight / np.sqrt(off**2 + TINY**2)
        else:
            counts = weight * 4 / (width * (1 + (off / width) ** 2) ** 2)  # Geman and McClure's
        counts = counts * share
        matrix = bands.copy()
        matrix[1] += counts.sum(axis=1) + near + 1e-6
        found = solveh_banded(matrix, (counts[..., None] * against).sum(axis=1) + pull)
    return found


def _mean(values: Float[np.ndarray, "F P 2"], weight: Float[np.ndarray, "F P"]) -> Float[np.ndarray, "F 2"]:
    return (values * weight[..., None]).sum(axis=1) / weight.sum(axis=1)[:, None]


def path(velocity: Float[np.ndarray, "F-1 2"], fps: float) -> Float[np.ndarray, "F 3"]:
    """The way along the floor, metres, from the origin on; y stays 0."""
    way = np.zeros((len(velocity) + 1, 3))
    way[1:, [0, 2]] = np.cumsum(velocity, axis=0) / fps
    return way


def footing(
    points: Float[np.ndarray, "F P 3"],
    lowest: Float[np.ndarray, "F"],
    velocity: Float[np.ndarray, "F-1 2"],
    fps: float,
) -> Footing:
    """How the low points move over the floor when the root goes at `velocity`.

    Args:
        points: that may touch the floor, the root at the origin, metres.
        lowest: height of the lowest one of the whole body, metres.
        velocity: of the root along x and z, m/s.
        fps: frames a second.
    """
    speed = np.linalg.norm(np.diff(points[..., [0, 2]], axis=0) * fps + velocity[:, None], axis=-1)
    slip = slowest_low(speed, points[..., 1] - lowest[:, None], LOW)
    return Footing(np.minimum(slip, speed.max(axis=1)), np.linalg.norm(velocity, axis=1))


def bearing(
    points: Float[np.ndarray, "F P 3"], clearance: Float[np.ndarray, "F P"], fps: float
) -> Bool[np.ndarray, "F P"]:
    """Which points the body rests on: near the floor, and still. A foot that swings low does not carry.

    Args:
        points: as the body goes along the floor, metres.
        clearance: their heights above it, metres.
        fps: frames a second.
    """
    return (slower_speed(points[..., [0, 2]], fps) < STILL) & (clearance < NEAR)
