"""A rigged character: its nodes, its rest pose in the world, and the soles it stands on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from md_jax.errors import UserError
from md_jax.retarget.glb import MOST_NODES, Glb, numbers, parts

LARGEST = 1e9  # of the numbers in a transform
_MANY_POINTS = 512  # directions in which the outermost point of a foot is kept


@dataclass(frozen=True)
class Skeleton:
    """The nodes of a file, N of them, parents before children in `order`; lengths in the file's unit.

    Attributes:
        path: the file, for errors.
        names: of the nodes, "" where there is none.
        parents: −1 at the top.
        order: node indices, parents first.
        translations, rotations, scales: of the nodes as they stand in the file.
        world: their places in the scene.
        joints: nodes that a skin names as its joints.
        candidates: those and the nodes above them.
        binds: for each skin that says so, the places of its joints in the space of its mesh when it was skinned.
    """

    path: str
    names: tuple[str, ...]
    parents: tuple[int, ...]
    order: tuple[int, ...]
    translations: Float[np.ndarray, "N 3"]
    rotations: Float[np.ndarray, "N 3 3"]
    scales: Float[np.ndarray, "N 3"]
    world: Float[np.ndarray, "N 4 4"]
    joints: tuple[int, ...]
    candidates: tuple[int, ...]
    binds: tuple[dict[int, Float[np.ndarray, "4 4"]], ...]

    def above(self, node: int) -> Iterator[int]:
        """The nodes above a node, nearest first."""
        while (node := self.parents[node]) >= 0:
            yield node

    def depth(self, node: int) -> int:
        """How many nodes are above it."""
        return sum(1 for _ in self.above(node))

    def root_of(self, node: int) -> int:
        """The topmost node above it, or itself."""
        return next(reversed([node, *self.above(node)]))


def read_skeleton(glb: Glb) -> Skeleton:
    """The nodes of a file and what its skins say.

    Raises:
        UserError: there is no skin.
        KeyError, IndexError, TypeError, ValueError: the file is damaged.
    """
    nodes: list[dict[str, Any]] = glb.document.get("nodes", [])
    skins = glb.document.get("skins", [])
    if not skins or not nodes:
        raise UserError(f"{glb.path} has no skin: expected a character whose mesh is bound to bones.")
    if len(nodes) > MOST_NODES:
        raise UserError(f"{glb.path} has {len(nodes)} nodes: expected at most {MOST_NODES}, one character.")
    parents = [-1] * len(nodes)
    for n, node in enumerate(nodes):
        for child in node.get("children", []):
            if child < 0 or parents[child] >= 0:
                raise ValueError(f"node {child} has two parents")
            parents[child] = n
    order = [n for n in range(len(nodes)) if parents[n] < 0]
    for n in order:  # it grows while it is read
        order += nodes[n].get("children", [])
    if len(order) < len(nodes):
        raise ValueError("its nodes form a circle")
    world = np.zeros((len(nodes), 4, 4))
    with np.errstate(all="ignore"):  # numbers of no sense are looked at below
        local = [_transform(node) for node in nodes]
        for n in order:
            t, r, s = local[n]
            own = _affine(r * s, t)
            world[n] = own if parents[n] < 0 else world[parents[n]] @ own
    binds = [
        dict(zip(skin["joints"], np.linalg.inv(inverse), strict=False))
        for skin in skins
        if (inverse := inverse_binds(glb, skin)) is not None
    ]
    joints = dict.fromkeys(int(j) for skin in skins for j in skin["joints"])
    if not joints or not all(0 <= j < len(nodes) for j in joints):
        raise ValueError("a skin names nodes that are not there")
    if not all(np.abs(m).max() < LARGEST for m in (world, *(m for bind in binds for m in bind.values()))):
        raise ValueError(f"a transform is not finite, or above {LARGEST:g}")
    above = {n: None for j in joints for n in _chain(parents, j)}
    t, r, s = (np.stack([each[i] for each in local]) for i in range(3))
    names = tuple(str(node.get("name", "")) for node in nodes)
    return Skeleton(glb.path, names, tuple(parents), tuple(order), t, r, s, world, tuple(joints),
                    tuple({**joints, **above}), tuple(binds))  # fmt: skip


def inverse_binds(glb: Glb, skin: dict[str, Any]) -> Float[np.ndarray, "B 4 4"] | None:
    """What takes the space of a skin's mesh to that of each joint; None where it is not given, or compressed."""
    found = numbers(glb, skin["inverseBindMatrices"]) if "inverseBindMatrices" in skin else None
    return None if found is None else found.reshape(-1, 4, 4).swapaxes(1, 2).astype(np.float64)  # stored by columns


def _chain(parents: Sequence[int], node: int) -> Iterator[int]:
    while node >= 0:
        yield node
        node = parents[node]


