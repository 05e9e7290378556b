"""The points of the soles that touch the floor, and how well they stand: skate, penetration, float."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float, Int

from md_jax.body.model import Body

FEET = {"left": (7, 10), "right": (8, 11)}  # ankle and ball of each foot
SOLE = 0.02  # metres above the lowest vertex of a foot in the rest pose within which a vertex is of its sole
LOW, SLOW = 0.05, 1.0  # m, m/s: a point stands that is lower and slower


def sole_points(body: Body) -> Int[np.ndarray, "6"]:
    """Vertices of the soles in the rest pose: heel, ball and toe of the left foot, then of the right one."""
    rest, owner = np.asarray(body.v_template), np.asarray(body.weights).argmax(axis=1)
    joints = np.asarray(body.J_regressor) @ rest
    found = []
    for ankle, ball in FEET.values():
        own = np.flatnonzero((owner == ankle) | (owner == ball))
        sole = own[rest[own, 1] < rest[own, 1].min() + SOLE]
        forward = rest[sole, 2]
        found += [
            sole[forward.argmin()],
            sole[np.linalg.norm(rest[sole][:, [0, 2]] - joints[ball, [0, 2]], axis=1).argmin()],
            sole[forward.argmax()],
        ]
    return np.array(found)


def contacts(points: Float[np.ndarray, "F P 3"], fps: float, *, low: float = LOW) -> Bool[np.ndarray, "F P"]:
    """Which points stand in each frame: those that are low and slow, the floor being y = 0.

    Contacts of less than a fifteenth of a second are noise, and so are gaps of that length.
    """
    speed = np.linalg.norm(np.diff(points, axis=0), axis=-1) * fps
    slow = np.minimum(np.concatenate([speed[:1], speed]), np.concatenate([speed, speed[-1:]])) < SLOW
    stands = (points[..., 1] < low) & slow
    shortest = max(round(fps / 15), 1)
    for value in (False, True):  # close gaps, then drop what is short
        for p in range(stands.shape[1]):
            for start, end in runs(stands[:, p] == value):
                inside = start > 0 and end < len(stands)
                if end - start < shortest and (inside or value):
                    stands[start:end, p] = not value
    return stands


def runs(flags: Bool[np.ndarray, "F"]) -> list[tuple[int, int]]:
    """(start, end) of each stretch of true flags."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]


@dataclasses.dataclass(frozen=True)
class Standing:
    """How well a motion stands on the floor y = 0.

    Attributes:
        foot_skate: mean horizontal speed of sole points below 5 cm, of the slower one of each foot, m/s; NaN: none.
        penetration: mean depth of the lowest vertex under the floor, metres.
        float: mean height of the lowest vertex above the floor outside flights, metres.
        airborne: share of frames in flight.
        travel: metres from the first place to the last, along the floor.
    """

    foot_skate: float
    penetration: float
    float: float
    airborne: float
    travel: float


def standing(
    lowest: Float[np.ndarray, "F"],
    points: Float[np.ndarray, "F 6 3"],
    root: Float[np.ndarray, "F 3"],
    flies: Bool[np.ndarray, "F"],
    fps: float,
) -> Standing:
    """Measure a motion; the same for real clips and for ours.

    Args:
        lowest: height of the lowest vertex, metres.
        points: of `sole_points`.
        root: position of the pelvis.
        flies: frames in flight.
        fps: frames a second.
    """
    feet = points.reshape(len(points), 2, 3, 3)
    speed = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * fps
    low = (feet[1:, ..., 1] < LOW) & (feet[:-1, ..., 1] < LOW)
    slowest = np.where(low, speed, np.inf).min(axis=-1)  # a foot that rolls stands on one of its points
    stands = np.isfinite(slowest) & ~flies[1:, None]
    return Standing(
        foot_skate=float(slowest[stands].mean()) if stands.any() else float("nan"),
        penetration=float(np.maximum(-lowest, 0).mean()),
        float=float(np.maximum(lowest[~flies], 0).mean()) if (~flies).any() else 0.0,
        airborne=float(flies.mean()),
        travel=float(np.linalg.norm((root[-1] - root[0])[[0, 2]])),
    )
