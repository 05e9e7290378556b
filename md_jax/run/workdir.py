"""The folder of a run: making a fresh one, refusing one that is taken, going on with an old one."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from md_jax import __version__
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.files import is_file, read_bytes, to_json, write_bytes
from md_jax.options.flags import as_typed, from_flagfile, to_flagfile
from md_jax.outside import lock

if TYPE_CHECKING:
    from md_jax.timeline.plan import Clip

RUNS = Path("runs")
FLAGS_FILE = "run.flags"
_SIGNATURE = "# SHA-256 of the lines above: "
# May differ from the run that is resumed: they say where and how to go on, not what is computed.
FREE_ON_RESUME = ("workdir", "resume", "log_every", "checkpoint_every", "preview_every", "prior_batch", "encode_chunk",
                  "low_vram", "oom", "compile", "export_fps", "hands", "up")  # fmt: skip


def open_run(config: Config, typed: set[str], tell: Callable[[str], None] = lambda text: None) -> tuple[Config, Path]:
    """The run's folder, locked for this process (`md_jax.outside.lock`), and the config to go by.

    Precedence, first match wins:
      1. --resume --workdir=W: the run in W, with the flags W/run.flags recorded.
      2. --resume alone: the newest run under runs/.
      3. --workdir=W: a new run in W, refused if W holds one.
      4. neither: a new numbered folder under runs/.

    Args:
        config: what the flags say.
        typed: names of the flags typed on the command line itself; on resume they must agree with the run, while those
            from a flag file give way to it.
        tell: called with a line about a process that died in the run.

    Raises:
        UserError: the folder cannot be written, holds another run or is another process's, or there is none to resume.
    """
    if config.resume:
        folder = Path(config.workdir) if config.workdir else newest_run()
        if folder is None:
            raise UserError(f"nothing to resume: there is no run under {RUNS.resolve()}. Name its folder with"
                            " --workdir.")  # fmt: skip
        if not is_file(folder / FLAGS_FILE):
            raise UserError(f"nothing to resume in {folder}: it holds no {FLAGS_FILE}. Leave out --resume to start"
                            " there.")  # fmt: skip
        if note := lock.take(folder):
            tell(note)
        with _given_back(folder):
            return _resumed(config, folder, typed), folder
    folder = _claimed(Path(config.workdir)) if config.workdir else _numbered(config)
    lock.take(folder)
    with _given_back(folder):
        if config.workdir:
            _refuse_taken(folder)  # again: another start may have come between
        write_bytes(folder / FLAGS_FILE, signed(to_flagfile(config)).encode())
    return config, folder


def newest_run() -> Path | None:
    """The folder of the newest run under runs/; None where there is none."""
    runs = sorted(p.parent for p in RUNS.glob(f"[0-9][0-9][0-9][0-9]-*/{FLAGS_FILE}"))
    return runs[-1] if runs else None


def discard_unused(folder: Path) -> None:
    """Remove a run's folder that holds its flags alone: the run could not start, and the next try may take its name."""
    with contextlib.suppress(OSError):
        if {path.name for path in folder.iterdir()} <= {FLAGS_FILE, lock.LOCK_FILE}:
            (folder / FLAGS_FILE).unlink(missing_ok=True)
            lock.release(folder)
            folder.rmdir()


def signed(text: str) -> str:
    """A flag file with a last line that tells whether it is still what was written."""
    return f"{text}{_SIGNATURE}{hashlib.sha256(text.encode()).hexdigest()}\n"


def check_signed(path: Path) -> None:
    """Refuse a run's flag file that is not what was written.

    Raises:
        UserError: it was damaged or edited.
    """
    text, mark, _ = (data := read_bytes(path).decode("utf-8", errors="replace")).rpartition(_SIGNATURE)
    if not mark or signed(text) != data:
        raise UserError(
            f"{path} is not as the run wrote it, damaged or edited, and a resumed run keeps its options: put it back,"
            f" or start a new run with --flagfile={path} and another --workdir."
        )


def slug(prompt: str, length: int = 40) -> str:
    """A folder name for a prompt: lower-case words joined by hyphens."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:length].rstrip("-") or "motion"


def environment(devices: str, clip: Clip) -> dict[str, Any]:
    """Versions, hardware and commit, and the clip that the loaded prior judges, for environment.json."""
    packages = ("jax", "jaxlib", "flax", "optax", "torch", "diffusers", "transformers", "warp-lang", "numpy")
    return {
        "md_jax": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": devices,
        "clip": dataclasses.asdict(clip),
        "command": [_without_home(argument) for argument in sys.argv],
    }


def motion_number(config: Config, m: int, count: int) -> str:
    """The end of a sheet's small print: which motion of the seed it is, under the number that its folder has."""
    return f", motion-{config.first_motion + m:02d}" if count > 1 or config.first_motion else ""


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all (see `write_bytes`)."""
    write_bytes(path, (to_json(value, indent=2) + "\n").encode())


@contextlib.contextmanager
def _given_back(folder: Path) -> Iterator[None]:
    """Give the lock back where the block fails, and take a folder away that nothing could be written into."""
    try:
        yield
    except BaseException:
        lock.release(folder)
        with contextlib.suppress(OSError):  # it holds something
            folder.rmdir()
        raise


# --- helpers ----------------------------------------------------------------------------------------------------


def _resumed(config: Config, folder: Path, typed: set[str]) -> Config:
    check_signed(folder / FLAGS_FILE)
    recorded = from_flagfile(folder / FLAGS_FILE)
    differing = [
        f.name
        for f in dataclasses.fields(Config)
        if f.name in typed and f.name not in FREE_ON_RESUME and getattr(config, f.name) != getattr(recorded, f.name)
    ]
    if differing:
        was = as_typed({name: getattr(recorded, name) for name in differing})
        raise UserError(f"the run in {folder} was started with {was}: a resumed run keeps its options. Leave"
                        " the flag out, or start a new run.")  # fmt: skip
    free = [name for name in FREE_ON_RESUME if name in typed or name in ("workdir", "resume")]
    return dataclasses.replace(recorded, **{name: getattr(config, name) for name in free})


def _claimed(folder: Path) -> Path:
    _refuse_taken(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"--workdir={folder} cannot be made: {reason or error}.") from error
    return folder


def _refuse_taken(folder: Path) -> None:
    if os.path.lexists(folder / FLAGS_FILE):
        raise UserError(f"--workdir={folder} already holds a run: add --resume to go on with it, or name another"
                        " folder.")  # fmt: skip


def _numbered(config: Config) -> Path:
    """A fresh runs/NNNN-slug; making the folder is what claims the number, so that two starts never share one."""
    name = slug(Path(config.prompts_file).stem if config.prompts_file else config.prompt)
    try:
        RUNS.mkdir(exist_ok=True)
        number = 1 + max((int(p.name[:4]) for p in RUNS.glob("[0-9][0-9][0-9][0-9]-*")), default=0)
        while True:
            folder = RUNS / f"{number:04d}-{name}"
            try:
                if not any(RUNS.glob(f"{number:04d}-*")):
                    folder.mkdir()
                    return folder
            except FileExistsError:
                pass
            number += 1
    except OSError as error:
        raise UserError(f"{RUNS.resolve()} cannot be written: {error.strerror or error}. Name a folder with"
                        " --workdir.") from error  # fmt: skip


def _without_home(text: str) -> str:
    """The text with ~ for the home folder: files are passed on, and its name is nobody's business."""
    home = os.path.expanduser("~")
    return text.replace(home, "~") if len(home) > 1 else text


def _commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
