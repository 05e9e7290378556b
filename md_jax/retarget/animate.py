"""A motion on a character: the file read, its bones found, the motion carried over, the animation added."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.body.model import JOINT_NAMES, PARENTS, Body
from md_jax.body.rotations import axis_angle_to_matrix
from md_jax.body.skinning import kinematics
from md_jax.errors import UserError
from md_jax.files import write_bytes
from md_jax.mocap.motion import Motion
from md_jax.mocap.posing import rest_of
from md_jax.output.gltf import one_hemisphere
from md_jax.retarget import transfer
from md_jax.retarget.bones import Bones, find_bones
from md_jax.retarget.characters import Skeleton, Soles, mesh_soles, read_skeleton, soles_of
from md_jax.retarget.glb import Curve, Glb, quaternion, read_glb, with_animation
from md_jax.retarget.names import FINGERS, SIDES
from md_jax.retarget.rest import rest_pose

SUFFIXES = (".glb", ".vrm")
_FEET = tuple(f"{side}_{part}" for part in ("ankle", "foot") for side in SIDES)


@dataclass(frozen=True)
class Character:
    """A rigged character, ready to be moved.

    Attributes:
        glb: its file.
        skeleton: the nodes.
        bones: which of them are which joint.
        rest: rest pose of the bones in the world, by node.
        home: where its hips stand, on the ground plane.
        soles: points of its feet.
    """

    glb: Glb
    skeleton: Skeleton
    bones: Bones
    rest: Mapping[int, Float[np.ndarray, "4 4"]]
    home: Float[np.ndarray, "3"]
    soles: Soles


def read_character(path: str | os.PathLike, map_path: str | os.PathLike = "") -> Character:
    """Read a rigged character and find its bones.

    Args:
        path: a .glb or .vrm.
        map_path: see `md_jax.retarget.bones.find_bones`.

    Raises:
        UserError: the file cannot be used, or bones are missing.
    """
    glb = read_glb(path)
    try:
        skeleton = read_skeleton(glb)
        bones = find_bones(skeleton, glb.document, map_path)
        nodes = (*bones.joints.values(), *bones.spine, *bones.neck)
        key = {name: bones.joints[name] for name in ("pelvis", "head", "left_hip", "right_hip")}
        vrm = not {"VRM", "VRMC_vrm"}.isdisjoint(glb.document.get("extensions", {}))
        rest, standing = rest_pose(skeleton, nodes, key, as_it_stands=vrm)
        hips = bones.joints["pelvis"]
        home = rest[hips][:3, 3] * [1, 0, 1]
        if not standing and (above := skeleton.parents[hips]) >= 0:
            home += skeleton.world[above][:3, 3] * [1, 0, 1]
        soles = mesh_soles(glb, skeleton, [bones.joints[name] for name in _FEET if name in bones.joints])
    except UserError:
        raise
    except Exception as error:  # whatever a damaged file makes of itself: an index, a type, a shape
        what = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{glb.path} is damaged, or no glTF 2.0: {what}.") from error
    places = {name: rest[node][:3, 3] for name, node in bones.joints.items()}
    if not transfer.leg_length(places) > 0:
        raise UserError(f"{glb.path}: its hips, knees and ankles are at one place; are these the right bones?")
    return Character(glb, skeleton, bones, rest, home, soles or _soles_below(bones, rest))


def write_retargeted(path: Path, motion: Motion, body: Body, character: Character) -> None:
    """Write the character's file with the motion as one animation more.

    Args:
        path: the new file.
        motion: F frames.
        body: the body that the motion was made for.
        character: from `read_character`.

    Raises:
        UserError: the file cannot be written, or is the character's own.
    """
    if path.exists() and path.samefile(character.glb.path):
        raise UserError(f"{path} is the character itself, which stays as it is: name another file.")
    times = np.arange(len(motion.transl)) / motion.fps
    name = motion.prompt or "motion"
    write_bytes(path, with_animation(character.glb, name, times, curves_of(motion, body, character)))


def curves_of(motion: Motion, body: Body, character: Character) -> list[Curve]:
    """The motion as rotations of the character's bones and the place of its hips.

    Fingers move where the character has them and the motion says how; a motion without hands (all zeros) leaves the
    character's as they are.
    """
    source = source_of(motion, body)
    bones, skeleton = character.bones, character.skeleton
    hands = np.any(motion.face_and_hands[:, 3:])
    joints = {name: node for name, node in bones.joints.items() if hands or not _is_finger(name)}

    def orientation(node: int) -> np.ndarray:
        return transfer.orthogonal(character.rest[node][:3, :3]) * np.sign(skeleton.scales[node])

    rest = transfer.Rest(
        {name: character.rest[node][:3, 3] for name, node in joints.items()},
        {name: orientation(node) for name, node in joints.items()},
    )
    turns, spine, neck = transfer.targets(source, rest, *(list(map(orientation, c)) for c in (bones.spine, bones.neck)))
    oriented = {joints[name]: turn for name, turn in turns.items()}
    oriented |= dict(zip((*bones.spine, *bones.neck), (*spine, *neck), strict=True))

    size = transfer.leg_length(rest.places) / transfer.leg_length(dict(zip(JOINT_NAMES, source.rest, strict=True)))
    place = character.home + size * source.path @ transfer.facing(rest).T
    place[:, 1] = 0.0
    _, world = _posed(character, joints, oriented, place)
    above_floor = size * (source.lowest - source.lowest.min())
    place[:, 1] = above_floor - character.soles.lowest(world)
    return _posed(character, joints, oriented, place)[0]


def source_of(motion: Motion, body: Body) -> transfer.Source:
    """A motion as its joints' turns in the world and the height of its feet."""
    vertices, rest = rest_of(body, motion)
    rotations = axis_angle_to_matrix(jnp.asarray(motion.poses))
    posed = np.asarray(kinematics(rotations, jnp.asarray(rest, jnp.float32), body.parents), np.float64)
    posed[..., 3] += motion.transl[:, None]
    feet = [JOINT_NAMES.index(name) for name in _FEET]
    weights = np.asarray(body.weights, np.float64)
    on_feet = weights[:, feet].sum(axis=1) > 0.5
    soles = soles_of(vertices[on_feet], weights[on_feet], np.tile(np.eye(4), (weights.shape[1], 1, 1)),
                     range(weights.shape[1]))  # fmt: skip
    lowest = soles.lowest({j: posed[:, j] for j in range(posed.shape[1])})
    return transfer.Source(np.asarray(rest, np.float64), posed[..., :3], motion.transl.astype(np.float64), lowest)


