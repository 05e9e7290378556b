"""Files for `benchmarks.hostile` that no reader should take: damaged, hostile, or such as never end."""

from __future__ import annotations

import io
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np


def _bomb() -> bytes:
    """A member of 64 MiB that says it holds 4 GiB."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("poses.npy", "w", force_zip64=True) as file,
    ):
        head = np.lib.format.header_data_from_array_1_0(np.zeros((1, 165)))
        head["shape"] = (3_000_000, 165)
        np.lib.format.write_array_header_1_0(file, head)
        for _ in range(64):
            file.write(bytes(1 << 20))
    return buffer.getvalue()


def _encrypted() -> bytes:
    data = bytearray(_npz(poses=np.zeros((2, 165))))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20 << 30)


CONTENTS: dict[str, bytes] = {
    "empty": b"",
    "random bytes": bytes(np.random.default_rng(0).integers(0, 256, 4000, np.uint8)),
    "UTF-16": "--steps=3\n{}".encode("utf-16"),
    "Latin-1": b'{"a": "gr\xfc\xdfe"}\n--prompt=gr\xfc\xdfe\n',
    "NUL": b"--prompt=a\0b\n",
    "deep JSON": b"[" * 200_000,
    "deep object": b'{"a":' * 50_000,
    "long number": b'{"frames": ' + b"9" * 6000 + b"}",
    "NaN": b'{"frames": NaN, "actions": [NaN], "step": NaN}',
    "a list": b"[1, 2]\n",
    "null": b"null\n",
    "odd values": b'{"state": 5, "_class_name": 7, "unet": {"a": []}, "actions": 3, "frames": "x", "sha256": 3}',
    "a pickle": pickle.dumps({"a": [1]}),
    "objects": _npz(poses=np.array([{}], object), pose_steps=np.array([None])),
    "a single array": _npz(a=np.zeros(1))[:0] + b"\x93NUMPY\x01\x00\x76\x00" + b" " * 118,
    "half a zip": _npz(poses=np.zeros((2, 165)))[:200],
    "encrypted": _encrypted(),
    "safetensors of nonsense": (1 << 60).to_bytes(8, "little") + b"{}",
    "a flag file of itself": b"--flagfile=BAD\n",
    "control characters": b"a \x1b[2J man\x07 runs\n",
}
MAKERS: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "endless zeros": lambda path: path.symlink_to("/dev/zero"),
    "a dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "a folder": lambda path: path.mkdir(),
    "a file of 20 GiB": _sparse,
    "a zip bomb": lambda path: path.write_bytes(_bomb()),
    **{name: (lambda path, data=data: path.write_bytes(data)) for name, data in CONTENTS.items()},  # type: ignore[misc]
}
FEW = ("a pipe", "a folder", "a link to itself", "random bytes", "deep JSON", "odd values")  # where a run goes on


def replace(path: Path, make: Callable[[Path], object]) -> None:
    """Put something bad in a file's or a folder's place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
