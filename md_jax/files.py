"""Files from outside, read with every failure as one line, and files of ours, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from md_jax.errors import UserError

MIB = 2**20
TEXT_LIMIT = 8 * MIB  # bytes of a text or JSON file: prompts, flags, settings
MOST_FILES = 50_000  # files and folders in one of clips or of a prior
FULL = (errno.ENOSPC, errno.EDQUOT)  # what a full disk and a used-up quota report

# --- writing ----------------------------------------------------------------------------------------------------


class WriteError(UserError):
    """A file that cannot be written: no such folder, no permission, no space."""


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` to write to, which replaces `path` if the block ends well, and else goes.

    It is on the disk before it takes the name, so that a power cut leaves the old file or the new one.

    Raises:
        WriteError: it cannot be written (no such folder, no permission, disk full).
    """
    if is_special(path):  # root could rename over /dev/null
        raise WriteError(f"{path} is a device or a pipe: expected a regular file to write.")
    part = path.with_name(path.name + ".part")
    try:
        yield part
        _sync(part)
        os.replace(part, path)
    except OSError as error:
        raise WriteError(
            f"{path} cannot be written: {error.strerror or error}. Make room, then go on with --resume, or name"
            " another --workdir."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the system write a file's bytes out; what is no file of a disk needs none."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS):
            raise
    finally:
        os.close(descriptor)


def output_file(path: str | os.PathLike) -> Path:
    """Where a file is to be written, with a leading ~ filled in.

    Raises:
        UserError: there is a folder, a device or a pipe, or the path names no file.
    """
    target = expanded(path)
    if not target.name or is_folder(target):
        raise UserError(f"{shown(os.fspath(path))} is a folder: expected the name of a file to write.")
    if is_special(target):
        raise UserError(f"{shown(os.fspath(path))} is a device or a pipe: expected a regular file to write.")
    return target


def write_bytes(path: Path, data: bytes) -> None:
    """Write a small file whole or not at all.

    Raises:
        WriteError: it cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(data)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        WriteError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"the folder {path} cannot be made: {error.strerror or error}.") from error


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON text in which a number that is not finite is null: JSON has no word for it."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value


# --- reading ----------------------------------------------------------------------------------------------------


def expanded(path: str | os.PathLike) -> Path:
    """The path with a leading ~ filled in.

    Raises:
        UserError: there is no such user, or no home folder.
    """
    text = os.fspath(path)
    full = os.path.expanduser(text)
    if full.startswith("~"):
        raise UserError(f"{text}: there is no home folder of that name; write the path out, or ./~ for a name with ~.")
    return Path(full)


def resolved(path: str | os.PathLike) -> Path:
    """The absolute path with its links followed as far as they lead; of a link to itself, the link (`Path.resolve`
    raises a RuntimeError there, until Python 3.13)."""
    return Path(os.path.realpath(path))


def read_bytes(path: str | os.PathLike, limit: int = TEXT_LIMIT) -> bytes:
    """The bytes of a regular file; devices and pipes, which may never end, are refused.

    Raises:
        UserError: it is missing, no regular file, larger than `limit` bytes, or cannot be read.
    """
    with open_file(path, limit) as file:
        data = file.read(limit + 1)
        if data is None:  # the system's own files may have nothing to give yet
            raise UserError(f"{shown(os.fspath(path))} gives no data: expected a regular file.")
        return data


@contextlib.contextmanager
def open_file(path: str | os.PathLike, limit: int) -> Iterator[Any]:
    """A regular file, opened for its bytes; errors of the file system inside the block become one line, too.

    Raises:
        UserError: as `read_bytes`.
    """
    name = os.fspath(path)
    try:
        flags = os.O_RDONLY
        if sys.platform == "win32":
            flags |= os.O_BINARY
        else:
            flags |= os.O_NONBLOCK  # a pipe must not keep us waiting
        descriptor = os.open(name, flags)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise UserError(f"{name} is a folder: expected a file.")
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f"{name} is a device or a pipe: expected a regular file.")
            if status.st_size > limit:
                size = shown_size(status.st_size)
                raise UserError(f"{name} holds {size}: expected at most {shown_size(limit)}; is it the right file?")
            yield file
    except OSError as error:
        raise UserError(f"{shown(name)} cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        if isinstance(error, UserError) or "null" not in str(error):
            raise
        raise UserError(f"{shown(name)} cannot be read: no path holds a NUL character.") from error


def shown(name: str) -> str:
    """A path as one line of bearable length."""
    name = name.encode(errors="replace").decode().replace("\0", "\\0")
    return name if len(name) <= 300 else f"{name[:140]}...{name[-140:]}"


def shown_size(count: int) -> str:
    return f"{count} bytes" if count < 10_000 else f"{count / MIB:,.1f} MiB"


def read_text(path: str | os.PathLike, limit: int = TEXT_LIMIT) -> str:
    """The text of a UTF-8 file, with or without a byte order mark; every kind of line end becomes a newline.

    Raises:
        UserError: as `read_bytes`; or it is text of another encoding, or no text.
    """
    data = read_bytes(path, limit)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16 text: expected UTF-8; save it as UTF-8.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: expected UTF-8 text, found the byte 0x{data[error.start]:02x}; save it"
                        " as UTF-8.") from error  # fmt: skip
    if "\0" in text:
        raise UserError(f"{path} holds NUL characters: expected plain text.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(path: str | os.PathLike, limit: int = TEXT_LIMIT) -> Any:
    """What a JSON file holds; NaN and infinity, which Python would take, are no JSON.

    Raises:
        UserError: as `read_text`; or it is no JSON.
    """
    return parse_json(read_text(path, limit), path)


def parse_json(text: str, source: str | os.PathLike) -> Any:
    """The value of a JSON text; `source` is named where it is none.

    Raises:
        UserError: it is no JSON, or too deep.
    """

    def refuse(name: str) -> NoReturn:
        raise UserError(f"{source} holds {name}: expected JSON, whose numbers are finite and of a usual size.")

    try:
        return json.loads(
            text,
            parse_constant=refuse,
            parse_float=lambda number: _number(number, refuse),
            parse_int=lambda number: _whole(number, refuse),
        )
    except RecursionError:
        raise UserError(f"{source} is nested too deeply: expected plain settings in JSON.") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{source} cannot be read as JSON: {error}.") from error
    except ValueError as error:  # whole numbers of thousands of digits
        if isinstance(error, UserError):
            raise
        raise UserError(f"{source} cannot be read as JSON: {str(error).splitlines()[0]}.") from error


def _number(text: str, refuse: Callable[[str], NoReturn]) -> float:
    """A number of a JSON text, which may be too large for one (1e999)."""
    return value if math.isfinite(value := float(text)) else refuse(text[:40])


def _whole(text: str, refuse: Callable[[str], NoReturn]) -> int:
    """A whole number of a JSON text: what does not fit into 64 bits would break one of its many readers."""
    return int(text) if len(text) <= 20 and -(2**63) <= int(text) < 2**64 else refuse(text[:40])


def files_under(folder: Path, ending: str = "") -> list[Path]:
    """The regular files in a folder and those in it, sorted; links to folders are not followed.

    Args:
        folder: where to look.
        ending: of the names; "": any.

    Raises:
        UserError: there are more than MOST_FILES things in it, or it cannot be read.
    """
    found, seen, waiting = [], 0, [folder]
    try:
        while waiting:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    seen += 1
                    if seen > MOST_FILES:
                        raise UserError(f"{folder} holds more than {MOST_FILES:,} files and folders: name the folder"
                                        " inside it that is meant.")  # fmt: skip
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    elif entry.name.endswith(ending) and entry.is_file():
                        found.append(Path(entry.path))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror or error}.") from error
    return sorted(found)


def is_file(path: str | os.PathLike) -> bool:
    """Whether there is a file (or a pipe, or a device: reading tells); False where the path cannot be one."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISDIR(mode)


def is_folder(path: str | os.PathLike) -> bool:
    """Whether there is a folder; False where the path cannot be one."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def is_special(path: str | os.PathLike) -> bool:
    """Whether there is a device, a pipe or a socket; False where the path cannot be one."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
