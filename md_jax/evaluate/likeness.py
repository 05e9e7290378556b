"""How like real motion a motion is: pure functions of windows of joint positions (metres, the pelvis in its place).

None of them rewards exaggeration: a distance to the nearest real window is large where limbs swing twice too far, and
ranges and speeds are compared with real ones on both sides.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

from md_jax.evaluate import measures

# of the 21 body joints
ANKLES, WRISTS, TOES = (6, 7), (19, 20), (9, 10)
SIDEWAYS, UP, FORE_AFT = 0, 1, 2
_ROWS = 256  # windows at a time, so that they stay in the cache


def nearest(
    windows: Float[np.ndarray, "N F 21 3"], near: Float[np.ndarray, "R F 21 3"]
) -> tuple[Float[np.ndarray, "N"], Int[np.ndarray, "N"]]:
    """Distance of each window to the nearest of the others, and which it is.

    The distance of two windows is the mean over frames and joints of the joints' distance, metres.

    Args:
        windows: what is compared.
        near: what it is compared with, at least one.
    """
    apart = distances(windows, near)
    index = apart.argmin(axis=1)
    return apart[np.arange(len(apart)), index], index


def distances(windows: Float[np.ndarray, "N F P 3"], near: Float[np.ndarray, "R F P 3"]) -> Float[np.ndarray, "N R"]:
    """Mean distance over frames and points of every pair of windows, metres."""
    result = np.empty((len(windows), len(near)), np.float32)
    mine = _by_axis(windows)
    for r in range(0, len(near), _ROWS):
        some = _by_axis(near[r : r + _ROWS])
        for n in range(len(windows)):
            away = some - mine[:, n, None]
            away *= away
            result[n, r : r + _ROWS] = np.sqrt(away.sum(axis=0)).mean(axis=1)
    return result


def _by_axis(windows: Float[np.ndarray, "N F P 3"]) -> Float[np.ndarray, "3 N F*P"]:
    flat = np.asarray(windows, np.float32).reshape(len(windows), -1, 3)
    return np.ascontiguousarray(np.moveaxis(flat, -1, 0))


def velocity_cosine(
    windows: Float[np.ndarray, "N F 21 3"], others: Float[np.ndarray, "N F 21 3"]
) -> Float[np.ndarray, "N"]:
    """Cosine between the joint velocities of two windows, over all frames and joints; 0 for a still one."""
    a, b = (np.diff(x, axis=1).reshape(len(x), -1) for x in (windows, others))
    scale = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(scale, 1e-9)


def sweep(windows: Float[np.ndarray, "N F 21 3"], joints: tuple[int, ...], axis: int) -> Float[np.ndarray, "N"]:
    """How far joints range along an axis, the mean over them, metres."""
    return np.ptp(windows[:, :, list(joints), axis], axis=1).mean(axis=-1)


def lower_foot_speed(windows: Float[np.ndarray, "N F 21 3"], fps: float) -> Float[np.ndarray, "N"]:
    """Mean speed about the pelvis of whichever foot is lower, m/s: of a walk, about its pace."""
    feet = windows[:, :, list(TOES)]
    height = feet[..., UP]
    lower = (height[:, 1:] + height[:, :-1]).argmin(axis=-1)
    speed = np.linalg.norm(np.diff(feet, axis=1), axis=-1) * fps
    return np.take_along_axis(speed, lower[..., None], axis=-1)[..., 0].mean(axis=1)


# Ranges and speeds: each is compared with that of real windows, as a ratio and as a quantile.
EXTENTS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "ankles_fore_aft": lambda windows, fps: sweep(windows, ANKLES, FORE_AFT),
    "ankles_sideways": lambda windows, fps: sweep(windows, ANKLES, SIDEWAYS),
    "wrists_fore_aft": lambda windows, fps: sweep(windows, WRISTS, FORE_AFT),
    "wrists_sideways": lambda windows, fps: sweep(windows, WRISTS, SIDEWAYS),
    "lower_foot_speed": lower_foot_speed,
    "speed": measures.speed,
    "jerk": measures.jerk,
}


def diversity(windows: Float[np.ndarray, "N F 21 3"]) -> float:
    """Mean distance between windows, metres; NaN for fewer than two. Phases are not aligned: real windows begin at
    any phase, and seeds that all begin at the same one lack that variety."""
    count = len(windows)
    if count < 2:
        return float("nan")
    return float(distances(windows, windows).sum() / (count * (count - 1)))


def coverage(windows: Float[np.ndarray, "N F 21 3"], real: Float[np.ndarray, "R F 21 3"], radius: float) -> float:
    """Share of real windows that have one of the windows within the radius (metres)."""
    return float((distances(real, windows).min(axis=1) <= radius).mean())
