"""Binary glTF as it lies on the disk: read without touching anything, written back with one animation more.

The JSON is kept as it is (a reader with classes of its own would lose what it does not know), the binary data byte for
byte; new data is appended. Source: glTF 2.0 specification, 3.6 (accessors), 4.4 (the binary container).
"""

from __future__ import annotations

import copy
import json
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from md_jax.body.rotations import matrix_to_quaternion
from md_jax.errors import UserError
from md_jax.files import MIB, parse_json, read_bytes

Json = dict[str, Any]
LIMIT = 2048 * MIB  # bytes of a character
MOST_NODES = 5000  # of a file; each is gone through one by one
_MAGIC, _JSON, _BIN = b"glTF", b"JSON", b"BIN\0"
_TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
_FLOAT = 5126


@dataclass(frozen=True)
class Glb:
    """A file's parts."""

    path: str
    document: Json
    binary: bytes  # of the first buffer
    more: bytes  # chunks after that, which nobody defines yet


class Curve(NamedTuple):
    """One animated property of a node."""

    node: int
    path: str  # "translation" or "rotation"
    values: Float[np.ndarray, "F n"]  # quaternions are x, y, z, w


def read_glb(path: str | os.PathLike) -> Glb:
    """Read a .glb or .vrm.

    Raises:
        UserError: it is missing, too large, damaged, or another kind of file.
    """
    data, name = read_bytes(path, LIMIT), os.fspath(path)
    if not data.startswith(_MAGIC):
        raise UserError(f"{name} is no .glb or .vrm: {_looks_like(data)}.")
    if len(data) < 20 or struct.unpack_from("<I", data, 4)[0] != 2:
        raise UserError(f"{name}: expected binary glTF of version 2.")
    chunks, at = [], 12
    while at + 8 <= len(data):
        size, kind = struct.unpack_from("<I4s", data, at)
        if at + 8 + size > len(data):
            raise UserError(f"{name} ends before its data does: it is damaged.")
        chunks.append((kind, data[at + 8 : at + 8 + size], data[at:]))
        at += 8 + size
    if not chunks or chunks[0][0] != _JSON:
        raise UserError(f"{name} does not begin with JSON: it is damaged.")
    try:
        text = chunks[0][1].decode()
    except UnicodeDecodeError:
        raise UserError(f"{name} holds JSON that is no UTF-8 text: it is damaged.") from None
    document = parse_json(text, name)
    if not isinstance(document, dict) or not isinstance(document.get("asset"), dict):
        raise UserError(f"{name} holds JSON, but no glTF asset.")
    stored = len(chunks) > 1 and chunks[1][0] == _BIN
    after = 2 if stored else 1
    more = chunks[after][2] if len(chunks) > after else b""
    buffers = document.get("buffers") or [{}]
    if not isinstance(buffers, list):
        raise UserError(f"{name} does not list its buffers: it is damaged.")
    if not stored or not isinstance(buffers[0], dict) or "uri" in buffers[0]:
        raise UserError(f"{name} keeps its data in other files: expected one .glb with everything inside.")
    return Glb(name, document, chunks[1][1], more)


def _looks_like(data: bytes) -> str:
    if data.startswith(b"Kaydara FBX"):
        return "it is FBX; open it in Blender and export glTF 2.0 (.glb)"
    if data.lstrip()[:1] == b"{":
        return "it looks like glTF as text; export it as one binary file (.glb)"
    return "expected binary glTF, which begins with 'glTF'"


def numbers(glb: Glb, index: int) -> np.ndarray | None:
    """The values of an accessor, (count, n), normalised integers as floats; None where they are compressed (Draco,
    meshopt) and so not to be read here.

    Raises:
        KeyError, IndexError, TypeError, ValueError: the file is damaged.
    """
    accessor = glb.document["accessors"][index]
    kind, width, count = np.dtype(_TYPES[accessor["componentType"]]), _WIDTHS[accessor["type"]], int(accessor["count"])
    if count < 0 or count * width * kind.itemsize > LIMIT:
        raise ValueError(f"accessor {index} counts {count}")
    if "bufferView" not in accessor:
        if "sparse" not in accessor:
            return None
        values = np.zeros((count, width), kind)
    else:
        found = _packed(glb, accessor["bufferView"], accessor.get("byteOffset", 0), kind, width, count)
        if found is None:
            return None
        values = found
    if sparse := accessor.get("sparse"):
        at, new = sparse["indices"], sparse["values"]
        whole = np.dtype(_TYPES[at["componentType"]])
        places = _packed(glb, at["bufferView"], at.get("byteOffset", 0), whole, 1, sparse["count"])
        changed = _packed(glb, new["bufferView"], new.get("byteOffset", 0), kind, width, sparse["count"])
        if places is None or changed is None:
            return None
        values = values.copy()
        values[places[:, 0]] = changed
    if accessor.get("normalized") and kind.kind in "iu":
        largest = 2 ** (8 * kind.itemsize - (kind.kind == "i")) - 1
        return np.maximum(values / largest, -1.0)
    return values


