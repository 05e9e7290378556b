"""How fast a body goes, by how it moves: what legs and arms do at three moments says where it is going.

Feet alone do not say it where a foot slips or hangs by a few centimetres, as in a motion that was fitted to pictures: a
foot that swings forward and one that pushes backward differ by their heights alone. A small network has learned the
speed from captured motion (tools/train_gait.py), from poses that were read from noised clips of the embedded prior.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from md_jax.mocap.joints import joints, matrices, rest_joints
from md_jax.mocap.motion import Motion

APART = 0.1  # seconds between the moments that are looked at


class Network(NamedTuple):
    """Linear maps with SiLU between them, inputs times outputs."""

    weights: tuple[Float[np.ndarray, "I O"], ...]
    biases: tuple[Float[np.ndarray, "O"], ...]


@functools.lru_cache(maxsize=1)
def network() -> Network:
    """The shipped one."""
    with resources.files("md_jax.assets").joinpath("gait.npz").open("rb") as file:
        data = np.load(file)
        layers = range(len(data.files) // 2)
        weights, biases = (tuple(data[f"{kind}{i}"].astype(np.float32) for i in layers) for kind in ("weight", "bias"))
    return Network(weights, biases)


def features(
    points: Float[np.ndarray, "F 21 3"], heading: Float[np.ndarray, "F"], fps: float
) -> Float[np.ndarray, "F 189"]:
    """Joints just before, at and just after each frame, turned so that the body heads along z.

    Args:
        points: joints about the pelvis, metres.
        heading: of the pelvis, radians from z to x.
        fps: frames a second.
    """
    moments = np.arange(len(points)) + np.array([-APART, 0, APART])[:, None] * fps
    near = np.clip(moments, 0, len(points) - 1)
    low = np.floor(near).astype(int)
    share = (near - low)[..., None, None]
    seen = (1 - share) * points[low] + share * points[np.minimum(low + 1, len(points) - 1)]
    cosine, sine = np.cos(heading)[None, :, None], np.sin(heading)[None, :, None]
    turned = np.stack([cosine * seen[..., 0] - sine * seen[..., 2], seen[..., 1],
                       sine * seen[..., 0] + cosine * seen[..., 2]], axis=-1)  # fmt: skip
    return np.moveaxis(turned, 0, 1).reshape(len(points), -1).astype(np.float32)


def heading_of(root_orient: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F"]:
    """Where the pelvis heads, radians from z to x."""
    forward = matrices(np.asarray(root_orient, np.float32))[..., 2]
    return np.arctan2(forward[:, 0], forward[:, 2])


def velocity(motion: Motion) -> Float[np.ndarray, "F-1 2"]:
    """The root's velocity along x and z between frames, m/s; the motion's own translation is not read."""
    heading = heading_of(motion.root_orient)
    x = features(joints(motion.body_pose, motion.root_orient) - rest_joints()[0], heading, motion.fps)
    net = network()
    for layer, (weight, bias) in enumerate(zip(net.weights, net.biases, strict=True)):
        x = x * expit(x) if layer else x
        x = np.einsum("fi,io->fo", x, weight) + bias  # whose sums, unlike a matmul's, do not depend on threads
    aside, ahead = x.T.astype(np.float64)
    cosine, sine = np.cos(heading), np.sin(heading)
    found = np.stack([cosine * aside + sine * ahead, cosine * ahead - sine * aside], axis=1)
    return (found[1:] + found[:-1]) / 2
