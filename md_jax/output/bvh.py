"""Motion as BVH, the skeleton format that nearly every animation program reads.

Hierarchy of the pelvis and the 21 body joints with end sites, offsets and positions in metres, y up, the body facing
+z in the rest pose. Rotations are Euler angles in degrees, channel order Z X Y: R = Rz Rx Ry. BVH has no unit of its
own: Blender takes a number for a metre, and so the body comes out at its size there as it does from the other files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from md_jax.body.model import BODY_JOINTS
from md_jax.files import write_bytes

# Where a leaf joint's bone ends, as an offset in metres in the rest pose (BVH wants one for each leaf).
END_SITES = {
    "left_foot": (0.0, -0.02, 0.08),
    "right_foot": (0.0, -0.02, 0.08),
    "head": (0.0, 0.18, 0.0),
    "left_wrist": (0.17, 0.0, 0.0),
    "right_wrist": (-0.17, 0.0, 0.0),
}


def write_bvh(
    path: Path,
    *,
    joints: Float[np.ndarray, "55 3"],
    parents: Sequence[int],
    rotations: Float[np.ndarray, "F 22 3 3"],
    transl: Float[np.ndarray, "F 3"],
    fps: float,
) -> None:
    """Write a body motion as BVH.

    Args:
        path: the file.
        joints: rest positions in metres; only the first 22 are used.
        parents: parent of each joint, -1 for the pelvis; parents come before children.
        rotations: local rotations of the pelvis and the body joints.
        transl: translation of the body in metres.
        fps: frames a second.

    Raises:
        ValueError: the arrays do not fit together.
        UserError: the file cannot be written.
    """
    rotations, transl = np.asarray(rotations, np.float64), np.asarray(transl, np.float64)
    count = len(BODY_JOINTS)
    if rotations.shape[1:] != (count, 3, 3) or transl.shape != (len(rotations), 3):
        raise ValueError(
            f"expected rotations (F, {count}, 3, 3) and transl (F, 3), got {rotations.shape} and {transl.shape}."
        )
    joints = np.asarray(joints, np.float64)[:count]
    children: list[list[int]] = [[j for j in range(count) if parents[j] == k] for k in range(count)]
    order: list[int] = []  # depth first: BVH lists the channels in the order of the hierarchy

    def block(j: int, depth: int) -> list[str]:
        order.append(j)
        pad = "\t" * depth
        # The pelvis' position channels hold its place in space, so its own offset is zero.
        offset = joints[j] - joints[parents[j]] if depth else np.zeros(3)
        place = "Xposition Yposition Zposition " if depth == 0 else ""
        lines = [
            f"{pad}{'JOINT' if depth else 'ROOT'} {BODY_JOINTS[j]}",
            f"{pad}{{",
            f"{pad}\tOFFSET {_numbers(offset)}",
            f"{pad}\tCHANNELS {6 if depth == 0 else 3} {place}Zrotation Xrotation Yrotation",
        ]
        for child in children[j]:
            lines += block(child, depth + 1)
        if not children[j]:
            end = np.asarray(END_SITES.get(BODY_JOINTS[j], (0.0, 0.05, 0.0)))
            site = ("End Site", "{", f"\tOFFSET {_numbers(end)}", "}")
            lines += [f"{pad}\t{line}" for line in site]
        return [*lines, f"{pad}}}"]

    hierarchy = block(0, 0)
    angles = np.degrees(euler_zxy(rotations))[:, order].reshape(len(rotations), -1)
    rows = np.concatenate([joints[0] + transl, angles], axis=1)
    lines = [
        "HIERARCHY",
        *hierarchy,
        "MOTION",
        f"Frames: {len(rows)}",
        f"Frame Time: {1 / fps:.8f}",
        *(_numbers(row) for row in rows),
    ]
    write_bytes(path, ("\n".join(lines) + "\n").encode("ascii"))


def euler_zxy(rotations: Float[np.ndarray, "F *batch 3 3"]) -> Float[np.ndarray, "F *batch 3"]:
    """Angles (z, x, y) in radians with R = Rz Rx Ry, changing as little as possible from frame to frame.

    Of the two triples that give the same rotation the one nearer to the frame before is taken, whole turns
    included: programs that interpolate the channels would otherwise swing a limb around at a jump.
    """
    R = np.asarray(rotations, np.float64)
    z = np.arctan2(-R[..., 0, 1], R[..., 1, 1])
    # x and y from what is left once z is taken off: near x = ±90°, where z is arbitrary, they make up for it.
    cos, sin = np.cos(z)[..., None], np.sin(z)[..., None]
    first = cos * R[..., 0, :] + sin * R[..., 1, :]
    second = cos * R[..., 1, :] - sin * R[..., 0, :]
    x = np.arctan2(R[..., 2, 1], second[..., 1])
    y = np.arctan2(first[..., 2], first[..., 0])
    angles = np.stack([z, x, y], axis=-1)
    twins = np.stack([z + np.pi, np.pi - x, y + np.pi], axis=-1)
    for f in range(1, len(angles)):
        before = angles[f - 1]
        near, far = (c - 2 * np.pi * np.round((c - before) / (2 * np.pi)) for c in (angles[f], twins[f]))
        closer = np.abs(near - before).sum(-1, keepdims=True) <= np.abs(far - before).sum(-1, keepdims=True)
        angles[f] = np.where(closer, near, far)
    return angles


def _numbers(row: np.ndarray) -> str:
    return " ".join(f"{x:.6f}" for x in row + 0.0)
