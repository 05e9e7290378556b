"""A motion on its feet: the floor at y = 0, standing feet that stay, flights that fall, and how well that went."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from md_jax.body import lbs
from md_jax.body.model import Body
from md_jax.mocap.motion import Motion
from md_jax.mocap.statistics import PoseStatistics
from md_jax.output.ground.height import stand
from md_jax.output.ground.polish import polish
from md_jax.output.ground.soles import Standing, contacts, sole_points, standing
from md_jax.output.ground.travel import part_of_vertices, parts_of, path_of, standing_part

Ground = Literal["travel", "inplace", "none"]
TRAVELS = 0.15  # metres: an action travels whose mean place in a second's window is further than this from its start


class Feet:
    """A body, ready to be put on the floor; makes what does not depend on the motion once."""

    def __init__(self, body: Body, betas: Float[np.ndarray, "S"]) -> None:
        betas = np.trim_zeros(np.asarray(betas, np.float32), "b")
        self.baked = lbs.bake(body, betas=jnp.asarray(betas) if len(betas) else None)
        self.part = part_of_vertices(body)
        self.soles = lbs.select(self.baked, sole_points(body))

    def vertices(self, motion: Motion) -> Float[np.ndarray, "F V 3"]:
        """Posed vertices, hands flat, at the motion's place."""
        return np.asarray(lbs.pose(self.baked, motion.body_pose, motion.root_orient, motion.transl))

    def points(self, motion: Motion) -> Float[np.ndarray, "F 6 3"]:
        """The points of the soles (`md_jax.output.ground.soles.sole_points`)."""
        return np.asarray(lbs.pose(self.soles, motion.body_pose, motion.root_orient, motion.transl))

    def measure(self, motion: Motion, flies: Bool[np.ndarray, "F"] | None = None) -> Standing:
        """How well a motion stands on the floor y = 0; `flies` is found from its heights where it is not known."""
        lowest = self.vertices(motion)[..., 1].min(axis=1)
        if flies is None:
            flies = lowest > 0.05
        return standing(lowest, self.points(motion), motion.transl, flies, motion.fps)


def travels(statistics: PoseStatistics) -> bool:
    """Whether an action goes anywhere, by its statistics; where they do not say, its feet decide."""
    if statistics.transl_mean is None:
        return True
    return bool(np.hypot(statistics.transl_mean[0], statistics.transl_mean[2]) > TRAVELS)


def on_ground(motion: Motion, feet: Feet, ground: Ground) -> tuple[Motion, dict[str, Standing]]:
    """The motion with the floor at y = 0, and measures of it before and after.

    "none" changes nothing. Otherwise heights come from the poses (`height`), the way along the floor from the motion's
    own translation, where it has one, or from the foot that stands (`travel`); then the legs give way by a few degrees
    until standing feet stay where they are (`polish`). "inplace" takes the mean velocity out again, as on a treadmill.

    Args:
        motion: F frames, two at least.
        feet: its body.
        ground: how.

    Returns:
        The motion, and {"before", "after"}: before, the motion as it was, on a floor at its median lowest point.
    """
    lowest = feet.vertices(motion)[..., 1].min(axis=1)
    raised = dataclasses.replace(motion, transl=motion.transl - np.array([0, np.median(lowest), 0]))
    before = feet.measure(raised, np.zeros(len(lowest), bool))
    if ground == "none" or len(lowest) < 3:
        return motion, {"before": before}
    own_way = float(np.ptp(motion.transl[:, [0, 2]], axis=0).max()) > 1e-3
    placed, flies, path = _at_height(dataclasses.replace(motion, transl=motion.transl * (1, 0, 1)), feet)
    if not own_way:
        placed = _moved(placed, path)
    stands = contacts(feet.points(placed), motion.fps) & ~flies[:, None]
    if stands.any():
        pose, transl = polish(feet.soles, placed.body_pose, placed.root_orient, placed.transl, stands, motion.fps)
        placed = dataclasses.replace(placed, body_pose=pose, transl=transl - transl[:1] * (not own_way, 0, not own_way))
    after = feet.measure(placed, flies)
    if ground == "inplace":
        drift = np.linspace(0, 1, len(lowest))[:, None] * (placed.transl[-1:] - placed.transl[:1])[:, [0, 2]]
        placed = _moved(placed, -drift)
    return placed, {"before": before, "after": after}


def still_on_ground(motion: Motion, feet: Feet, ground: Ground) -> Motion:
    """A control: its lowest point on the floor in every frame, and nothing else changed."""
    if ground == "none":
        return motion
    lowest = feet.vertices(motion)[..., 1].min(axis=1)
    return dataclasses.replace(motion, transl=motion.transl - lowest[:, None] * (0, 1, 0))


def numbers(measured: Standing) -> dict[str, float | None]:
    """Measures as JSON has them: rounded, null for none."""
    return {k: round(v, 4) if np.isfinite(v) else None for k, v in dataclasses.asdict(measured).items()}


def _at_height(motion: Motion, feet: Feet) -> tuple[Motion, Bool[np.ndarray, "F"], Float[np.ndarray, "F 2"]]:
    """The motion with its standing part on the floor, or in flight; the frames in flight; and its way."""
    in_place = dataclasses.replace(motion, transl=np.zeros_like(motion.transl))
    parts = parts_of(feet.vertices(in_place), feet.points(in_place), feet.part, motion.fps)
    stands = standing_part(parts, motion.fps)
    height, flies = stand(parts.lowest[np.arange(len(stands)), stands], parts.lowest.min(axis=1), motion.fps)
    path = path_of(parts, stands, flies, motion.fps)
    return dataclasses.replace(motion, transl=motion.transl + height[:, None] * (0, 1, 0)), flies, path


def _moved(motion: Motion, by: Float[np.ndarray, "#F 2"]) -> Motion:
    """The motion, moved along the floor."""
    return dataclasses.replace(motion, transl=motion.transl + by[:, :1] * (1, 0, 0) + by[:, 1:] * (0, 0, 1))
