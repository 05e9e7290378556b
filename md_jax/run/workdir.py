"""The folder of a run: making a fresh one, refusing one that is taken, going on with an old one."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from md_jax import __version__
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.files import write_bytes
from md_jax.options.flags import as_typed, from_flagfile, to_flagfile

RUNS = Path("runs")
FLAGS_FILE = "run.flags"
# May differ from the run that is resumed: they say where and how to go on, not what is computed.
FREE_ON_RESUME = ("workdir", "resume", "log_every", "checkpoint_every", "preview_every", "prior_batch", "encode_chunk",
                  "low_vram", "oom", "compile", "export_fps", "ground", "hands", "up")  # fmt: skip


def open_run(config: Config, typed: set[str]) -> tuple[Config, Path]:
    """The run's folder, and the config to go by.

    Precedence, first match wins:
      1. --resume --workdir=W: the run in W, with the flags W/run.flags recorded.
      2. --resume alone: the newest run under runs/.
      3. --workdir=W: a new run in W, refused if W holds one.
      4. neither: a new numbered folder under runs/.

    Args:
        config: what the flags say.
        typed: names of the flags typed on the command line itself; on resume they must agree with the run, while those
            from a flag file give way to it.

    Raises:
        UserError: the folder cannot be written, holds another run, or there is none to resume.
    """
    if config.resume:
        folder = Path(config.workdir) if config.workdir else _newest_run()
        return _resumed(config, folder, typed), folder
    folder = _claimed(Path(config.workdir)) if config.workdir else _numbered(config)
    write_bytes(folder / FLAGS_FILE, to_flagfile(config).encode())
    return config, folder


def discard_unused(folder: Path) -> None:
    """Remove a run's folder that holds its flags alone: the run could not start, and the next try may take its name."""
    if [path.name for path in folder.iterdir()] == [FLAGS_FILE]:
        (folder / FLAGS_FILE).unlink()
        folder.rmdir()


def slug(prompt: str, length: int = 40) -> str:
    """A folder name for a prompt: lower-case words joined by hyphens."""
    words = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")
    return words[:length].rstrip("-") or "motion"


def environment(devices: str) -> dict[str, Any]:
    """Versions, hardware and commit, for environment.json."""
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
        "command": sys.argv,
    }


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole or not at all (see `write_bytes`)."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


# --- helpers ----------------------------------------------------------------------------------------------------


def _resumed(config: Config, folder: Path, typed: set[str]) -> Config:
    if not (folder / FLAGS_FILE).is_file():
        raise UserError(f"nothing to resume in {folder}: it holds no {FLAGS_FILE}. Leave out --resume to start there.")
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
    if (folder / FLAGS_FILE).exists():
        raise UserError(f"--workdir={folder} already holds a run: add --resume to go on with it, or name another"
                        " folder.")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--workdir={folder} cannot be made: {error.strerror or error}.") from error
    return folder


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


def _newest_run() -> Path:
    runs = sorted(p.parent for p in RUNS.glob(f"[0-9][0-9][0-9][0-9]-*/{FLAGS_FILE}"))
    if not runs:
        raise UserError(f"nothing to resume: there is no run under {RUNS.resolve()}. Name its folder with --workdir.")
    return runs[-1]


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