def _transform(node: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if "matrix" in node:
        return parts(np.reshape(np.asarray(node["matrix"], np.float64), (4, 4)).T)
    t = np.reshape(np.asarray(node.get("translation", (0, 0, 0)), np.float64), 3)
    x, y, z, w = np.reshape(np.asarray(node.get("rotation", (0, 0, 0, 1)), np.float64), 4)
    s = np.reshape(np.asarray(node.get("scale", (1, 1, 1)), np.float64), 3)
    n = x * x + y * y + z * z + w * w
    r = np.array([
        [1 - 2 * (y * y + z * z) / n, 2 * (x * y - w * z) / n, 2 * (x * z + w * y) / n],
        [2 * (x * y + w * z) / n, 1 - 2 * (x * x + z * z) / n, 2 * (y * z - w * x) / n],
        [2 * (x * z - w * y) / n, 2 * (y * z + w * x) / n, 1 - 2 * (x * x + y * y) / n],
    ])  # fmt: skip
    return t, r, s


def _affine(linear: np.ndarray, translation: np.ndarray) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = linear, translation
    return matrix


# --- soles ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Soles:
    """Points of the feet, as the bones carry them: a point's place is Σ over bones of transform · local.

    Attributes:
        bones: B of them, as keys into whatever transforms are given to `lowest`.
        local: homogeneous coordinates of each point in each bone, times the bone's weight.
    """

    bones: tuple[int, ...]
    local: Float[np.ndarray, "B 4 P"]

    def lowest(self, transforms: Mapping[int, Float[np.ndarray, "F _ 4"]]) -> Float[np.ndarray, "F"]:
        """Height of the lowest point in each frame, from each bone's transforms (of 3 or 4 rows)."""
        rows = np.concatenate([transforms[bone][:, 1] for bone in self.bones], axis=1)
        return (rows @ self.local.reshape(-1, self.local.shape[-1])).min(axis=1)


def soles_of(
    points: Float[np.ndarray, "V 3"], weights: Float[np.ndarray, "V B"], local: Float[np.ndarray, "B 4 4"],
    bones: Sequence[int],
) -> Soles:  # fmt: skip
    """The outermost of the points, bound to bones.

    Args:
        points: places in the space of the mesh.
        weights: of the bones; each row sums to one.
        local: takes mesh space to each bone's.
        bones: their indices.
    """
    n = np.arange(_MANY_POINTS) + 0.5  # directions spread evenly (a Fibonacci sphere)
    height, angle = 1 - 2 * n / _MANY_POINTS, np.pi * (1 + 5**0.5) * n
    flat = np.sqrt(1 - height**2)
    directions = np.stack([flat * np.cos(angle), height, flat * np.sin(angle)])
    outer = np.unique(np.argmax(points @ directions, axis=0))
    homogeneous = np.concatenate([points[outer], np.ones((len(outer), 1))], axis=1)
    used = np.flatnonzero(weights[outer].any(axis=0))
    rows = np.einsum("bij,pj,pb->bip", local[used], homogeneous, weights[outer][:, used])
    return Soles(tuple(bones[int(b)] for b in used), rows)


def mesh_soles(glb: Glb, skeleton: Skeleton, feet: Sequence[int]) -> Soles | None:
    """The soles of a character's mesh: what hangs mainly on its feet; None where the mesh cannot be read here.

    Args:
        glb: the file.
        skeleton: its nodes.
        feet: nodes of the ankles and toes; what is below them counts, too.

    Raises:
        KeyError, IndexError, TypeError, ValueError: the file is damaged.
    """
    found = []
    for node in glb.document["nodes"]:
        if "skin" in node and "mesh" in node:
            skin = glb.document["skins"][node["skin"]]
            for primitive in glb.document["meshes"][node["mesh"]]["primitives"]:
                found += _of_primitive(glb, skeleton, skin, primitive, feet)
    if not found:
        return None
    bones = [bone for soles in found for bone in soles.bones]
    local = np.zeros((len(bones), 4, sum(soles.local.shape[-1] for soles in found)))
    b = p = 0
    for soles in found:
        height, width = len(soles.bones), soles.local.shape[-1]
        local[b : b + height, :, p : p + width] = soles.local
        b, p = b + height, p + width
    return Soles(tuple(bones), local)


def _of_primitive(
    glb: Glb, skeleton: Skeleton, skin: dict[str, Any], primitive: dict[str, Any], feet: Sequence[int]
) -> list[Soles]:
    attributes = primitive["attributes"]
    sets = [k for k in range(4) if f"JOINTS_{k}" in attributes]
    read = [numbers(glb, attributes[f"{name}_{k}"]) for name in ("JOINTS", "WEIGHTS") for k in sets]
    points = numbers(glb, attributes["POSITION"])
    if points is None or not sets or any(array is None for array in read):
        return []
    table = np.concatenate(read[: len(sets)], axis=1).astype(int)  # type: ignore[arg-type]
    shares = np.concatenate(read[len(sets) :], axis=1).astype(np.float64)  # type: ignore[arg-type]
    joints: list[int] = skin["joints"]
    if len(table) != len(points) or (table.size and table.max() >= len(joints)):
        raise ValueError("a vertex hangs on a joint that is not there")
    below = np.array([not set(feet).isdisjoint((joint, *skeleton.above(joint))) for joint in joints])
    chosen = (shares * below[table]).sum(axis=1) > 0.5 * shares.sum(axis=1)
    if not chosen.any():
        return []
    table, shares = table[chosen], shares[chosen]
    weights = np.zeros((len(table), len(joints)))
    np.add.at(weights, (np.arange(len(table))[:, None], table), shares)
    weights /= weights.sum(axis=1, keepdims=True)
    local = inverse_binds(glb, skin)
    if local is None:
        local = np.tile(np.eye(4), (len(joints), 1, 1))
    return [soles_of(points[chosen].astype(np.float64), weights, local, joints)]
