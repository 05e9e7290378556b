"""Are a prior's files whole? Looked at from outside, in seconds, without loading gigabytes of weights."""

from __future__ import annotations

import zipfile
from pathlib import Path

from bridge.priors.hub import HUB_ID, PARTS
from bridge.priors.spec import PriorError
from bridge.priors.weights import is_index, is_weights, read_json

CHECKPOINTS = (".ckpt", ".pth", ".pt", ".safetensors")


def check_files(path: str) -> Path:
    """Where the files of a prior are: a diffusers folder, a checkpoint, or a hub id that was fetched before.

    Every network that model_index.json names must have its configuration and weights, and each file of weights its
    full length; what is in them is only known once they are loaded.

    Raises:
        PriorError: something is missing or damaged; the message says what.
    """
    where = Path(path).expanduser()
    if not where.exists():
        where = _fetched(path)
    if where.is_file():
        _check_weights(where)
    elif (where / "model_index.json").exists():
        _check_folder(where)
    elif checkpoints := sorted(file for file in where.iterdir() if file.suffix in CHECKPOINTS):
        _check_weights(checkpoints[0])
    else:
        raise PriorError(f"{where} holds neither model_index.json nor a checkpoint: it is no prior's folder.")
    return where


def _fetched(path: str) -> Path:
    import huggingface_hub

    if not HUB_ID.fullmatch(path):
        raise PriorError(f"there is no {path}: give --prior_path the prior's folder on this machine, or its hub id.")
    for name in ("model_index.json", "model.ckpt"):
        found = huggingface_hub.try_to_load_from_cache(path, name)
        if isinstance(found, str):
            return Path(found).parent
    raise PriorError(f"there is no folder {path}; as a hub id it was not fetched yet: the first run does, online.")


def _check_folder(folder: Path) -> None:
    index = read_json(folder / "model_index.json")
    named = {part for part, entry in index.items() if isinstance(entry, list) and entry[-1] is not None}
    if not named & {"unet", "transformer"}:
        raise PriorError(f"{folder / 'model_index.json'} names no unet and no transformer: it is no video model's.")
    for part in PARTS:
        if part in named:
            _check_network(folder / part)
    read_json(folder / "scheduler" / "scheduler_config.json")
    if not (folder / "tokenizer").is_dir():
        raise PriorError(f"{folder / 'tokenizer'} is missing: {folder} is no complete diffusers folder.")


def _check_network(where: Path) -> None:
    read_json(where / "config.json")
    for variant in ("", ".fp16"):
        names = sorted(file.name for file in where.iterdir())
        whole = [name for name in names if is_weights(name, variant)]
        pieces = [name for name in names if is_index(name, variant)]
        if whole or pieces:
            for name in whole or sorted(set(read_json(where / pieces[0]).get("weight_map", {}).values())):
                _check_weights(where / name)
            return
    raise PriorError(f"{where} holds no weights: expected a .safetensors or .bin file beside config.json.")


def _check_weights(file: Path) -> None:
    """Raise where a file is cut short: a safetensors header tells the length, a zip archive ends with its directory."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise PriorError(f"{file} is missing: fetch it again.")
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                return
        with file.open("rb") as content:
            start = content.read(2)
    except (SafetensorError, OSError) as error:
        raise PriorError(f"{file} is damaged ({error}): fetch it again.") from error
    if not start or (start == b"PK" and not zipfile.is_zipfile(file)):
        raise PriorError(f"{file} is cut short: fetch it again.")
