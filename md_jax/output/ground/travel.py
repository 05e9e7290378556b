"""Where a body goes: what stands on the floor stays where it is, so the body moves against it.

In poses without translation the standing foot slides backwards. Which part of the body stands is chosen for the whole
motion at once (Viterbi): low parts that keep the body at its speed are likely, and changing costs something.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from md_jax.body.model import PARENTS, Body
from md_jax.output.ground.height import smooth

# Parts that may stand, by the joints whose vertices they have; everything else is a part, too.
PARTS = {"left foot": (7, 10), "right foot": (8, 11), "left hand": (20,), "right hand": (21,), "left shin": (4,),
         "right shin": (5,)}  # fmt: skip
CONTACT_DEPTH = 0.01  # metres: weight of a vertex falls by e with each above the lowest of its part
# Costs of a frame at 30 a second: a part HEIGHT above the lowest costs 1, and so does a change of the body's velocity
# by ACCELERATION, up to MOST; another part CHANGE.
HEIGHT, ACCELERATION, MOST, CHANGE = 0.02, 6.0, 4.0, 2.0  # m, m/s²
SMOOTHING = 0.03  # s


def part_of_vertices(body: Body) -> Int[np.ndarray, "V"]:
    """The part of each vertex: an index into PARTS, or len(PARTS) for the rest of the body."""
    owner = np.asarray(body.weights).argmax(axis=1)
    part = np.full(len(PARENTS), len(PARTS))
    for joint, parent in enumerate(PARENTS):
        own = [p for p, joints in enumerate(PARTS.values()) if joint in joints]
        fingers = joint > 24 and parent >= 0
        part[joint] = own[0] if own else part[parent] if fingers else len(PARTS)
    return part[owner]


class Parts(NamedTuple):
    """Heights and velocities of the parts of a body whose root stays at one place along the floor."""

    lowest: Float[np.ndarray, "F P"]  # height of the lowest vertex, metres
    height: Float[np.ndarray, "F P"]  # what says who stands: of a foot, that of its whole sole; its toes may hang
    velocity: Float[np.ndarray, "F P 2"]  # of the body along x and z if that part stands, m/s


def parts_of(
    vertices: Float[np.ndarray, "F V 3"],
    soles: Float[np.ndarray, "F 6 3"],
    part: Int[np.ndarray, "V"],
    fps: float,
) -> Parts:
    """Measure every part.

    Args:
        vertices: posed, without translation along the floor.
        soles: points of the soles of the same poses (`md_jax.output.ground.soles.sole_points`).
        part: of each vertex, from `part_of_vertices`.
        fps: frames a second.
    """
    frames, count = len(vertices), len(PARTS) + 1
    lowest, velocity = np.full((frames, count), np.inf), np.zeros((frames, count, 2))
    for p in range(count):
        own = vertices[:, part == p]
        if not own.shape[1]:
            continue
        lowest[:, p] = own[..., 1].min(axis=1)
        height = np.maximum(own[:-1, :, 1], own[1:, :, 1])
        weight = np.exp(-(height - height.min(axis=1, keepdims=True)) / CONTACT_DEPTH)
        steps = np.diff(own[..., [0, 2]], axis=0)
        velocity[1:, p] = -np.einsum("fv,fva->fa", weight, steps) / weight.sum(axis=1)[:, None] * fps
    velocity[0] = velocity[1]
    height = lowest.copy()
    height[:, :2] = soles.reshape(frames, 2, 3, 3)[..., 1].mean(axis=2)
    return Parts(lowest, height, velocity)


def standing_part(parts: Parts, fps: float) -> Int[np.ndarray, "F"]:
    """The part that stands in each frame: a low one with which the body goes on as fast as before.

    A foot that swings through hangs low at times, and would throw the body back; so speed counts, too.
    """
    seconds = 30 / fps  # costs are of frames at 30 a second
    cost = (parts.height - parts.height.min(axis=1, keepdims=True)) / HEIGHT * seconds
    best, origin = cost[0], np.zeros(cost.shape, int)
    for t in range(1, len(cost)):
        jump = np.linalg.norm(parts.velocity[t][None] - parts.velocity[t - 1][:, None], axis=-1) * fps / ACCELERATION
        step = np.minimum(jump, MOST) * seconds + CHANGE * (1 - np.eye(cost.shape[1]))
        total = best[:, None] + step
        origin[t] = total.argmin(axis=0)
        best = total.min(axis=0) + cost[t]
    path = np.empty(len(cost), int)
    path[-1] = best.argmin()
    for t in range(len(cost) - 1, 0, -1):
        path[t - 1] = origin[t][path[t]]
    return path


def path_of(
    parts: Parts, stands: Int[np.ndarray, "F"], flies: Bool[np.ndarray, "F"], fps: float
) -> Float[np.ndarray, "F 2"]:
    """The horizontal way (x, z) of the body, in metres, from the first frame on.

    Args:
        parts: from `parts_of`.
        stands: from `standing_part`.
        flies: frames in flight, where the velocity goes evenly from that before to that after.
        fps: frames a second.
    """
    velocity = parts.velocity[np.arange(len(stands)), stands][1:]
    known = np.flatnonzero(~(flies[1:] | flies[:-1]))
    if not len(known):
        return np.zeros((len(stands), 2))
    velocity = np.stack([np.interp(np.arange(len(velocity)), known, velocity[known, a]) for a in range(2)], axis=1)
    steps = smooth(velocity, SMOOTHING * fps) / fps
    return np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])
