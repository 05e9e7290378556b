"""The one reader of .npz files: each array's header is checked before its data is read, and nothing is unpickled."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection
from typing import Any

import numpy as np

from md_jax.errors import UserError
from md_jax.files import MIB, open_file, shown_size

FILE_LIMIT = 4096 * MIB  # bytes of an archive: the largest body files hold some hundred MiB
ARRAYS_LIMIT = 2048 * MIB  # bytes of the arrays read from one, unpacked
MEMBERS_LIMIT = 10_000
_READABLE = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npz(
    path: str | os.PathLike, names: Collection[str] | None = None, limit: int = ARRAYS_LIMIT
) -> dict[str, np.ndarray]:
    """Plain arrays of an npz file by name.

    Args:
        path: the file.
        names: the arrays wanted, of which only those that are there come back; None: all. Others are not unpacked.
        limit: the most bytes that the arrays read may take.

    Raises:
        UserError: the file is missing or no npz; or an array wanted is damaged, too large, or holds Python objects.
    """
    with open_file(path, FILE_LIMIT) as file:
        try:
            return _read(path, file, names, limit)
        except UserError:
            raise
        # zipfile, zlib and NumPy raise a dozen types for hostile bytes: AttributeError, struct.error, SyntaxError ...
        except Exception as error:
            why = " ".join(str(error).split()).rstrip(".")[:160] or type(error).__name__
            raise UserError(f"{path} cannot be read as an npz file: it is damaged, or no npz archive ({why}).") from error


def _read(path: str | os.PathLike, file: Any, names: Collection[str] | None, limit: int) -> dict[str, np.ndarray]:
    start = file.read(8)
    if start.startswith(b"\x93NUMPY"):
        raise UserError(f"{path} cannot be read as an npz file: it holds a single array (.npy); expected an archive.")
    if not start.startswith(b"PK"):
        raise UserError(f"{path} cannot be read as an npz file: it is no npz archive, or a damaged one.")
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        if len(members) > MEMBERS_LIMIT:
            raise UserError(f"{path} holds {len(members)} members: expected an npz file of a few arrays.")
        wanted = {m.filename.removesuffix(".npy"): m for m in members}
        wanted = {name: m for name, m in wanted.items() if names is None or name in names}
        total = sum(m.file_size for m in wanted.values())
        if total > limit:
            raise UserError(
                f"{path} unpacks to {shown_size(total)}: expected at most {shown_size(limit)}; the largest array is"
                f" {max(wanted, key=lambda name: wanted[name].file_size)!r}."
            )
        return {name: _member(path, archive, member, name) for name, member in wanted.items()}


def _member(path: str | os.PathLike, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    """One array, whose header must agree with the size of its member."""
    where = f"{path}: the array {name!r}"
    if member.flag_bits & 1:
        raise UserError(f"{where} is encrypted: expected plain arrays.")
    if member.compress_type not in _READABLE:
        raise UserError(f"{where} is compressed by method {member.compress_type}: expected stored or deflated data.")
    with archive.open(member) as data:
        if data.read(6) != b"\x93NUMPY":
            raise UserError(f"{where} is no array: expected NumPy's format (.npy).")
        major = data.read(2)[0]
        length = int.from_bytes(data.read(2 if major == 1 else 4), "little")
        if length > MIB:
            raise UserError(f"{where} has a header of {shown_size(length)}: it is damaged.")
    with archive.open(member) as data:
        version = np.lib.format.read_magic(data)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise UserError(f"{where} has the unknown format {version[0]}.{version[1]}.")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, kind = read(data)
    if kind.hasobject:
        raise UserError(f"{where} holds Python objects, which are never unpickled: save it as plain numbers.")
    head = (10 if version == (1, 0) else 12) + length
    declared = math.prod(shape) * kind.itemsize
    if declared != member.file_size - head or min(shape, default=0) < 0:
        raise UserError(
            f"{where} declares the shape {shape} of {kind}, {shown_size(declared)}, and holds"
            f" {shown_size(max(member.file_size - head, 0))}: it is damaged."
        )
    with archive.open(member) as data:
        return np.lib.format.read_array(data, allow_pickle=False)
