"""When a body flies, and how high it is: its mass follows the floor, or falls.

The poses alone say how high the centre of mass would be if the lowest point of the body touched the floor, h(t). A
floor pushes and does not pull: where h drops faster than gravity lets a mass drop, the body has left the floor, and its
mass goes along a parabola until it lands. Which stretches are flights is chosen for the whole motion at once, as the
cheapest way through time.

A run's flights are short, and its heights say little of them: at ten poses a second they last a frame or two. There the
feet tell: at the speed at which the gait goes, no low point stands still (`Footing`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.ndimage import gaussian_filter1d

GRAVITY = 9.81  # m/s²
SHORTEST, LONGEST = 0.1, 1.0  # seconds of a flight
CLEARANCE = 0.05  # metres between feet and floor that a flight has at its best; less is noise in the poses
FASTEST = 3.5  # m/s at take-off: a jump of 60 cm
RATE = 30.0  # frames a second at which flights are looked for
SMOOTHING = (
    0.03  # s, standard deviation, of heights on the floor: weight goes from foot to foot at once, a body does not
)
# What costs 1: an acceleration below −g (m/s², a frame), speed at take-off less or more than the legs' (m/s), speed at
# landing more or less than the legs take up, a frame that deep in the floor (m), and what a flight costs, less LENGTH a
# second of it.
PULL, MOST = 8.0, 4.0
SLOWER, FASTER, HARDER, SOFTER = 0.25, 0.7, 1.2, 0.3
DEPTH, FIXED, LENGTH = 0.02, 3.5, 3.0
NEAR = 0.07  # s before and after take-off and landing in which the legs' speed is read
# What costs 1 of a runner: a frame on the floor whose slowest low point moves that much faster than SLIDES (m/s), up to
# MOST; and HELD what a frame in flight costs whose slowest low point stands still.
SLIDES, SLIDING, HELD = 1.0, 0.7, 4.0
SLIDING_MOST = 8.0
RUNS = (1.9, 2.5)  # m/s: a body that goes slower walks, one that goes faster runs
PACE = 0.1  # s, standard deviation, of the speed that says which


class Footing(NamedTuple):
    """How a body stands on its way at the gait's speed, between F frames.

    Attributes:
        slip: horizontal speed of the slowest low point, m/s.
        pace: of the body, m/s.
    """

    slip: Float[np.ndarray, "F-1"]
    pace: Float[np.ndarray, "F-1"]


class Heights(NamedTuple):
    """How high a mass is in each of F frames, metres, and the frames in which the body flies."""

    height: Float[np.ndarray, "F"]
    flies: Bool[np.ndarray, "F"]


def ballistic(standing: Float[np.ndarray, "F"], fps: float, known: Sequence[tuple[int, int]] | None = None) -> Heights:
    """Heights of the centre of mass: those that the floor gives, and parabolas between take-off and landing.

    Args:
        standing: height of the centre of mass above the lowest point of the body, metres.
        fps: frames a second.
        known: the flights, as `flights` gives them, where they have been found already.
    """
    standing = np.asarray(standing, np.float64)
    frames = len(standing)
    flies, height = np.zeros(frames, bool), standing.copy()
    for first, last in flights(standing, fps) if known is None else known:
        inside = np.arange(first + 1, last)
        flies[inside] = True
        height[inside] = arc(standing[first], standing[last], last - first, fps)[1]
    on_floor = smooth(np.where(flies, height, standing), SMOOTHING * fps)
    edge = np.array([flies[max(i - 1, 0) : i + 2].any() for i in range(frames)])  # a parabola is as smooth as can be
    return Heights(np.where(edge, height, on_floor), flies)


def arc(start: float, end: float, frames: int, fps: float) -> tuple[float, Float[np.ndarray, "frames-1"], float]:
    """(speed at take-off, heights in between, speed at landing) of a fall from `start` to `end`, `frames` later."""
    seconds = frames / fps
    speed = (end - start) / seconds + GRAVITY * seconds / 2
    t = np.arange(1, frames) / fps
    return speed, start + speed * t - GRAVITY / 2 * t**2, speed - GRAVITY * seconds


def flights(standing: Float[np.ndarray, "F"], fps: float, footing: Footing | None = None) -> list[tuple[int, int]]:
    """(last frame on the floor, first frame on it again) of each flight.

    Args:
        standing: as in `ballistic`.
        fps: frames a second.
        footing: what the feet say; without it, heights alone decide.
    """
    stride = max(1, round(fps / RATE))
    seen = np.asarray(standing)[::stride]
    if footing is not None:
        starts = np.arange(0, len(standing) - 1, stride)
        footing = Footing(*(np.minimum.reduceat(each, starts)[: len(seen) - 1] for each in footing))
    return [(stride * a, stride * b) for a, b in _cheapest(seen, fps / stride, footing)]


def _cheapest(standing: Float[np.ndarray, "F"], fps: float, footing: Footing | None) -> list[tuple[int, int]]:
    """The flights on the cheapest way through all frames."""
    frames = len(standing)
    if frames < 3:
        return []
    rate = RATE / fps  # costs of a frame are of frames at RATE
    velocity = np.diff(standing) * fps
    floor, air = (each / rate for each in (_of_footing(footing, fps) if footing else (np.zeros(frames),) * 2))
    near = max(1, round(NEAR * fps))
    peak = np.array([velocity[max(0, i - near) : i + near].max() for i in range(frames)])
    dip = np.array([velocity[max(0, i - near) : i + near].min() for i in range(frames)])
    floor[1:-1] += np.minimum((np.maximum(0, -np.diff(velocity) * fps - GRAVITY) / PULL) ** 2, MOST) / rate
    air = np.cumsum(air)
    cost, origin = np.zeros(frames), np.arange(-1, frames - 1)
    shortest, longest = max(2, int(np.ceil(SHORTEST * fps))), int(LONGEST * fps)
    for t in range(1, frames):
        cost[t] = cost[t - 1] + floor[t]
        for a in range(max(0, t - longest), t - shortest + 1):
            speed, heights, landing = arc(standing[a], standing[t], t - a, fps)
            clear = heights - standing[a + 1 : t]
            if clear.max() < CLEARANCE or speed > FASTEST:
                continue
            price = FIXED - LENGTH * (t - a) / fps + (np.minimum(clear, 0) ** 2).sum() / DEPTH**2 / rate
            price += _off(speed - peak[a], SLOWER, FASTER) if a else _off(speed, FASTER, FASTER)
            price += _off(landing - dip[t], HARDER, SOFTER) if t < frames - 1 else 0.0
            price += air[t] - air[a]
            if cost[a] + price < cost[t]:
                cost[t], origin[t] = cost[a] + price, a
    found, t = [], frames - 1
    while t > 0:
        if origin[t] < t - 1:
            found.append((int(origin[t]), t))
        t = int(origin[t])
    return found[::-1]


def _of_footing(footing: Footing, fps: float) -> tuple[Float[np.ndarray, "F"], Float[np.ndarray, "F"]]:
    """(cost of each frame on the floor, of each in the air) at RATE: of a runner alone, since slow feet slip little."""
    runs = running(footing.pace, fps)
    floor = runs * np.minimum((np.maximum(0, footing.slip - SLIDES) / SLIDING) ** 2, SLIDING_MOST)
    air = runs * HELD * np.maximum(0, 1 - footing.slip / SLIDES)
    return np.append(0, floor), np.append(0, air)


def running(pace: Float[np.ndarray, "F"], fps: float) -> Float[np.ndarray, "F"]:
    """How much a body that goes at `pace` (m/s) runs: 0 where it walks, 1 where it runs."""
    return np.clip((smooth(pace, PACE * fps) - RUNS[0]) / (RUNS[1] - RUNS[0]), 0, 1)


def _off(difference: float, below: float, above: float) -> float:
    return (difference / (above if difference > 0 else below)) ** 2


def smooth(values: Float[np.ndarray, "F *n"], sigma: float) -> Float[np.ndarray, "F *n"]:
    """Values along time, smoothed by a Gaussian of `sigma` frames; the ends go on along a straight line."""
    values = np.asarray(values, np.float64)
    reach = min(int(np.ceil(4 * sigma)), len(values) - 1)
    if reach < 1 or sigma < 0.3:
        return values
    first, last = 2 * values[:1] - values[reach:0:-1], 2 * values[-1:] - values[-2 : -reach - 2 : -1]
    return gaussian_filter1d(np.concatenate([first, values, last]), sigma, axis=0)[reach:-reach]
