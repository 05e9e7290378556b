"""From an SMPL-X motion to the bones of another skeleton: the mathematics, on arrays alone.

Every bone turns in the world as its joint does: its world orientation is D A O, with O its own at rest, A the turn that
brings the character's rest pose to SMPL-X's T-pose, and D the joint's turn away from that T-pose. Local axes and the
transforms of nodes above and between the bones cancel out, so bones may have any.

A is the smallest turn between the directions of the bone at rest for arms, legs and fingers; they point then exactly
where the source's do. It is none for the torso, whose build is the character's own (its back, its shoulders, how it
holds its head), and a turn about the vertical for the feet, whose soles are flat at rest whatever the ankle's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.body.model import JOINT_NAMES, PARENTS
from md_jax.body.rotations import matrix_to_quaternion, quaternion_slerp, quaternion_to_matrix, yaw_matrix
from md_jax.retarget.names import FINGERS, SIDES

INDEX = {name: j for j, name in enumerate(JOINT_NAMES)}
# The joint that a limb's bone points to.
TOWARDS = {
    f"{side}_{joint}": f"{side}_{child}"
    for side in SIDES
    for joint, child in (
        ("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "middle1"),
        *((f"{finger}{k}", f"{finger}{k + 1}") for finger in FINGERS for k in (1, 2)),
    )
}  # fmt: skip
_SNAP = np.radians(15)  # a character that faces a quarter turn this nearly, faces it


@dataclass(frozen=True)
class Source:
    """A motion of the SMPL-X skeleton, y up, facing +z at rest.

    Attributes:
        rest: joints in the T-pose, metres.
        turns: world rotation of each joint.
        path: translation of the body, metres.
        lowest: height of the lowest point of the feet, metres; the lowest of the clip is the floor.
    """

    rest: Float[np.ndarray, "55 3"]
    turns: Float[np.ndarray, "F 55 3 3"]
    path: Float[np.ndarray, "F 3"]
    lowest: Float[np.ndarray, "F"]

    def turn(self, joint: str) -> Float[np.ndarray, "F 3 3"]:
        """World rotation of a joint."""
        return self.turns[:, INDEX[joint]]


@dataclass(frozen=True)
class Rest:
    """A character's rest pose in its world, y up, by SMPL-X joint.

    Attributes:
        places: of the joints that it has.
        orientations: of the same: orthogonal matrices (mirrored ones where a node mirrors).
    """

    places: Mapping[str, Float[np.ndarray, "3"]]
    orientations: Mapping[str, Float[np.ndarray, "3 3"]]


def facing(rest: Rest) -> Float[np.ndarray, "3 3"]:
    """The turn about the vertical from the source's world, where the rest pose faces +z, to the character's."""
    left = rest.places["left_hip"] - rest.places["right_hip"]
    yaw = np.arctan2(-left[2], left[0])
    quarter = np.round(yaw / (np.pi / 2)) * (np.pi / 2)
    return _yaw(quarter if abs(yaw - quarter) < _SNAP else yaw)


def leg_length(places: Mapping[str, Float[np.ndarray, "3"]]) -> float:
    """Thigh and shin, the mean of both legs."""
    lengths = [
        np.linalg.norm(places[f"{side}_{a}"] - places[f"{side}_{b}"])
        for side in SIDES
        for a, b in (("hip", "knee"), ("knee", "ankle"))
    ]
    return float(np.sum(lengths)) / 2


def alignments(
    rest: Rest, source: Float[np.ndarray, "55 3"], to_world: Float[np.ndarray, "3 3"]
) -> dict[str, np.ndarray]:
    """The turn from a character's rest pose to the source's, of each of its limbs' bones, in the character's world.

    Args:
        rest: the character's.
        source: the source's joints at rest.
        to_world: from `facing`.
    """
    found: dict[str, np.ndarray] = {}
    for joint in JOINT_NAMES:  # parents come first
        if joint not in rest.places:
            continue
        above = JOINT_NAMES[PARENTS[INDEX[joint]]]
        end = TOWARDS.get(joint, "")
        if end in rest.places:
            there = to_world @ (source[INDEX[end]] - source[INDEX[joint]])
            found[joint] = smallest_turn(rest.places[end] - rest.places[joint], there)
        elif joint.endswith("_ankle"):
            toes = joint.replace("ankle", "foot")
            found[joint] = np.eye(3)
            if toes in rest.places:
                here = rest.places[toes] - rest.places[joint]
                there = to_world @ (source[INDEX[toes]] - source[INDEX[joint]])
                found[joint] = _yaw(np.arctan2(there[0], there[2]) - np.arctan2(here[0], here[2]))
        elif above in found:  # the end of a limb, a finger's last joint: as the bone that carries it
            found[joint] = found[above]
    return found


def targets(
    source: Source, rest: Rest, spine: Sequence[np.ndarray], neck: Sequence[np.ndarray]
) -> tuple[dict[str, np.ndarray], list[np.ndarray], list[np.ndarray]]:
    """World orientations (F, 3, 3) of a character's bones: by joint, and of its spine and neck from the hips up.

    Args:
        source: the motion.
        rest: the character's rest pose.
        spine, neck: orientations of those bones at rest. However many there are, the last of the spine turns as the
            source's chest, the last of the neck as its neck, and the others share the turn up to there evenly.
    """
    to_world = facing(rest)
    align = alignments(rest, source.rest, to_world)

    def turned(turns: np.ndarray, orientation: np.ndarray) -> np.ndarray:
        return to_world @ turns @ to_world.T @ orientation

    joints = {
        joint: turned(source.turn(joint), align.get(joint, np.eye(3)) @ orientation)
        for joint, orientation in rest.orientations.items()
    }
    back = [source.turn(name) for name in ("pelvis", "spine1", "spine2", "spine3")]
    throat = [source.turn(name) for name in ("spine3", "neck")]
    chains = [
        [turned(turn, orientation) for turn, orientation in zip(spread(turns, len(bones)), bones, strict=True)]
        for turns, bones in ((back, spine), (throat, neck))
    ]
    return joints, chains[0], chains[1]


def spread(turns: Sequence[Float[np.ndarray, "F 3 3"]], count: int) -> list[Float[np.ndarray, "F 3 3"]]:
    """The rotations along a chain, at `count` even places after the first, the last one included."""
    quaternions = jnp.stack([matrix_to_quaternion(jnp.asarray(turn)) for turn in turns])
    found = []
    for k in range(1, count + 1):
        at = k / count * (len(turns) - 1)
        low = min(int(at + 1e-9), len(turns) - 2)
        if abs(at - round(at)) < 1e-9:  # one of them: as it is
            found.append(turns[round(at)])
            continue
        share = jnp.full(len(turns[0]), at - low)
        between = quaternion_slerp(quaternions[low], quaternions[low + 1], share)
        found.append(np.asarray(quaternion_to_matrix(between), np.float64))
    return found


def smallest_turn(start: Float[np.ndarray, "3"], end: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """The rotation by the smallest angle that takes one direction to another; the identity where one has no length."""
    lengths = np.linalg.norm(start), np.linalg.norm(end)
    if min(lengths) < 1e-12:
        return np.eye(3)
    a, b = start / lengths[0], end / lengths[1]
    cosine = float(a @ b)
    if cosine < -1 + 1e-9:  # opposite: half a turn about any axis across
        axis = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        axis /= np.linalg.norm(axis)
        return 2 * np.outer(axis, axis) - np.eye(3)
    v = np.cross(a, b)
    skew = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + skew + skew @ skew / (1 + cosine)


def orthogonal(linear: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 3 3"]:
    """The orthogonal matrix nearest to a linear map: its rotation without scale, mirrored where the map mirrors."""
    u, _, v = np.linalg.svd(linear)
    return u @ v


def _yaw(angle: float) -> Float[np.ndarray, "3 3"]:
    return np.asarray(yaw_matrix(jnp.asarray(angle, jnp.float32)), np.float64)
