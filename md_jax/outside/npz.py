"""The one reader of .npz files: each array's header is checked before its data is read, and nothing is unpickled."""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from md_jax.errors import UserError
from md_jax.files import MIB, open_file, shown_size
from md_jax.outside.texts import LONGEST_PROMPT, cleaned

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
            raise UserError(f"{path} cannot be read as an npz file: damaged, or no npz archive ({why}).") from error


def _read(path: str | os.PathLike, file: Any, names: Collection[str] | None, limit: int) -> dict[str, np.ndarray]:
    start = file.read(8)
    if start.startswith(b"\x93NUMPY"):
        raise UserError(f"{path} cannot be read as an npz file: expected an archive, found a single array (.npy).")
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


def described(path: str | os.PathLike) -> str:
    """The arrays of an npz file by name and shape, for an error that says what was found."""
    found = []
    with open_file(path, FILE_LIMIT) as file, zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for member in members[:20]:
            name = member.filename.removesuffix(".npy")
            try:
                found.append(f"{name} {_header(path, archive, member, name)[0]}")
            except Exception:  # it is damaged, and only looked at
                found.append(name)
    return ", ".join(found) + (", ..." if len(members) > 20 else "") or "nothing"


def _header(
    path: str | os.PathLike, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str
) -> tuple[tuple[int, ...], np.dtype, int]:
    """(shape, type, bytes before the data) of a member, without its data.

    Raises:
        UserError: it is no array, or one that would not be read.
    """
    where = f"{path}: the array {name!r}"
    if member.flag_bits & 1:
        raise UserError(f"{where} is encrypted: expected plain arrays.")
    if member.compress_type not in _READABLE:
        raise UserError(f"{where} is compressed by method {member.compress_type}: expected stored or deflated data.")
    with archive.open(member) as data:
        start = data.read(12)
    if start[:6] != b"\x93NUMPY" or len(start) < 12:
        raise UserError(f"{where} is no array: expected NumPy's format (.npy).")
    version = (start[6], start[7])
    if version not in ((1, 0), (2, 0), (3, 0)):
        raise UserError(f"{where} has the unknown format {version[0]}.{version[1]}.")
    head = (
        10 + int.from_bytes(start[8:10], "little") if version == (1, 0) else 12 + int.from_bytes(start[8:12], "little")
    )
    if head > MIB:
        raise UserError(f"{where} has a header of {shown_size(head)}: it is damaged.")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with archive.open(member) as data:
        data.read(8)
        shape, _, kind = read(data)
    return shape, kind, head


def _member(path: str | os.PathLike, archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str) -> np.ndarray:
    """One array, whose header must agree with the size of its member."""
    where = f"{path}: the array {name!r}"
    shape, kind, head = _header(path, archive, member, name)
    if kind.hasobject:
        raise UserError(f"{where} is not a plain array (it holds Python objects, which are never unpickled).")
    declared = math.prod(shape) * kind.itemsize
    if declared != member.file_size - head or min(shape, default=0) < 0:
        raise UserError(
            f"{where} declares the shape {shape} of {kind}, {shown_size(declared)}, and holds"
            f" {shown_size(max(member.file_size - head, 0))}: it is damaged."
        )
    with archive.open(member) as data:
        array = np.lib.format.read_array(data, allow_pickle=False)
    if kind.kind == "U" and array.size:
        points = np.ascontiguousarray(array).reshape(-1).view(f"{kind.byteorder.replace('|', '=')}u4")
        if (points > 0x10FFFF).any() or ((points >= 0xD800) & (points < 0xE000)).any():  # NumPy would crash over them
            raise UserError(f"{where} holds text that is no Unicode: it is damaged.")
    return array


def text_in(path: str | os.PathLike, data: Mapping[str, np.ndarray], name: str, default: str = "") -> str:
    """A text among arrays, stored as such or as UTF-8 bytes, in one plain line; `default` where there is none.

    Raises:
        UserError: it is something else.
    """
    items = np.asarray(data.get(name, default)).reshape(-1)
    if items.size == 0:
        return ""
    item = items[0]
    if not isinstance(item, str | bytes):
        raise UserError(f"{path}: expected {name} to be text; found {items.dtype}.")
    try:
        text = item.decode() if isinstance(item, bytes) else str(item)
    except UnicodeDecodeError:
        raise UserError(f"{path}: expected {name} as UTF-8 text; found other bytes.") from None
    if len(text) > LONGEST_PROMPT:
        raise UserError(f"{path}: expected {name} as at most {LONGEST_PROMPT} characters; found {len(text)}.")
    return cleaned(text)


def number_in(path: str | os.PathLike, name: str, value: np.ndarray) -> float:
    """The one real number in an array.

    Raises:
        UserError: it holds something else.
    """
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "fiu":
        raise UserError(f"{path}: expected {name} to be one number; found {value.dtype} of shape {value.shape}.")
    return float(value.reshape(()))


def numbers_in(
    path: str | os.PathLike, name: str, value: np.ndarray, shape: tuple[int | None, ...], largest: float = 1e30
) -> np.ndarray:
    """An array of finite numbers of `shape`, where None stands for any length; `largest` is the greatest magnitude.

    Raises:
        UserError: it holds something else.
    """
    fits = value.ndim == len(shape) and all(n is None or n == m for n, m in zip(shape, value.shape, strict=True))
    if not fits or value.dtype.kind not in "fiu":
        wanted = ", ".join("any" if n is None else str(n) for n in shape)
        raise UserError(f"{path}: expected {name} as numbers of shape ({wanted}); found {value.dtype} of shape"
                        f" {value.shape}.")  # fmt: skip
    if not np.isfinite(value).all():
        raise UserError(f"{path}: {name} holds values that are not finite: the file is damaged.")
    if value.size and max(abs(float(value.min())), abs(float(value.max()))) > largest:
        raise UserError(f"{path}: expected {name} within {largest:g}; found {value.min():g} to {value.max():g}.")
    return value
