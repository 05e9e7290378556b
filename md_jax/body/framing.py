"""How much of a body is in the picture of cameras that stand around it: a few sums, before anything is rendered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from md_jax.body.model import Body
from md_jax.errors import UserError

LEAST = 0.9  # of a body's surface that a start shows
TURN = math.radians(15)  # between cameras on an arc
NEAR = 0.05  # metres in front of a camera, from where on it sees
FARTHEST = 1000.0  # metres: of --distance


@dataclasses.dataclass(frozen=True)
class Lens:
    """What all cameras of a run have in common.

    Attributes:
        distance: metres from the target.
        fov: vertical field of view, radians.
        aspect: width over height of the picture; None: not known yet, and nothing is cut off at the sides.
        target: the point looked at, metres.
    """

    distance: float
    fov: float
    aspect: float | None
    target: tuple[float, float, float]


def surface_of(body: Body) -> Float[np.ndarray, "V"]:
    """Each vertex's share of the surface of a body at rest: vertices crowd in faces and hands."""
    corners = np.asarray(body.triangles)
    a, b, c = np.moveaxis(np.asarray(body.v_template, np.float64)[corners], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    share = np.bincount(corners.ravel(), np.repeat(area, 3), minlength=len(body.v_template))
    return share / share.sum()


def cameras_on(
    arcs: Sequence[tuple[float, float]], elevation: tuple[float, float]
) -> tuple[Float[np.ndarray, "C"], Float[np.ndarray, "C"]]:
    """(azimuth, elevation) of cameras that stand for all on the arcs, at the lowest, middle and highest elevation."""
    steps = [max(math.ceil((high - low) / TURN), 0) for low, high in arcs]
    around = np.concatenate([np.linspace(*arc, n + 1) for arc, n in zip(arcs, steps, strict=True)])
    above = np.unique(np.linspace(*elevation, 3))
    return np.tile(around, len(above)), np.repeat(above, len(around))


def share_in_picture(
    verts: Float[np.ndarray, "F V 3"],
    surface: Float[np.ndarray, "V"],
    cameras: tuple[Float[np.ndarray, "C"], Float[np.ndarray, "C"]],
    lens: Lens,
) -> Float[np.ndarray, "F C"]:
    """How much of the surface projects into each camera's picture, hidden or not.

    Args:
        verts: metres.
        surface: from `surface_of`.
        cameras: (azimuth, elevation) in radians; azimuth 0 is in front of the body, π/2 at its left.
        lens: of all of them.
    """
    shares = []
    for around, above in zip(*cameras, strict=True):
        x, y, z = np.moveaxis(np.asarray(verts, np.float64) - np.asarray(lens.target), -1, 0)
        right, ahead = x * math.cos(around) - z * math.sin(around), x * math.sin(around) + z * math.cos(around)
        up = y * math.cos(above) - ahead * math.sin(above)
        depth = lens.distance - y * math.sin(above) - ahead * math.cos(above)
        reach = depth * math.tan(lens.fov / 2)
        inside = (depth > NEAR) & (np.abs(up) <= reach)
        if lens.aspect is not None:
            inside &= np.abs(right) <= reach * lens.aspect
        shares.append(inside @ surface)
    return np.stack(shares, axis=1)


def check_framing(
    verts: Float[np.ndarray, "F V 3"],
    surface: Float[np.ndarray, "V"],
    cameras: tuple[Float[np.ndarray, "C"], Float[np.ndarray, "C"]],
    lens: Lens,
    sentence: str,
    root: str,
) -> None:
    """Refuse a start of which a frame has less than `LEAST` of the body in the picture, on the mean of its cameras.

    Args:
        verts, surface, cameras, lens: as in `share_in_picture`.
        sentence: the motion's, for the message.
        root: as in --root.

    Raises:
        UserError: it has; the message says what would do.
    """

    def least(lens: Lens, verts: Float[np.ndarray, "F V 3"] = verts) -> float:
        return float(share_in_picture(verts, surface, cameras, lens).mean(axis=1).min())

    share = least(lens)
    if share >= LEAST:
        return
    away = lens.distance
    while away < FARTHEST and least(dataclasses.replace(lens, distance=away)) < LEAST:
        away *= 1.1
    ways = ["a larger --fov" if away >= FARTHEST else f"--distance={math.ceil(10 * away) / 10:g} or a larger --fov"]
    if lens.aspect is not None and least(dataclasses.replace(lens, aspect=None)) >= LEAST:
        ways.append("a larger --width")
    if root == "full":
        middle = (verts.max(axis=1) + verts.min(axis=1))[:, None] / 2 - np.asarray(lens.target)
        if least(lens, verts - middle * np.array([0, 1, 0])) >= LEAST:
            ways.append("--root=orient, which leaves out the height of its statistics")
    raise UserError(
        f"the start of {sentence!r} has {math.floor(100 * share)} % of the body in the picture, and at least"
        f" {100 * LEAST:g} % are expected: cameras {lens.distance:g} m away see {math.degrees(lens.fov):g} degrees of"
        f" height; take {', or '.join(ways)}."
    )
