"""The two ways a run stops on purpose, and the line that a program says about any error."""

from __future__ import annotations

import os
import re
import tempfile
import traceback
from pathlib import Path

_JAX_SAYS = re.compile(r"for (?:environment|JAX flag) '?(JAX_\w+)", re.IGNORECASE)
_TORCH_SAYS = re.compile(r"try (TORCH_LOGS)=")


class UserError(ValueError):
    """Something the user can put right; entry points print it as one line, without a traceback."""


class DivergedError(RuntimeError):
    """The gradient stayed non-finite for too many steps in a row."""


def one_line(error: BaseException) -> str:
    """What an error says, in one line; what would steer a terminal, as names in a file may, becomes a question mark."""
    if isinstance(error, MemoryError):
        what = str(error) or "none is left"
        return f"there is not enough memory ({what}): take fewer motions or views, or smaller pictures."
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in text) or type(error).__name__


def of_surroundings(error: Exception) -> str:
    """A line about an environment variable that a library, as it is imported, does not take; "": another error."""
    found = _JAX_SAYS.search(str(error)) or _TORCH_SAYS.search(str(error)) if isinstance(error, ValueError) else None
    name = found[1].upper() if found else ""
    if name not in os.environ:
        return ""
    library = "JAX" if name.startswith("JAX") else "torch"
    return (
        f"{library} does not take {name}={os.environ[name][:60]!r} of the environment: unset it, or give another value."
    )


def kept_traceback(error: Exception, folder: Path | None) -> str:
    """A line about an error that nobody foresaw; its traceback is kept in `folder`, or among the temporary files."""
    where = folder if folder is not None and folder.is_dir() else Path(tempfile.gettempdir())
    path = where / "md_jax-error.txt"
    said = f"unforeseen, {type(error).__name__}: {one_line(error)[:300]}"
    try:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8", errors="replace")
    except OSError:
        return said
    return f"{said}; please report it with {path}"
