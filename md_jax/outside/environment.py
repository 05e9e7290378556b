"""What the process finds around it, put in order before heavy imports: threads, output, caches, drawing."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from md_jax.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Buffer

THREADS = "OMP_NUM_THREADS"


def prepare() -> None:
    """Prepare this process for a run. Nothing here fails; what cannot be had is replaced, with a note.

    - One torch thread on the CPU: sums split over threads round otherwise, and a motion should not depend on the number
      of cores; on a busy machine several threads also wait for each other. Read when torch is first imported.
    - What a terminal's encoding cannot show is replaced by a question mark.
    - Output that nobody reads any more (`md-jax ... | head`) goes nowhere, and the run goes on.
    - A warning is one line.
    - JAX's rules of types and shapes are the standard ones, whatever a shell has set.
    - Where the user's cache folder cannot be written, a temporary one stands in for this run.
    """
    os.environ.setdefault(THREADS, "1")
    for name in ("JAX_NUMPY_DTYPE_PROMOTION", "JAX_NUMPY_RANK_PROMOTION"):
        os.environ.pop(name, None)
    os.environ["MPLBACKEND"] = "Agg"  # pictures go to files, also where a notebook has set its own
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    sys.stdout, sys.stderr = patient(sys.stdout), patient(sys.stderr)
    warnings.formatwarning = in_one_line
    if not _writable(cache_folder()):
        folder = Path(tempfile.mkdtemp(prefix="md_jax-cache-"))
        for name in ("XDG_CACHE_HOME", "WARP_CACHE_PATH", "MPLCONFIGDIR", "HF_HOME"):
            os.environ[name] = str(folder / name.split("_")[0].lower())
        print(f"note: no cache folder can be written (XDG_CACHE_HOME names one): {folder} stands in", file=sys.stderr)


def in_one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning as a user reads it: a note, and where it does not come from this program also its place."""
    text = " ".join(str(message).split())
    return f"note: {text}\n" if category is UserWarning else f"{category.__name__}: {text} ({filename}:{lineno})\n"


class _Pipe(io.FileIO):
    """A file whose reader may go away; what else stops it (a full disk) is told once."""

    _closed = False

    def write(self, data: Buffer, /) -> int:
        size = memoryview(data).nbytes
        if self._closed:
            return size
        try:
            return super().write(data)
        except OSError as error:
            self._closed = True
            if isinstance(error, BrokenPipeError):
                return size
            raise


class _Patient(io.TextIOWrapper):
    """Text that goes to a `_Pipe`."""

    instead_of: TextIO  # held: a stream that nobody holds closes its descriptor, which is ours, too


def patient(stream: TextIO) -> TextIO:
    """The same stream, which goes on when the reader of a pipe is gone; a terminal and what is no file stay as they
    are."""
    if not isinstance(stream, io.TextIOWrapper) or isinstance(stream, _Patient) or stream.isatty():
        return stream
    stream.flush()
    raw = _Pipe(stream.fileno(), "w", closefd=False)
    lines, through = stream.line_buffering, stream.write_through
    buffer = io.BufferedWriter(raw)
    found = _Patient(buffer, stream.encoding, stream.errors, line_buffering=lines, write_through=through)
    found.instead_of = stream
    return found


def cache_folder() -> Path:
    """The user's cache folder for md_jax ($XDG_CACHE_HOME, else ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "md_jax"


def keep_compiled() -> None:
    """Keep the programs that JAX compiles between processes, where the user's caches lie; imports JAX.

    All of them: JAX by itself keeps what took over a second, and a start has some dozens that take less.

    Raises:
        UserError: XLA does not take XLA_FLAGS.
    """
    _check_xla_flags()
    import jax

    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]  # the caller's own, or of a call before
        jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def _check_xla_flags() -> None:
    """XLA ends the process over flags that it does not know: where there are any, a process of its own tries them."""
    if not (flags := os.environ.get("XLA_FLAGS", "").strip()):
        return
    code = "import jax; jax.devices()"
    env = os.environ | {"JAX_PLATFORMS": "cpu"}
    tried = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=False)
    if tried.returncode:
        raise UserError(f"XLA does not take XLA_FLAGS={flags!r} of the environment: unset it, or give another value.")


def _writable(folder: Path) -> bool:
    try:
        str(folder).encode()  # JAX and Warp take no path that is no text
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return not str(folder).startswith("~")
    except (OSError, ValueError):
        return False