def _packed(glb: Glb, view_index: int, offset: int, kind: np.dtype, width: int, count: int) -> np.ndarray | None:
    view = glb.document["bufferViews"][view_index]
    if view["buffer"] != 0 or "EXT_meshopt_compression" in view.get("extensions", {}):
        return None
    start, row = view.get("byteOffset", 0) + offset, kind.itemsize * width
    stride = view.get("byteStride") or row
    if min(start, offset, stride - row) < 0 or (count and start + stride * (count - 1) + row > len(glb.binary)):
        raise ValueError(f"buffer view {view_index} reaches beyond the data")
    if not count:
        return np.zeros((0, width), kind)
    return np.ndarray((count, width), kind, glb.binary, start, (stride, kind.itemsize))


def with_animation(glb: Glb, name: str, times: Float[np.ndarray, "F"], curves: Sequence[Curve]) -> bytes:
    """The whole file with one more animation at the end of its list; everything else stays as it is.

    Args:
        glb: the file; it is left alone.
        name: of the animation; a number follows where the file has one of that name.
        times: seconds.
        curves: at most one for each node and property.
    """
    document: Json = copy.deepcopy(glb.document)
    binary = bytearray(glb.binary[: document["buffers"][0]["byteLength"]])

    def add(values: np.ndarray, kind: str, **more: Any) -> int:
        binary.extend(b"\0" * (-len(binary) % 4))
        data = np.ascontiguousarray(values, np.float32).tobytes()
        views, accessors = document.setdefault("bufferViews", []), document.setdefault("accessors", [])
        views.append({"buffer": 0, "byteOffset": len(binary), "byteLength": len(data)})
        accessors.append({"bufferView": len(views) - 1, "componentType": _FLOAT, "count": len(values), "type": kind,
                          **more})  # fmt: skip
        binary.extend(data)
        return len(accessors) - 1

    seconds = np.asarray(times, np.float32)
    clock = add(seconds, "SCALAR", min=[float(seconds.min())], max=[float(seconds.max())])
    channels: list[Json] = []
    samplers: list[Json] = []
    for curve in curves:
        channels.append({"sampler": len(samplers), "target": {"node": curve.node, "path": curve.path}})
        output = add(curve.values, f"VEC{curve.values.shape[1]}")
        samplers.append({"input": clock, "interpolation": "LINEAR", "output": output})
        _only_trs(document["nodes"][curve.node])
    animations = document.setdefault("animations", [])
    taken = {animation.get("name") for animation in animations}
    unique = next(text for n in range(len(taken) + 1) if (text := f"{name} {n + 1}" if n else name) not in taken)
    animations.append({"name": unique, "channels": channels, "samplers": samplers})
    document["buffers"][0]["byteLength"] = len(binary)
    return _container(document, bytes(binary), glb.more)


def _only_trs(node: Json) -> None:
    """Turn a node's matrix into translation, rotation and scale: a node that is animated must not have one."""
    if "matrix" in node:
        translation, rotation, scale = parts(np.reshape(node.pop("matrix"), (4, 4)).T)
        node.update(translation=translation.tolist(), rotation=quaternion(rotation).tolist(), scale=scale.tolist())


def parts(matrix: Float[np.ndarray, "4 4"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Translation (3,), rotation (3, 3) and scale (3,) of a transform without shear."""
    scale = np.linalg.norm(matrix[:3, :3], axis=0)
    if np.linalg.det(matrix[:3, :3]) < 0:
        scale = scale * [-1, 1, 1]
    if not np.all(scale):
        raise ValueError("a node's matrix is flat")
    return matrix[:3, 3], matrix[:3, :3] / scale, scale


def quaternion(rotation: Float[np.ndarray, "*batch 3 3"]) -> Float[np.ndarray, "*batch 4"]:
    """Unit quaternions (x, y, z, w)."""
    wxyz = np.asarray(matrix_to_quaternion(rotation), np.float64)  # type: ignore[arg-type]
    return np.roll(wxyz / np.linalg.norm(wxyz, axis=-1, keepdims=True), -1, axis=-1)


def _container(document: Json, binary: bytes, more: bytes) -> bytes:
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    chunks = struct.pack("<I4s", len(text), _JSON) + text + struct.pack("<I4s", len(binary), _BIN) + binary + more
    return struct.pack("<4sII", _MAGIC, 2, 12 + len(chunks)) + chunks
