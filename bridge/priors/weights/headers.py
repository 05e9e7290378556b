"""Files of weights by their headers: names, shapes and precisions, compared with what a network has."""

from __future__ import annotations

import collections
import math
import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import (
    Weights,
    check_fetched,
    find_weights,
    first_line,
    places_in,
    read_json,
    refuse_other_weights,
)

CPU = torch.device("cpu")
Shapes = dict[str, tuple[int, ...]]
# Names that old files have and today's libraries read under new ones.
RENAMED = (
    (r"^text_model\.", ""),
    (r"\.query\.", ".to_q."),
    (r"\.key\.", ".to_k."),
    (r"\.value\.", ".to_v."),
    (r"\.proj_attn\.", ".to_out.0."),
)


def sizes(where: Path) -> tuple[int, int, str]:
    """(weights, bytes, precisions) of the files in a network's folder."""
    files = find_weights(where, torch.float32).files
    tensors = {name: found for file in files for name, found in header(file).items()}
    count = sum(math.prod(shape) for shape, _ in tensors.values())
    kinds = collections.Counter(kind for _, kind in tensors.values())
    return count, sum(file.stat().st_size for file in files), ", ".join(sorted(kinds))


def network_of(where: Path, class_name: str) -> Any:
    """A network on the meta device, every weight of its files compared with what its class has.

    Raises:
        PriorError: a file is missing or damaged, a weight is missing, left over or of another shape, or config.json
            describes no such network.
    """
    import diffusers
    import transformers

    config = read_json(where / "config.json")
    weights = find_weights(where, torch.float32)
    check_index(weights)
    shapes = {name: shape for file in weights.files for name, (shape, _) in header(file).items()}
    of_text = where.name == "text_encoder"
    made: Any = getattr(transformers if of_text else diffusers, class_name)
    try:
        with torch.device("meta"):
            network = made(made.config_class(**config)) if of_text else made.from_config(config)
    except Exception as error:  # the libraries raise many types for odd configurations
        raise PriorError(f"{where / 'config.json'} describes no {class_name} ({first_line(str(error))}).") from error
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found: Shapes = {}
    for key, shape in shapes.items():
        for old, new in RENAMED:
            key = re.sub(old, new, key) if key not in expected else key
        found[key] = shape
    other = [key for key, shape in expected.items() if key in found and math.prod(shape) != math.prod(found[key])]
    refuse_other_weights(
        where, class_name, [*(expected.keys() - found.keys()), *other], sorted(found.keys() - expected.keys()),
        len(config),
    )  # fmt: skip
    return network.requires_grad_(False).eval()


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
