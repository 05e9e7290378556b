"""Which files of a diffusers folder hold the weights of a component, and small things that reading them needs."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch

from bridge.priors.spec import PriorError

STEMS = "diffusion_pytorch_model|pytorch_model|model"  # an openvino_model.bin beside them holds no weights of torch
TEXT_ENCODER = "text_encoder"  # the part that transformers reads; diffusers reads the others
ENDINGS = "safetensors|bin"
OTHER_ENDINGS = (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".gguf", ".msgpack", ".h5", ".onnx")
LARGEST_JSON = 64 << 20  # bytes; T5's list of pieces, the largest such file, has 40 kB
LFS = b"version https://git-lfs.github.com/spec"  # how a file begins that git has not fetched yet
# Weights that published files carry and that no network needs: buffers of old versions, and T5's second name of
# `shared.weight`. Everything else that a network does not know is refused.
HARMLESS = re.compile(r"(.*\.)?position_ids|encoder\.embed_tokens\.weight")


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object in `path`; {} where the file is optional and missing.

    Raises:
        PriorError: the file is missing, unreadable, of an absurd size, or holds no object.
    """
    if optional and not path.exists():
        return {}
    try:
        if path.exists() and not path.is_file():
            raise PriorError(f"{path} must be a file: fetch or unpack the folder again.")
        _check_size(path)
        value = json.loads(
            path.read_text(encoding="utf-8-sig"), parse_constant=_refuse, parse_float=_finite, parse_int=_whole
        )
    except PriorError:
        raise
    except FileNotFoundError as error:
        raise PriorError(f"{path} is missing: {path.parent} is no complete diffusers folder.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise PriorError(f"{path} cannot be read as JSON ({error}): fetch or unpack the folder again.") from error
    if not isinstance(value, dict):
        raise PriorError(f"{path} must hold a JSON object, found a {type(value).__name__}.")
    return value


def _finite(text: str) -> float:
    """A number of a JSON text, which may be too large for one."""
    return value if math.isfinite(value := float(text)) else _refuse(text)


def _whole(text: str) -> int:
    """A whole number of a JSON text that a float can hold; published tokenizers state lengths of 10³⁰."""
    return int(text) if len(text) <= 40 else _refuse(text)


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"it holds {text[:40]}, expected finite numbers")


def variants(dtype: torch.dtype) -> tuple[str, ...]:
    """The forms that weights are published in, as they stand in file names, those to be read first at the front."""
    return ("", ".bf16", ".fp16") if dtype == torch.bfloat16 else ("", ".fp16", ".bf16")


def is_weights(name: str, variant: str, endings: str = ENDINGS) -> bool:
    """Whether a file holds all of a network's weights; `variant` is ".fp16", ".bf16" or nothing."""
    return re.fullmatch(rf"({STEMS}){re.escape(variant)}\.({endings})", name) is not None


def is_index(name: str, variant: str, endings: str = ENDINGS) -> bool:
    """Whether a file tells which piece of the weights holds what."""
    v = re.escape(variant)
    return re.fullmatch(rf"({STEMS})\.({endings})(\.index{v}|{v}\.index)\.json", name) is not None


def is_piece(name: str, variant: str, endings: str = ENDINGS) -> bool:
    """Whether a file holds one of several pieces of a network's weights."""
    v, count = re.escape(variant), r"-\d+-of-\d+"
    return re.fullmatch(rf"({STEMS})({v}{count}|{count}{v})\.({endings})", name) is not None


class Weights(NamedTuple):
    """The files that hold a component's weights."""

    variant: str  # ".fp16", ".bf16" or nothing
    files: list[Path]  # one, or all pieces
    index_file: Path | None  # what tells the pieces


