"""Lines on the floor, a metre apart, behind the bodies of rendered pictures: they show where a body goes and stands."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, UInt8

from md_jax.output import sheet

APART, THICK = 1.0, 0.02  # metres
LINE = (186, 195, 208)  # sRGB
CLEAR, GONE = 0.8, 2.8  # metres from the point looked at: lines fade in between


def draw_grid(
    pictures: UInt8[np.ndarray, "F H W 3"],
    path: Float[np.ndarray, "F 3"],
    *,
    azimuth: float,
    fov: float,
    distance: float,
    target: tuple[float, float, float],
) -> UInt8[np.ndarray, "F H W 3"]:
    """Draw the lines of the floor y = 0 where a picture shows nothing else.

    Args:
        pictures: sRGB on the background `sheet.PANEL`, row 0 at the top.
        path: how far the camera, and what it looks at, has gone in each frame, metres.
        azimuth, fov: radians, of a level camera.
        distance: metres from the target.
        target: the point looked at, before it goes along the path, metres; above the floor.

    Returns:
        New pictures.
    """
    height, width = pictures.shape[1:3]
    pixel = 2 * math.tan(fov / 2) / height
    top = height // 2 + 1  # rows below the horizon
    down = ((np.arange(top, height) + 0.5 - height / 2) * pixel).astype(np.float32)
    aside = ((np.arange(width) + 0.5 - width / 2) * pixel).astype(np.float32)
    depth = target[1] / down[:, None]
    across, toward = depth * aside, np.broadcast_to(distance - depth, (len(down), width))
    x = across * math.cos(azimuth) + toward * math.sin(azimuth)
    z = toward * math.cos(azimuth) - across * math.sin(azimuth)
    share = np.clip((GONE - np.hypot(across, toward)) / (GONE - CLEAR), 0, 1)
    steps = [sum(np.abs(each) for each in np.gradient(axis)) for axis in (x, z)]  # metres from pixel to pixel
    drawn, panel, line = pictures.copy(), np.array(sheet.PANEL, np.float32), np.array(LINE, np.float32)
    for picture, gone in zip(drawn, path, strict=True):
        covered = np.zeros_like(share)
        for axis, step, origin in ((x, steps[0], target[0] + gone[0]), (z, steps[1], target[2] + gone[2])):
            covered = np.maximum(covered, _covered(axis + origin, step))
        covered = (covered * share)[..., None]
        lines = np.round(panel + (line - panel) * covered).astype(np.uint8)
        below = picture[top:]
        empty = (below == np.array(sheet.PANEL, np.uint8)).all(axis=-1, keepdims=True)
        below[:] = np.where(empty, lines, below)
    return drawn


def _covered(place: Float[np.ndarray, "h w"], step: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """The share of each pixel, `step` metres wide, that the nearest line covers."""
    off = np.abs(place - APART * np.round(place / APART))
    inside = np.minimum(off + step / 2, THICK / 2) - np.maximum(off - step / 2, -THICK / 2)
    return np.clip(inside / step, 0, 1)
