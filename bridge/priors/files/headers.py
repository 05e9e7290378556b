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
from bridge.priors.weights import check_fetched, find_weights, read_json, refuse_other_weights

# Names that old files have and today's libraries read under new ones.
RENAMED = {
    "text_encoder": ((r"^text_model\.", ""),),
    "vae": (
        (r"\.query\.", ".to_q."),
        (r"\.key\.", ".to_k."),
        (r"\.value\.", ".to_v."),
        (r"\.proj_attn\.", ".to_out.0."),
    ),
}


def account(where: Path, part: str, class_name: str) -> tuple[int, int, str]:
    """(weights, bytes, precisions) of a network, each weight of its files compared with what its class has."""
    import diffusers
    import transformers

    config = read_json(where / part / "config.json")
    _, files = find_weights(where / part, torch.float32)
    tensors: dict[str, tuple[tuple[int, ...], str]] = {}
    for file in files:
        tensors |= header(file)
    count = sum(math.prod(shape) for shape, _ in tensors.values())
    kinds = collections.Counter(kind for _, kind in tensors.values())
    size = sum(file.stat().st_size for file in files)
    if (where / part / "videocrafter.json").exists():
        return count, size, ", ".join(sorted(kinds))
    library = transformers if part == "text_encoder" else diffusers
    try:
        made: Any = getattr(library, class_name)
        with torch.device("meta"):
            network = made(made.config_class(**config)) if part == "text_encoder" else made.from_config(config)
    except Exception as error:  # the libraries raise many types for odd configurations
        raise PriorError(f"{where / part / 'config.json'} describes no {class_name} ({error}).") from error
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found = {}
    for key, (shape, _) in tensors.items():
        for old, new in RENAMED.get(part, ()):
            key = re.sub(old, new, key) if key not in expected else key
        found[key] = shape
    other = [key for key, shape in expected.items() if key in found and math.prod(shape) != math.prod(found[key])]
    refuse_other_weights(
        where / part, class_name, [*(expected.keys() - found.keys()), *other], sorted(found.keys() - expected.keys()),
        len(config),
    )  # fmt: skip
    return count, size, ", ".join(sorted(kinds))


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
        raise PriorError(f"{file} is damaged ({error}): fetch it again.") from error
    if not start or (start == b"PK" and not zipfile.is_zipfile(file)):
        raise PriorError(f"{file} is cut short: fetch it again.")
