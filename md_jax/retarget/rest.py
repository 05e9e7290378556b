"""The pose in which a character was built: where its bones are when nothing moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from md_jax.retarget.characters import Skeleton
from md_jax.retarget.transfer import orthogonal

_SAME = 0.02  # of a skeleton's size, and radians: a pose that differs by less is the same


def rest_pose(
    skeleton: Skeleton, bones: Sequence[int], key: Mapping[str, int], *, as_it_stands: bool
) -> tuple[dict[int, Float[np.ndarray, "4 4"]], bool]:
    """Transforms of bones in the rest pose, and whether the file's nodes stand in it.

    A file's nodes may hold any pose, often the first frame of an animation; the pose in which the mesh was bound to the
    bones is the T- or A-pose. Where both agree up to the place and size of the whole, that of the nodes is taken, which
    knows the character's place in the scene.

    Args:
        skeleton: the file's nodes.
        bones: the nodes wanted.
        key: the hips, thighs and head among them, by joint.
        as_it_stands: the nodes are known to hold the rest pose (VRM promises it).
    """
    standing = {node: skeleton.world[node] for node in bones}
    bind = max(skeleton.binds, key=lambda bind: sum(node in bind for node in bones), default={})
    if as_it_stands or not all(node in bind for node in key.values()):
        return standing, True
    shared = [node for node in bones if node in bind]
    moved = np.stack([skeleton.world[node] @ np.linalg.inv(bind[node]) for node in shared])
    between = np.linalg.inv(moved[0]) @ moved
    size = np.ptp([bind[node][:3, 3] for node in shared], axis=0).max()
    centre = np.append(bind[key["pelvis"]][:3, 3], 1.0)
    shift = np.linalg.norm((between @ centre)[:, :3] - centre[:3], axis=1).max()
    turn = np.abs(orthogonal(between[:, :3, :3]) - np.eye(3)).max()
    if shift < _SAME * size and turn < _SAME:
        return standing, True
    scale = np.median(np.cbrt(np.abs(np.linalg.det(moved[:, :3, :3]))))
    upright = np.eye(4)
    upright[:3, :3] = scale * _upright({joint: bind[node][:3, 3] for joint, node in key.items()})
    rest: dict[int, np.ndarray] = {}
    for node in bones:
        chain = [node]  # a bone that no vertex hangs on stands to the one above it as it does in the file
        while chain[-1] not in bind and skeleton.parents[chain[-1]] >= 0:
            chain.append(skeleton.parents[chain[-1]])
        if chain[-1] not in bind:
            return standing, True
        above = chain[-1]
        rest[node] = upright @ bind[above] @ np.linalg.inv(skeleton.world[above]) @ skeleton.world[node]
    return rest, False


def _upright(places: Mapping[str, Float[np.ndarray, "3"]]) -> Float[np.ndarray, "3 3"]:
    """The rotation by quarter turns that brings the head above the hips and the left thigh to +x."""
    up = places["head"] - places["pelvis"]
    left = places["left_hip"] - places["right_hip"]
    left = left / np.linalg.norm(left)
    up = up - (up @ left) * left
    up /= np.linalg.norm(up)
    wanted = np.stack([left, up, np.cross(left, up)])
    rows = np.argmax(np.abs(wanted), axis=1)
    if len(set(rows.tolist())) < 3:
        return wanted  # halfway between two: taken as it is
    snapped = np.zeros((3, 3))
    snapped[np.arange(3), rows] = np.sign(wanted[np.arange(3), rows])
    return snapped if np.linalg.det(snapped) > 0 else wanted
