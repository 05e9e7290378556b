"""Which points of the soles stand still, and how well a motion stands: skate, penetration, float."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float

from md_jax.ground.points import SOLE_POINTS, slower_speed, slowest_low

LOW, SLOW = 0.04, 0.5  # m, m/s: a point that is lower and slower stands
SHORTEST = 1 / 15  # s: shorter contacts are noise, and so are shorter gaps
SKATE_HEIGHT = 0.025  # m: below it, a foot that moves skates (Zhang et al. 2018, sec. 9)
BEARING = 0.05  # m: a point that is lower may bear the body
PATH_STEP = 0.2  # s: of the way that is measured


def standing_points(
    points: Float[np.ndarray, "F P 3"], flies: Bool[np.ndarray, "F"], fps: float
) -> Bool[np.ndarray, "F P"]:
    """Which points stand in each frame: those that are low and slow, the floor being y = 0.

    Args:
        points: metres.
        flies: frames in flight, in which nothing stands.
        fps: frames a second.
    """
    stands = (points[..., 1] < LOW) & (slower_speed(points, fps) < SLOW) & ~flies[:, None]
    shortest = max(round(SHORTEST * fps), 1)
    for value in (False, True):  # close gaps, then drop what is short
        for p in range(stands.shape[1]):
            for start, end in runs(stands[:, p] == value):
                inside = start > 0 and end < len(stands)
                if end - start < shortest and (inside or value):
                    stands[start:end, p] = not value
    return stands & ~flies[:, None]


def runs(flags: Bool[np.ndarray, "F"]) -> list[tuple[int, int]]:
    """(start, end) of each stretch of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@dataclasses.dataclass(frozen=True)
class Standing:
    """How well a motion stands on the floor y = 0; the same for real clips and for ours.

    Attributes:
        foot_skate: mean over frames and feet of the horizontal speed of a foot's lowest sole point times
            2 − 2^(height / 2.5 cm), 0 above 2.5 cm; m/s. Source: Zhang et al. 2018 (MANN), sec. 9.
        slip: mean horizontal speed of what bears the body: in each frame outside flights the slowest sole point lower
            than 5 cm; m/s, NaN where there is none.
        penetration: deepest vertex below the floor, metres.
        mean_penetration: its mean over frames.
        float: mean height of the lowest vertex over the floor outside flights, metres.
        airborne: share of frames in flight.
        travel: metres from the first place to the last, along the floor.
        way: metres gone, along the floor.
    """

    foot_skate: float
    slip: float
    penetration: float
    mean_penetration: float
    float: float
    airborne: float
    travel: float
    way: float


def standing(
    lowest: Float[np.ndarray, "F"],
    soles: Float[np.ndarray, "F 2*S 3"],
    root: Float[np.ndarray, "F 3"],
    flies: Bool[np.ndarray, "F"],
    fps: float,
) -> Standing:
    """Measure a motion.

    Args:
        lowest: height of the lowest vertex, metres.
        soles: the points of the left sole, then as many of the right one.
        root: translation.
        flies: frames in flight.
        fps: frames a second.
    """
    skate = [_skate(foot, fps) for foot in np.split(soles, soles.shape[1] // SOLE_POINTS, axis=1)]
    stride = max(1, round(PATH_STEP * fps))
    along = np.append(np.arange(0, len(root) - 1, stride), len(root) - 1)
    way = np.linalg.norm(np.diff(root[along][:, [0, 2]], axis=0), axis=1).sum()
    below = np.maximum(-lowest, 0)
    return Standing(
        foot_skate=float(np.mean(skate)),
        slip=_slip(soles, flies, fps),
        penetration=float(below.max()),
        mean_penetration=float(below.mean()),
        float=float(np.maximum(lowest[~flies], 0).mean()) if (~flies).any() else 0.0,
        airborne=float(flies.mean()),
        travel=float(np.linalg.norm((root[-1] - root[0])[[0, 2]])),
        way=float(way),
    )


def _skate(foot: Float[np.ndarray, "F S 3"], fps: float) -> Float[np.ndarray, "F-1"]:
    if len(foot) < 2:
        return np.zeros(1)
    height = np.maximum(foot[1:, :, 1], foot[:-1, :, 1])
    lowest = height.argmin(axis=1)[:, None]
    speed = np.linalg.norm(np.diff(foot[..., [0, 2]], axis=0), axis=-1) * fps
    share = np.clip(2 - 2 ** (np.maximum(height, 0) / SKATE_HEIGHT), 0, 1)
    return np.take_along_axis(speed * share, lowest, axis=1)[:, 0]


def _slip(soles: Float[np.ndarray, "F P 3"], flies: Bool[np.ndarray, "F"], fps: float) -> float:
    speed = np.linalg.norm(np.diff(soles[..., [0, 2]], axis=0), axis=-1) * fps
    slowest = slowest_low(speed, soles[..., 1], BEARING)[~(flies[1:] | flies[:-1])]
    return float(slowest[np.isfinite(slowest)].mean()) if np.isfinite(slowest).any() else float("nan")
