"""Files of weights by their headers: names, shapes and precisions. None of their numbers are read."""

from __future__ import annotations

import collections
import math
import zipfile
from pathlib import Path

import torch

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import (
    Weights,
    check_fetched,
    find_weights,
    places_in,
)

CPU = torch.device("cpu")


def sizes(where: Path) -> tuple[int, int, str]:
    """(weights, bytes, precisions) of the files in a network's folder."""
    files = find_weights(where, torch.float32).files
    tensors = {name: found for file in files for name, found in header(file).items()}
    count = sum(math.prod(shape) for shape, _ in tensors.values())
    kinds = collections.Counter(kind for _, kind in tensors.values())
    return count, sum(file.stat().st_size for file in files), ", ".join(sorted(kinds))


def check_index(weights: Weights) -> None:
    """Raise PriorError where pieces lack weights that their index says they hold: diffusers would leave them random."""
    if weights.index_file is None:
        return
    held = {file.name: header(file).keys() for file in weights.files}
    if gone := sorted(name for name, file in places_in(weights.index_file).items() if name not in held[file]):
        raise PriorError(
            f"{weights.index_file.parent}: {len(gone)} weights are missing that {weights.index_file.name} places in its"
            f" files, first {gone[0]}; fetch the folder again."
        )


def header(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    """(shape, precision) of every tensor in a file of weights; none of their numbers are read.

    Raises:
        PriorError: the file is missing, damaged, or holds other things than tensors.
    """
    check_weights(file)
    if file.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(file, framework="pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
            return {name: (tuple(part.get_shape()), str(part.get_dtype())) for name, part in slices.items()}
    try:
        content = torch.load(file, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(file))
    except Exception as error:  # torch raises many types for damaged files
        raise PriorError(f"{file} cannot be read as tensors ({str(error).splitlines()[0][:120]}).") from error
    if not isinstance(content, dict):
        raise PriorError(f"{file} must hold a dict of tensors, found a {type(content).__name__}.")
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    return {name: (tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in tensors.items()}


def check_weights(file: Path) -> None:
    """Raise where a file is cut short: a safetensors header tells the length, a zip archive ends with its directory."""
    from safetensors import SafetensorError, safe_open

    check_fetched(file)
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt"):
                return
        with file.open("rb") as content:
            start = content.read(2)
    except (SafetensorError, OSError) as error:
        raise PriorError(
            f"{file.parent} cannot be loaded: {file.name} is damaged ({error}); fetch it again."
        ) from error
    if not start or (start == b"PK" and not zipfile.is_zipfile(file)):
        raise PriorError(f"{file.parent} cannot be loaded: {file.name} is cut short; fetch it again.")
