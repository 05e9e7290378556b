"""What a prior's files are, looked at from outside, in seconds: headers alone, without loading gigabytes of weights."""

from __future__ import annotations

from pathlib import Path

import torch

from bridge.priors import load_prior
from bridge.priors.files.kinds import amount, kind_of, licence, memory
from bridge.priors.files.single import CHECKPOINTS, describe_file
from bridge.priors.folder import read_index
from bridge.priors.hub import HUB_ID, PARTS, refuse_distilled
from bridge.priors.spec import PriorError
from bridge.priors.transformer.ltx_file import file_and_texts
from bridge.priors.unet.animatediff import two_paths
from bridge.priors.weights.find import find_weights, read_json
from bridge.priors.weights.headers import check_weights, sizes


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
        check_weights(where)
    elif (where / "model_index.json").exists():
        _check_folder(where)
    elif checkpoints := sorted(file for file in where.iterdir() if file.suffix in CHECKPOINTS):
        check_weights(checkpoints[0])
    else:
        raise PriorError(f"{where} holds neither model_index.json nor a checkpoint: it is no prior's folder.")
    return where


def describe(name: str, path: str, clip: tuple[int, int, int] | None = None) -> str:
    """What a prior's files hold, for a reader: family, every weight accounted for, sizes, precision, memory, licence.

    Args:
        name: the prior that shall read them.
        path: a diffusers folder, a checkpoint in one file, or a hub id that was fetched before.
        clip: (frames, height, width) to estimate a step's memory for; None: that of the family's flag file.

    Raises:
        PriorError: something is missing, damaged, left over, or of another prior; the message says what.
    """
    refuse_distilled(str(path))
    if name == "animatediff":
        path, adapter = two_paths(path)
        motion = _network(adapter)
        count, size, precisions = sizes(motion)
        text = f"motion adapter {amount(count)} ({size / 1e9:.2f} GB, {precisions})"
        return f"{_describe(name, path, clip, str(motion), 2 * count)}; {text}"
    if name == "ltx" and (found := file_and_texts(path)):
        return _describe(name, str(found[0]), clip, str(found[1]))
    return _describe(name, path, clip)


def _network(path: str) -> Path:
    """The folder of a network that stands alone, on this machine or fetched before."""
    where = Path(path).expanduser()
    where = where if where.exists() else _fetched(path, "config.json")
    _check_network(where)
    return where.resolve()


def _describe(name: str, path: str, clip: tuple[int, int, int] | None, other: str = "", half: int = 0) -> str:
    """`describe` of one path; the prior needs `other` as well, where `half` bytes of weights stand."""
    given = Path(path).expanduser()
    if given.is_dir() and not (given / "model_index.json").exists() and not name.startswith("videocrafter"):
        read_index(given)  # says what it holds instead
    where = check_files(path)
    kind = kind_of(name, where, read_index(where)) if (where / "model_index.json").exists() else ""
    # A run's own loader has the say; on this device it reads nothing but headers.
    load_prior(name, f"{where},{other}" if other else str(where), "meta")
    if where.is_dir() and not kind:
        where = next(file for file in sorted(where.iterdir()) if file.suffix in CHECKPOINTS)
    if where.is_file():
        return describe_file(name, where, clip, half, Path(other) if name == "ltx" else None)
    lines = [f"{where}: {kind}"]
    for part in PARTS:
        if (where / part).is_dir():
            count, size, precisions = sizes(where / part)
            lines.append(f"{part} {amount(count)} ({size / 1e9:.2f} GB, {precisions})")
            half += 2 * count if part != "text_encoder" else 0
    lines.append("every weight has its place")
    return "; ".join([*lines, *memory(name, half, clip), licence(where)])


def _fetched(path: str, *others: str) -> Path:
    import huggingface_hub

    if not HUB_ID.fullmatch(path):
        raise PriorError(f"there is no {path}: give --prior_path the prior's folder on this machine, or its hub id.")
    for name in ("model_index.json", "model.ckpt", *others):
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
    for file in find_weights(where, torch.float32).files:
        check_weights(file)
