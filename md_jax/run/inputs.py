"""What a run was made from, by digest: recorded when it starts, compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jax

from md_jax.body.model import find_body
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.files import files_under, is_file, is_folder, read_json, to_json, write_bytes

INPUTS_FILE = "inputs.json"
SURFACE = "surface"
_DIGEST = "sha256"


def check_inputs(
    folder: Path, config: Config, prompts: Sequence[str], surface: str, tell: Callable[[str], None]
) -> None:
    """Record what the run in `folder` is made from, or compare it with what was recorded.

    Args:
        folder: of the run.
        config, prompts: the options and the sentences that they name.
        surface: the digest of the mesh that the body is drawn with (`md_jax.body.detail.surface_digest`).
        tell: called with a line where that cannot be told.

    Raises:
        UserError: a resumed run would go on from other sentences, files or settings than it began with.
        WriteError: the record cannot be written.
    """
    now = {**inputs_of(config, prompts), SURFACE: surface}
    path = folder / INPUTS_FILE
    if is_file(path):
        if (was := _recorded(path)) is not None:
            _compare(folder, was, now)
            return
        tell(f"{path} is damaged: whether the run goes on from the same files as before cannot be told")
    elif is_folder(folder / "checkpoints"):
        tell(f"{path} is missing: whether the run goes on from the same files as before cannot be told")
    write_bytes(path, (to_json({_DIGEST: _digest_of(now), **now}, indent=2) + "\n").encode())


def inputs_of(config: Config, prompts: Sequence[str]) -> dict[str, Any]:
    """The sentences, the digests of the files, and the settings outside of the flags that change a result."""
    shipped = Path(str(resources.files("md_jax") / "assets" / "statistics.npz"))
    prior = Path(str(resources.files("bridge"))) / "priors" / config.prior / "assets"
    files = {
        "statistics": Path(config.statistics) if config.statistics else shipped,
        "body": find_body(config.body, config.gender),
        "prior_path": Path(config.prior_path) if config.prior_path else prior,
        "image_prior_path": Path(config.image_prior_path) if config.image_prior_path else None,
        **{name: Path(file) for name in ("keyframes", "start", "end", "path") if (file := getattr(config, name))},
        "tiny_vae": Path(config.tiny_vae) if config.tiny_vae else None,
    }
    return {
        "prompts": list(prompts),
        **{name: digest(path) for name, path in files.items() if path is not None},
        "JAX_ENABLE_X64": str(int(bool(jax.config.read("jax_enable_x64")))),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", ""),
    }


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files; a hub id is its own name.

    Raises:
        UserError: a file cannot be read.
    """
    if is_file(path):
        return _of_file(path)
    if not is_folder(path):
        return str(path)
    whole = hashlib.sha256()
    for file in files_under(path):
        whole.update(f"{file.relative_to(path).as_posix()}\0{_of_file(file)}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _of_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from error


def _recorded(path: Path) -> dict[str, Any] | None:
    """The record of a run; None where it is damaged."""
    try:
        record = read_json(path)
    except UserError:
        return None
    if not isinstance(record, dict) or record.pop(_DIGEST, None) != _digest_of(record):
        return None
    return record


def _digest_of(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _compare(folder: Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    if was == now:
        return
    begun = f"the run in {folder} was begun"
    if was.get("prompts") != now["prompts"]:
        before, here = list(was.get("prompts", [])), list(now["prompts"])
        pairs = zip(before, here, strict=False)
        first = next(((a, b) for a, b in pairs if a != b), (f"{len(before)} prompts", f"{len(here)}"))
        raise UserError(f"{begun} with {first[0]!r} where --prompts_file now says {first[1]!r}: put it back, or start a"
                        " new run.")  # fmt: skip
    for name in ("JAX_ENABLE_X64", "OMP_NUM_THREADS"):
        if was.get(name) != now[name]:
            raise UserError(f"{begun} with {name}={was.get(name)}, and it is now {now[name]!r}: numbers would come out"
                            " otherwise; set it as it was.")  # fmt: skip
    changed = [name for name in sorted(was.keys() | now.keys()) if was.get(name) != now.get(name)]
    if changed == [SURFACE]:
        raise UserError(f"{begun} with another mesh of the body than --detail gives here: start a new run.")
    changed = [f"--{name}" for name in changed if name != SURFACE]
    raise UserError(f"{begun} with other files than {', '.join(changed)} now names: put them back, or start a new run.")
