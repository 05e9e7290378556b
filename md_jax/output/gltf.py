"""Motion as an animated, skinned glTF binary (.glb), which 3D programs and browsers open as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pygltflib as gltf
from jaxtyping import Float, Int

from md_jax.body.model import JOINT_NAMES
from md_jax.files import write_bytes

MAX_WEIGHTS = 8  # two sets of four; readers that know only the first set find the largest weights there


def write_glb(
    path: Path,
    *,
    vertices: Float[np.ndarray, "V 3"],
    triangles: Int[np.ndarray, "T 3"],
    colors: Float[np.ndarray, "V 3"],
    joints: Float[np.ndarray, "J 3"],
    parents: Sequence[int],
    weights: Float[np.ndarray, "V J"],
    quaternions: Float[np.ndarray, "F J 4"],
    transl: Float[np.ndarray, "F 3"],
    fps: float,
    title: str = "",
) -> None:
    """Write a skinned body and its animation as glTF 2.0 binary.

    The rest pose is the body's T-pose in metres, y up. Pose correctives have no place in glTF: a body that
    has them is shown without (the free body has none).

    Args:
        path: the file.
        vertices: rest vertices in metres.
        triangles: vertex indices, counter-clockwise from outside.
        colors: sRGB colours in [0, 1].
        joints: rest positions in metres.
        parents: parent of each joint, -1 for the root; parents come before children.
        weights: skinning weights; the largest eight of a vertex are kept and renormalised.
        quaternions: local rotations, (w, x, y, z).
        transl: translation of the body in metres.
        fps: frames a second.
        title: kept in the file's `extras`.

    Raises:
        ValueError: the arrays do not fit together.
        UserError: the file cannot be written.
    """
    count = len(joints)
    if quaternions.shape[1:] != (count, 4) or transl.shape != (len(quaternions), 3):
        raise ValueError(
            f"expected quaternions (F, {count}, 4) and transl (F, 3), got {quaternions.shape} and {transl.shape}."
        )
    document = gltf.GLTF2(asset=gltf.Asset(version="2.0", generator="md_jax", extras={"title": title}))
    pack = _Packer(document)

    # --- mesh
    joint_index, joint_weight = largest_weights(weights)
    per_vertex = gltf.ARRAY_BUFFER
    attributes = gltf.Attributes(
        POSITION=pack.add(np.asarray(vertices, np.float32), gltf.VEC3, bounds=True, target=per_vertex),
        NORMAL=pack.add(vertex_normals(vertices, triangles), gltf.VEC3, target=per_vertex),
        COLOR_0=pack.add(_linear_rgba(colors), gltf.VEC4, normalized=True, target=per_vertex),
        JOINTS_0=pack.add(joint_index[:, :4], gltf.VEC4, target=per_vertex),
        WEIGHTS_0=pack.add(joint_weight[:, :4], gltf.VEC4, target=per_vertex),
        JOINTS_1=pack.add(joint_index[:, 4:], gltf.VEC4, target=per_vertex),
        WEIGHTS_1=pack.add(joint_weight[:, 4:], gltf.VEC4, target=per_vertex),
    )
    faces = np.asarray(triangles).astype(np.uint16 if len(vertices) < 65535 else np.uint32).reshape(-1)
    indices = pack.add(faces, gltf.SCALAR, target=gltf.ELEMENT_ARRAY_BUFFER)
    matte = gltf.PbrMetallicRoughness(metallicFactor=0.0, roughnessFactor=0.9)
    primitive = gltf.Primitive(attributes=attributes, indices=indices, material=0)
    document.materials = [gltf.Material(name="body", pbrMetallicRoughness=matte)]
    document.meshes = [gltf.Mesh(name="body", primitives=[primitive])]

    # --- skeleton: nodes 0..J-1 are the joints, in order; then the mesh
    places = np.asarray(joints, np.float64)
    offsets = places - np.where(np.asarray(parents)[:, None] >= 0, places[np.asarray(parents)], 0.0)
    names = JOINT_NAMES if count == len(JOINT_NAMES) else tuple(f"joint{j}" for j in range(count))
    document.nodes = [
        gltf.Node(
            name=names[j],
            translation=[float(x) for x in offsets[j]],
            rotation=[float(x) for x in _xyzw(quaternions[0, j])],
            children=[k for k in range(count) if parents[k] == j],
        )
        for j in range(count)
    ]
    document.nodes.append(gltf.Node(name="body", mesh=0, skin=0))
    inverse_bind = np.tile(np.eye(4, dtype=np.float32), (count, 1, 1))
    inverse_bind[:, 3, :3] = -np.asarray(joints)  # glTF stores matrices by columns: this is the last column
    bind = pack.add(inverse_bind.reshape(count, 16), gltf.MAT4)
    document.skins = [gltf.Skin(inverseBindMatrices=bind, skeleton=0, joints=list(range(count)))]

    # --- animation: joints that never turn keep the rotation of their node
    times = pack.add((np.arange(len(transl)) / fps).astype(np.float32), gltf.SCALAR, bounds=True)
    animation = gltf.Animation(name="motion")
    curves = [(0, "translation", (offsets[0] + transl).astype(np.float32), gltf.VEC3)]
    for j in range(count):
        if np.abs(quaternions[:, j] - quaternions[0, j]).max() > 0:
            curves.append((j, "rotation", one_hemisphere(_xyzw(quaternions[:, j])), gltf.VEC4))
    for node, channel, values, kind in curves:
        target = gltf.AnimationChannelTarget(node=node, path=channel)
        animation.channels.append(gltf.AnimationChannel(sampler=len(animation.samplers), target=target))
        animation.samplers.append(gltf.AnimationSampler(input=times, output=pack.add(values, kind)))
    document.animations = [animation]
    document.scenes = [gltf.Scene(nodes=[0, count])]
    document.scene = 0
    write_bytes(path, pack.finish())


def largest_weights(
    weights: Float[np.ndarray, "V J"],
) -> tuple[Int[np.ndarray, "V 8"], Float[np.ndarray, "V 8"]]:
    """The joints with the largest weights of each vertex, largest first, and those weights with sum 1."""
    order = np.argsort(-np.asarray(weights), axis=1, kind="stable")[:, :MAX_WEIGHTS]
    order = np.pad(order, ((0, 0), (0, MAX_WEIGHTS - order.shape[1])))
    kept = np.take_along_axis(np.asarray(weights, np.float64), order, axis=1)
    kept[:, weights.shape[1] :] = 0.0
    kept /= kept.sum(axis=1, keepdims=True)
    order[kept == 0] = 0  # the format asks for joint 0 where nothing is weighted
    return order.astype(np.uint8), kept.astype(np.float32)


def vertex_normals(vertices: Float[np.ndarray, "V 3"], triangles: Int[np.ndarray, "T 3"]) -> Float[np.ndarray, "V 3"]:
    """Unit normals, faces weighted by area; (0, 1, 0) at a vertex without a face."""
    corners = np.asarray(vertices, np.float64)[triangles]
    face = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], face)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-20, normals / np.maximum(length, 1e-20), [0.0, 1.0, 0.0]).astype(np.float32)


class _Packer:
    """Appends arrays to the binary chunk, each with its own view and accessor."""

    def __init__(self, document: gltf.GLTF2) -> None:
        self._document = document
        self._chunks: list[bytes] = []
        self._size = 0

    def add(
        self,
        array: np.ndarray,
        kind: str,
        *,
        bounds: bool = False,
        normalized: bool = False,
        target: int | None = None,
    ) -> int:
        """The index of the array's new accessor."""
        codes = {"f": gltf.FLOAT, "B": gltf.UNSIGNED_BYTE, "H": gltf.UNSIGNED_SHORT, "I": gltf.UNSIGNED_INT}
        data = np.ascontiguousarray(array).tobytes()
        view = gltf.BufferView(buffer=0, byteOffset=self._size, byteLength=len(data), target=target)
        self._document.bufferViews.append(view)
        rows = array.reshape(len(array), -1)
        self._document.accessors.append(
            gltf.Accessor(
                bufferView=len(self._document.bufferViews) - 1,
                componentType=codes[array.dtype.char],
                normalized=normalized,
                count=len(array),
                type=kind,
                min=[float(x) for x in rows.min(0)] if bounds else None,
                max=[float(x) for x in rows.max(0)] if bounds else None,
            )
        )
        self._chunks.append(data + b"\0" * (-len(data) % 4))
        self._size += len(self._chunks[-1])
        return len(self._document.accessors) - 1

    def finish(self) -> bytes:
        """The whole file."""
        self._document.buffers = [gltf.Buffer(byteLength=self._size)]
        self._document.set_binary_blob(b"".join(self._chunks))
        return b"".join(self._document.save_to_bytes())


def _xyzw(wxyz: np.ndarray) -> np.ndarray:
    """(x, y, z, w) as glTF wants it, of unit length."""
    q = np.asarray(wxyz, np.float64)
    return np.roll(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, axis=-1)


def one_hemisphere(curve: Float[np.ndarray, "F 4"]) -> Float[np.ndarray, "F 4"]:
    """The same rotations with signs that never flip, for readers that interpolate component by component."""
    flips = np.where((curve[1:] * curve[:-1]).sum(-1) < 0, -1.0, 1.0)
    return (curve * np.concatenate([[1.0], np.cumprod(flips)])[:, None]).astype(np.float32)


def _linear_rgba(srgb: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, "V 4"]:
    """Vertex colours as glTF wants them: linear light, not sRGB; 16 bits keep the dark tones apart."""
    c = np.clip(np.asarray(srgb, np.float64), 0.0, 1.0)
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    rgba = np.concatenate([linear, np.ones((len(c), 1))], axis=1)
    return np.round(rgba * 65535).astype(np.uint16)
