"""How high a body is: its lowest point stands on the floor, unless it would be pulled down faster than it falls.

The poses alone say how high the body must be for its lowest point to touch the floor, p(t). A floor can push and not
pull: where p falls faster than gravity lets the body fall, the body leaves the floor with the velocity that it has, and
flies until p catches up. So a jump and the flight of a run come out of the poses without any label.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

GRAVITY = 9.81  # m/s²
MIN_FLIGHT, MIN_CLEARANCE = 0.09, 0.015  # s, m: shorter and lower flights are noise in the poses
MAX_TAKEOFF = 3.3  # m/s: a jump of more than half a metre is noise, too
SMOOTHING = 0.04  # s: the lowest point moves from one foot to the other at once, the body does not


def stand(
    standing: Float[np.ndarray, "F"], lowest: Float[np.ndarray, "F"], fps: float, *, smoothing: float = SMOOTHING
) -> tuple[Float[np.ndarray, "F"], Bool[np.ndarray, "F"]]:
    """Height to add to each frame, and the frames in which the body flies.

    Args:
        standing: height of the lowest point of the part that stands, metres, before anything is added.
        lowest: of the whole body; lower than `standing` where the toes of the other foot hang through the floor.
        fps: frames a second.
        smoothing: standard deviation in seconds of the smoothing of heights. A fall stays one: its curvature is even.

    Returns:
        (metres to add, True in flight).
    """
    height, needed = -np.asarray(standing, np.float64), smooth(-np.asarray(lowest, np.float64), fps / 60)
    flies, t = np.zeros(len(needed), bool), 0
    while t + 1 < len(needed):
        before = max(t - 1, 0)
        velocity = (needed[t] - needed[before]) * fps / max(t - before, 1)
        arc = _flight(needed, t, min(velocity, MAX_TAKEOFF), fps)
        if arc is None:
            t += 1
            continue
        height[t + 1 : t + 1 + len(arc)] = arc
        flies[t + 1 : t + 1 + len(arc)] = True
        t += len(arc)
    return smooth(height, smoothing * fps), flies


def _flight(needed: Float[np.ndarray, "F"], t: int, velocity: float, fps: float) -> Float[np.ndarray, "n"] | None:
    """Heights of the flight that begins after frame t, or None if there is none worth the name."""
    seconds = np.arange(1, len(needed) - t) / fps
    arc = needed[t] + velocity * seconds - GRAVITY / 2 * seconds**2
    landed = np.flatnonzero(arc <= needed[t + 1 :])
    length = landed[0] if len(landed) else len(arc)
    clearance = (arc - needed[t + 1 :])[:length]
    enough = length and length / fps >= MIN_FLIGHT and clearance.max() >= MIN_CLEARANCE
    return arc[:length] if enough else None


def smooth(values: Float[np.ndarray, "F *n"], sigma: float) -> Float[np.ndarray, "F *n"]:
    """Values along time, smoothed by a Gaussian of `sigma` frames; the ends are continued along a straight line."""
    reach = int(np.ceil(3 * sigma))
    if reach == 0 or len(values) < 3:
        return np.array(values, np.float64)
    reach = min(reach, len(values) - 1)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    values = np.asarray(values, np.float64)
    first, last = 2 * values[:1] - values[reach:0:-1], 2 * values[-1:] - values[-2 : -reach - 2 : -1]
    padded = np.concatenate([first, values, last])
    windows = np.lib.stride_tricks.sliding_window_view(padded, len(kernel), axis=0)
    return windows @ kernel
