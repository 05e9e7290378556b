"""One process a run: a lock on the run's folder, which the system frees when its holder dies."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import sys
from pathlib import Path

from md_jax.errors import UserError
from md_jax.files import WriteError, resolved

LOCK_FILE = "lock"
_held: dict[Path, int] = {}  # open files of this process, by folder: the system's lock lives as long as they do


def take(folder: Path) -> str | None:
    """Lock a run's folder for this process; taking it again does nothing.

    Returns:
        A line about a lock left behind by a process that has died, or None.

    Raises:
        UserError: another process works in the folder, here or on another host.
        WriteError: the lock cannot be written.
    """
    folder = resolved(folder)
    if folder in _held:
        return None
    path = folder / LOCK_FILE
    descriptor: int | None = None
    try:
        descriptor = _locked(path)
        left = _content(descriptor)
        try:
            note = _note(left, path)
        except UserError:
            os.close(descriptor)
            raise
        mine = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, mine, 0)
    except OSError as error:
        if descriptor is not None:
            os.close(descriptor)
        raise WriteError(f"{path} cannot be written: {error.strerror or error}.") from error
    _held[folder] = descriptor
    return note


def release(folder: Path) -> None:
    """Give the lock back, if this process has it."""
    descriptor = _held.pop(resolved(folder), None)
    if descriptor is not None:
        with contextlib.suppress(OSError):
            (folder / LOCK_FILE).unlink()  # while it is locked: whoever waits for it finds that it has gone
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether a process works in a folder, as far as its lock file says; the lock itself is not touched."""
    try:
        content = json.loads((folder / LOCK_FILE).read_bytes()[:1000])
        pid, host = int(content["pid"]), content["host"]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # being written, or of another kind: somebody's
        return True
    if host != socket.gethostname() or sys.platform == "win32":  # where signal 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's
        return True
    return True


def _locked(path: Path) -> int:
    """The lock file, open and locked.

    Raises:
        UserError: another process has it.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(descriptor)
            if os.fstat(descriptor).st_ino == os.stat(path).st_ino:
                return descriptor
        except BlockingIOError:
            holder = _content(descriptor)
            os.close(descriptor)
            raise UserError(
                f"the run in {path.parent} is in the hands of process {holder.get('pid', '?')} on"
                f" {holder.get('host', 'this host')}: wait for it, or stop it; the run stays as it is."
            ) from None
        except FileNotFoundError:  # its holder gave it back in this moment
            pass
        os.close(descriptor)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            raise BlockingIOError from error
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EINVAL):  # a file system without locks
            raise


def _content(descriptor: int) -> dict[str, object]:
    try:
        content = json.loads(os.pread(descriptor, 1000, 0))
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _note(left: dict[str, object], path: Path) -> str | None:
    """What to say of a lock file that nobody on this host holds.

    Raises:
        UserError: its holder may still run on another host, where this one cannot look.
    """
    if not left:
        return None
    pid, host = left.get("pid"), left.get("host")
    if host != socket.gethostname():
        raise UserError(
            f"the run in {path.parent} is in the hands of process {pid} on {host}: if that one has ended, remove"
            f" {path} and start this again."
        )
    return f"process {pid} had this run and has ended: going on in its place."
