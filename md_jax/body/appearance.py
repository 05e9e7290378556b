"""A painted appearance for any SMPL-X body: vertex colours that tell left from right and front from back."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

Mask = Float[np.ndarray, "V"]

# sRGB. The body's left is warm, its right is cool; the shirt is light in front and dark behind.
SKIN = (0.87, 0.66, 0.54)
HAIR = (0.19, 0.11, 0.07)
EYE_WHITE, IRIS, PUPIL = (0.96, 0.96, 0.95), (0.22, 0.38, 0.50), (0.03, 0.03, 0.03)
SHIRT_FRONT, SHIRT_BACK, STRIPE = (0.94, 0.91, 0.82), (0.27, 0.30, 0.36), (0.16, 0.55, 0.28)
SLEEVE_LEFT, SLEEVE_RIGHT = (0.92, 0.34, 0.14), (0.12, 0.42, 0.82)
TROUSERS_LEFT, TROUSERS_RIGHT = (0.50, 0.13, 0.15), (0.10, 0.15, 0.38)
SHOE_LEFT, SHOE_RIGHT = (0.97, 0.77, 0.12), (0.20, 0.78, 0.74)

# SMPL-X joint numbers.
PELVIS, L_HIP, R_HIP, SPINE1, NECK, HEAD, JAW, L_EYE, R_EYE = 0, 1, 2, 3, 12, 15, 22, 23, 24
SPINE3, L_ANKLE, R_ANKLE, L_SHOULDER, R_SHOULDER = 9, 7, 8, 16, 17
LEGS = (1, 2, 4, 5, 7, 8, 10, 11)
FEET = (7, 8, 10, 11)
SLEEVES = (16, 17, 18, 19)
HANDS = (20, 21, *range(25, 55))


def paint(
    v_template: Float[np.ndarray, "V 3"],
    weights: Float[np.ndarray, "V 55"],
    joints: Float[np.ndarray, "55 3"],
) -> Float[np.ndarray, "V 3"]:
    """Paint skin, hair, eyes, shirt, trousers and shoes on a body in the SMPL-X T-pose.

    Args:
        v_template: Rest vertices, metres, y up, facing +z, the body's left at +x.
        weights: Skinning weights, rows summing to one.
        joints: Rest joints, metres (`J_regressor @ v_template`).

    Returns:
        sRGB vertex colours in [0, 1], float32.

    Raises:
        ValueError: If the three arrays are not those of one SMPL-X body.
    """
    v, w, j = (np.asarray(x, dtype=np.float64) for x in (v_template, weights, joints))
    if v.ndim != 2 or v.shape[1] != 3 or w.shape != (len(v), 55) or j.shape != (55, 3):
        raise ValueError(
            f"expected v_template (V,3), weights (V,55) and joints (55,3), found {v.shape}, {w.shape} and "
            f"{j.shape}; pass the rest arrays of one SMPL-X body"
        )
    size = np.ptp(v[:, 1]) / 1.7
    x, y, z = v.T
    left = _ramp(x, 0.0, 0.004 * size)
    # The plane through hips and shoulders parts front from back.
    hips, shoulders = 0.5 * (j[L_HIP] + j[R_HIP]), 0.5 * (j[L_SHOULDER] + j[R_SHOULDER])
    height = (y - hips[1]) / (shoulders[1] - hips[1])
    front = _ramp(z - hips[2] - height * (shoulders[2] - hips[2]), 0.0, 0.01 * size)

    colors = np.tile(np.array(SKIN), (len(v), 1))
    _paint_head(colors, v, w, j)

    waist = j[PELVIS, 1] + 0.7 * (j[SPINE1, 1] - j[PELVIS, 1])
    collar = _ramp(j[NECK, 1] + 0.012 * size - y - 0.25 * (z - j[NECK, 2]), 0.0, 0.015 * size)
    clothed = collar * (1 - _share(w, HANDS)) * (1 - _ramp(w[:, HEAD] + w[:, JAW], 0.5, 0.1))
    below_waist = _ramp(waist - y, 0.0, 0.015 * size) * (1 - _share(w, SLEEVES))
    chest = 0.5 * (j[SPINE3, 1] + shoulders[1]) - 0.02 * size
    stripe = front * _ramp(0.035 * size - np.abs(y - chest), 0.0, 0.012 * size)
    _cover(colors, clothed, _mix(SHIRT_BACK, SHIRT_FRONT, front))
    _cover(colors, clothed * stripe, STRIPE)
    _cover(colors, clothed * _share(w, SLEEVES), _mix(SLEEVE_RIGHT, SLEEVE_LEFT, left))
    _cover(colors, np.maximum(below_waist, _share(w, LEGS)), _mix(TROUSERS_RIGHT, TROUSERS_LEFT, left))
    ankle = 0.5 * (j[L_ANKLE, 1] + j[R_ANKLE, 1])
    shoe = _ramp(ankle + 0.015 * size - y, 0.0, 0.008 * size) * _share(w, FEET)
    _cover(colors, shoe, _mix(SHOE_RIGHT, SHOE_LEFT, left))
    return colors.astype(np.float32)


def _paint_head(colors: np.ndarray, v: np.ndarray, w: np.ndarray, j: np.ndarray) -> None:
    """Hair, brows and eyes, painted over `colors`; lengths are shares of the height from eyes to crown."""
    x, y, z = v.T
    eyes = 0.5 * (j[L_EYE] + j[R_EYE])
    on_head = w[:, HEAD] + w[:, NECK] > 0.5
    skull = w[:, HEAD] > 0.5
    unit = y[skull].max() - eyes[1]
    up, depth = (y - eyes[1]) / unit, (z - j[JAW, 2]) / (z[skull].max() - j[JAW, 2])
    # The hairline seen from the side: nape, behind the ear, sideburn, temple, forehead.
    hairline = np.interp(depth, [-1.0, -0.45, -0.1, 0.1, 0.25, 0.5, 0.8], [-1.0, -0.85, -0.3, -0.15, 0.25, 0.5, 0.62])
    above_ears = skull & (up > 0.25)
    ear = (np.abs(x) > 1.02 * np.abs(x[above_ears]).max()) & (up < 0.25)
    _cover(colors, on_head * ~ear * _ramp(up, hairline, 0.12), HAIR)
    for eye in (L_EYE, R_EYE):
        sideways = (np.abs(x) - abs(j[eye, 0])) / unit
        arch = 0.19 - 0.5 * (sideways - 0.03) ** 2
        brow = _ramp(0.035 - np.abs(up - arch), 0.0, 0.02) * _ramp(0.19 - np.abs(sideways - 0.02), 0.0, 0.03)
        _cover(colors, 0.85 * skull * (depth > 0.3) * (np.sign(x) == np.sign(j[eye, 0])) * brow, HAIR)
        ball = w[:, eye] > 0.5
        if not ball.any():
            continue
        ray = v - 0.5 * (v[ball].max(0) + v[ball].min(0))
        angle = np.degrees(np.arctan2(np.hypot(ray[:, 0], ray[:, 1]), ray[:, 2]))
        _cover(colors, ball, EYE_WHITE)
        _cover(colors, ball * _ramp(24.0 - angle, 0.0, 3.0), IRIS)
        _cover(colors, ball * _ramp(10.0 - angle, 0.0, 3.0), PUPIL)


def _ramp(value: np.ndarray, edge: "np.ndarray | float", width: float) -> Mask:
    """0 below `edge`, 1 above it, smooth over `width`, so that borders do not zigzag with the mesh."""
    t = np.clip((value - edge) / width + 0.5, 0.0, 1.0)
    return t * t * (3 - 2 * t)


def _share(weights: np.ndarray, part: Sequence[int]) -> Mask:
    """1 on the vertices that mostly follow the joints of `part`, 0 elsewhere, smooth at the border."""
    return _ramp(weights[:, list(part)].sum(axis=1), 0.5, 0.2)


def _mix(zero: Sequence[float], one: Sequence[float], share: Mask) -> np.ndarray:
    return np.array(zero) + share[:, None] * (np.array(one) - np.array(zero))


def _cover(colors: np.ndarray, opacity: np.ndarray, color: "Sequence[float] | np.ndarray") -> None:
    colors += np.asarray(opacity, dtype=np.float64)[:, None] * (np.asarray(color) - colors)
