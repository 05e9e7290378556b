"""Which nodes of a character are which joints of SMPL-X: by VRM's table, by names, or by a map that somebody wrote."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from md_jax.body.model import JOINT_NAMES
from md_jax.errors import UserError
from md_jax.files import read_json
from md_jax.retarget.characters import Skeleton
from md_jax.retarget.names import CONVENTIONS, FINGERS, REQUIRED, SIDES, VRM_SPINE, side_and_stem, vrm_names

CHAINS = ("spine", "neck")  # of as many bones as the character has
KEYS = (*CHAINS, *(name for name in JOINT_NAMES if not name.startswith(CHAINS)))
_MOST_NAMES = 60  # in one line


@dataclass(frozen=True)
class Bones:
    """The nodes of a character's humanoid bones.

    Attributes:
        joints: node by SMPL-X joint, for all but the spine and the neck; what the character lacks is missing.
        spine: nodes between the hips and the neck, from the hips up.
        neck: nodes between the spine and the head.
        convention: how they were found, for people to read.
    """

    joints: Mapping[str, int]
    spine: tuple[int, ...]
    neck: tuple[int, ...]
    convention: str


def find_bones(skeleton: Skeleton, document: Mapping[str, Any], map_path: str | os.PathLike = "") -> Bones:
    """The humanoid bones of a character.

    Args:
        skeleton: its nodes.
        document: the file's JSON, where a VRM names its bones.
        map_path: a JSON object, joint -> node's name (a list of names for "spine" and "neck"); it wins over what is
            found otherwise. Empty: none.

    Raises:
        UserError: a required bone is not found, or the map cannot be used.
    """
    found, convention = _of_vrm(document), "VRM"
    if found is None:
        found, convention = _by_names(skeleton)
    if map_path:
        mapped = _by_map(skeleton, map_path)
        found, convention = found | mapped, f"{os.fspath(map_path)}, and {convention} names"
    missing = [name for name in REQUIRED if not found.get(name)]
    if missing:
        there = sorted(skeleton.names[n] for n in skeleton.joints)
        shown = ", ".join(there[:_MOST_NAMES]) + (", ..." if len(there) > _MOST_NAMES else "")
        raise UserError(
            f"{skeleton.path}: no bone found for {', '.join(missing)}; its bones are {shown}. Name the missing ones in"
            f' a JSON file, --map=FILE (--character_map in a run): {{"{missing[0]}": "NAME", ...}}.'
        )
    joints = {name: nodes[0] for name, nodes in found.items() if name not in CHAINS and nodes}
    twice = [name for name in joints if list(joints.values()).count(joints[name]) > 1]
    if twice:
        raise UserError(f"{skeleton.path}: {' and '.join(twice)} are the same bone,"
                        f" {skeleton.names[joints[twice[0]]]!r}: each needs one of its own.")  # fmt: skip
    return Bones(joints, tuple(found["spine"]), tuple(found.get("neck", ())), convention)


def _of_vrm(document: Mapping[str, Any]) -> dict[str, list[int]] | None:
    """As a VRM's own table has them; None where the file is no VRM."""
    extensions = document.get("extensions", {})
    if "VRMC_vrm" in extensions:
        version, listed = 1, extensions["VRMC_vrm"]["humanoid"]["humanBones"]
        nodes = {name.lower(): int(bone["node"]) for name, bone in listed.items()}
    elif "VRM" in extensions:
        version, listed = 0, extensions["VRM"]["humanoid"]["humanBones"]
        nodes = {bone["bone"].lower(): int(bone["node"]) for bone in listed if int(bone["node"]) >= 0}
    else:
        return None
    found = {ours: [nodes[theirs]] for theirs, ours in vrm_names(version).items() if theirs in nodes}
    found["spine"] = [nodes[name] for name in VRM_SPINE if name in nodes]
    found["neck"] = [nodes["neck"]] if "neck" in nodes else []
    return found


def _by_names(skeleton: Skeleton) -> tuple[dict[str, list[int]], str]:
    """As the convention has them under which most required bones are found (then: most bones), and its name.

    A file may hold several characters: bones of one figure hang under one root.
    """
    stems = [side_and_stem(name) for name in skeleton.names]
    groups: dict[int, list[int]] = {}
    for node in skeleton.candidates:
        groups.setdefault(skeleton.root_of(node), []).append(node)
    best: tuple[tuple[int, int], dict[str, list[int]], str] = ((-1, -1), {}, "")
    for convention, patterns in CONVENTIONS.items():
        for nodes in groups.values():
            found = _matching(skeleton, nodes, stems, patterns)
            score = (sum(bool(found.get(name)) for name in REQUIRED), sum(map(len, found.values())))
            if score > best[0]:
                best = (score, found, convention)
    return best[1], best[2]


def _matching(
    skeleton: Skeleton, nodes: Sequence[int], stems: Sequence[tuple[str, str]], patterns: Mapping[str, str]
) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    by_depth = sorted(nodes, key=lambda node: (skeleton.depth(node), stems[node][1]))
    for part, pattern in patterns.items():
        sided = part not in ("pelvis", "head", *CHAINS)
        for side in SIDES if sided else ("",):
            joint = f"{side}_{part}" if sided else part
            fitting = [n for n in by_depth if stems[n][0] == side and re.fullmatch(pattern, stems[n][1])]
            found[joint] = fitting if part in CHAINS else fitting[:1]
    if head := found["head"]:  # a chain is what carries the head: a belly or a neck tie is something else
        carrying = set(skeleton.above(head[0]))
        for chain in CHAINS:
            found[chain] = [n for n in found[chain] if n in carrying] or found[chain]
    return found


def _by_map(skeleton: Skeleton, path: str | os.PathLike) -> dict[str, list[int]]:
    entries = read_json(path)
    if not isinstance(entries, dict):
        raise UserError(f"{path}: expected a JSON object, joint -> bone's name; found a {type(entries).__name__}.")
    found: dict[str, list[int]] = {}
    for key, value in entries.items():
        names = value if isinstance(value, list) else [value]
        if key not in KEYS:
            raise UserError(f"{path}: {key!r} is no joint: expected one of {', '.join(KEYS[:24])}, or a finger such as"
                            f" left_{FINGERS[1]}1.")  # fmt: skip
        if not names or not all(isinstance(name, str) for name in names) or (key not in CHAINS and len(names) > 1):
            many = "one or several names, from the hips up" if key in CHAINS else "one name"
            raise UserError(f"{path}: expected {many} of bones for {key}; found {str(value)[:80]}.")
        unknown = [name for name in names if name not in skeleton.names]
        if unknown:
            raise UserError(f"{path}: {skeleton.path} has no node {unknown[0]!r} (given for {key}).")
        found[key] = [skeleton.names.index(name) for name in names]
    return found