def find_weights(where: Path, dtype: torch.dtype) -> Weights:
    """The weights to read in a component's folder: the whole file, or all pieces of an index.

    Where both are there, it is what the library that reads the folder takes: the pieces in diffusers, the whole file in
    transformers. Each has its own names for files of weights, and other ones beside them are not read.

    Raises:
        PriorError: the folder is missing or holds none, a piece is missing, or a file is only git-LFS's note of one.
    """
    names = sorted(file.name for file in where.iterdir()) if where.is_dir() else []
    of_text = where.name == TEXT_ENCODER
    for variant in variants(dtype):
        for ending in ENDINGS.split("|"):  # safetensors before .bin
            stem = "diffusion_pytorch_model" if not of_text else "model" if ending == "safetensors" else "pytorch_model"
            own = [name for name in names if name.startswith(f"{stem}.") or name.startswith(f"{stem}-")]
            whole = [name for name in own if is_weights(name, variant, ending)]
            indices = [name for name in own if is_index(name, variant, ending)]
            index = where / indices[0] if indices and not (of_text and whole) else None
            files = [where / name for name in (whole[:1] if index is None else sorted(set(places_in(index).values())))]
            if files:
                for file in files:
                    check_fetched(file)
                return Weights(variant, files, index)
    expected = "model" if of_text else "diffusion_pytorch_model"
    others = [name for name in names if name.endswith(OTHER_ENDINGS)]
    beside = f", found {others[0]}{f' and {len(others) - 1} more' * (len(others) > 1)}" if others else ""
    raise PriorError(
        f"{where} holds no weights: expected {expected}.safetensors (or its .fp16, .bf16 or .bin form) beside"
        f" config.json{beside}."
    )


def places_in(index: Path) -> dict[str, str]:
    """The file that holds each weight, by an index of weights; each lies beside it."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise PriorError(f"{index} must hold a 'weight_map' from weights to files: fetch it again.")
    if outside := sorted(name for name in places.values() if Path(name).name != name):
        raise PriorError(f"{index} names the file {outside[0]!r}: expected a name in the same folder.")
    return places


def check_fetched(file: Path) -> None:
    """Raise PriorError where a file of weights is missing, no regular file, or git-LFS's note of where it is."""
    if not file.is_file():
        raise PriorError(f"{file.parent} cannot be loaded: {file.name} is missing; fetch it again.")
    with file.open("rb") as content:
        if content.read(len(LFS)) == LFS:
            raise PriorError(
                f"{file.parent} cannot be loaded: {file.name} is a git-LFS pointer, not the file; run `git lfs pull`"
                " where it was cloned."
            )


def check_token_file(file: Path) -> None:
    """Raise PriorError where a tokenizer's file is none that a library may read: see `check_fetched`, or too large."""
    check_fetched(file)
    _check_size(file)


def _check_size(file: Path) -> None:
    if (size := file.stat().st_size) > LARGEST_JSON:
        raise PriorError(f"{file} has {size >> 20} MiB, expected at most {LARGEST_JSON >> 20}: it is damaged.")


def refuse_other_weights(
    where: Path | str,
    class_name: str,
    missing: Iterable[str],
    unknown: Iterable[str],
    reshaped: Mapping[str, tuple[object, object]] | None = None,
) -> None:
    """Raise PriorError where a network and its files differ in a weight that matters (see HARMLESS).

    Args:
        where: the component, for the message.
        class_name: the network's class.
        missing: weights that the files lack.
        unknown: weights of the files that the network has no place for.
        reshaped: weights of another shape: (that in the files, the network's).
    """
    shapes = reshaped or {}
    gone, more, other = (
        sorted(key for key in map(str, keys) if not HARMLESS.fullmatch(key)) for keys in (missing, unknown, shapes)
    )
    ending = "; the files are damaged, or of another model than config.json"
    if gone:
        besides = f", {len(more)} unknown (first {more[0]})" if more else ""
        raise PriorError(f"{where}: {len(gone)} weights of {class_name} are missing, first {gone[0]}{besides}{ending}.")
    if more:
        some = ", ".join(more[:3]) + ", ..." * (len(more) > 3)
        raise PriorError(f"{where}: {class_name} has no place for {len(more)} of the weights ({some}){ending}.")
    if other:
        found, expected = shapes[other[0]]
        raise PriorError(
            f"{where}: {len(other)} weights have another shape than in {class_name}, first {other[0]}: expected"
            f" {expected}, found {found}{ending}."
        )


def first_line(text: str) -> str:
    """The first line of a library's message, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200].rstrip(" :,") if lines else ""