def _is_finger(name: str) -> bool:
    return name.partition("_")[2].startswith(FINGERS)


def _soles_below(bones: Bones, rest: Mapping[int, Float[np.ndarray, "4 4"]]) -> Soles:
    """For a mesh that cannot be read: the points of the ground below the ankles and the balls of the feet."""
    nodes = [bones.joints[name] for name in _FEET if name in bones.joints]
    places = np.stack([rest[node][:3, 3] for node in nodes])
    leg = transfer.leg_length({name: rest[node][:3, 3] for name, node in bones.joints.items()})
    floor = 0.0 if 0 <= places[:, 1].min() < 0.3 * leg else places[:, 1].min()
    places[:, 1] = floor
    return soles_of(places, np.eye(len(nodes)), np.linalg.inv([rest[node] for node in nodes]), nodes)


# --- forward kinematics ---------------------------------------------------------------------------------------------


def _posed(
    character: Character,
    joints: Mapping[str, int],
    oriented: Mapping[int, Float[np.ndarray, "F 3 3"]],
    place: Float[np.ndarray, "F 3"],
) -> tuple[list[Curve], dict[int, Float[np.ndarray, "F 4 4"]]]:
    """Curves that turn bones as asked and put the hips at a place; and where all nodes that matter are then."""
    skeleton, frames = character.skeleton, len(place)
    carriers = _carriers(character, joints)
    curves: list[Curve] = []
    world: dict[int, np.ndarray] = {}

    def settle(node: int) -> None:
        above = skeleton.parents[node]
        base = world[above] if above >= 0 else np.broadcast_to(np.eye(4), (frames, 4, 4))
        own = np.zeros((frames, 4, 4))
        own[:, 3, 3] = 1.0
        own[:, :3, :3] = skeleton.rotations[node]
        own[:, :3, 3] = skeleton.translations[node]
        if node in carriers:
            carrier = carriers[node]
            at = place
            if carrier is not None:
                offset = np.linalg.inv(character.rest[carrier]) @ character.rest[node][:, 3]
                at = (world[carrier] @ offset)[:, :3]
            homogeneous = np.concatenate([at, np.ones((frames, 1))], axis=1)
            own[:, :3, 3] = np.linalg.solve(base, homogeneous[..., None])[:, :3, 0]
            curves.append(Curve(node, "translation", own[:, :3, 3]))
        if node in oriented:
            own[:, :3, :3] = transfer.orthogonal(base[:, :3, :3]).swapaxes(1, 2) @ oriented[node]
            curves.append(Curve(node, "rotation", one_hemisphere(quaternion(own[:, :3, :3]))))
        own[:, :3, :3] *= skeleton.scales[node]
        world[node] = base @ own

    for node in (*oriented_in_order(character, joints), *character.soles.bones):
        chain = [node]
        while (above := skeleton.parents[chain[-1]]) >= 0 and above not in world:
            chain.append(above)
        for each in reversed(chain):
            if each not in world:
                settle(each)
    return curves, world


def oriented_in_order(character: Character, joints: Mapping[str, int]) -> list[int]:
    """The bones, each after the one that carries it in a body."""
    bones = character.bones
    trunk = [joints["pelvis"], *bones.spine, *bones.neck]
    return trunk + [joints[name] for name in JOINT_NAMES if name in joints and name != "pelvis"]


def _carriers(character: Character, joints: Mapping[str, int]) -> dict[int, int | None]:
    """Bones whose place has to be animated, and the bone that they are carried by: the hips (None), and those that no
    other bone is above of, as in rigs whose limbs hang right under the root."""
    bones, skeleton = character.bones, character.skeleton
    trunk = [joints["pelvis"], *bones.spine, *bones.neck]
    by_joint = {**joints, "spine3": bones.spine[-1], "neck": trunk[-1]}
    every = set(oriented_in_order(character, joints))
    found: dict[int, int | None] = {joints["pelvis"]: None}
    for k, node in enumerate(trunk[1:], 1):
        if every.isdisjoint(skeleton.above(node)):
            found[node] = trunk[k - 1]
    for name in JOINT_NAMES:
        if name in joints and name != "pelvis" and every.isdisjoint(skeleton.above(joints[name])):
            above = PARENTS[JOINT_NAMES.index(name)]
            while JOINT_NAMES[above] not in by_joint:
                above = PARENTS[above]
            found[joints[name]] = by_joint[JOINT_NAMES[above]]
    return found
