"""A whole model in one file: its tensors by name, and networks made of them. Nothing in a file is executed."""

from __future__ import annotations

import contextlib
import pickle
import warnings
import zipfile
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import check_fetched
from bridge.priors.weights.networks import refuse_dead

UNET = "model.diffusion_model."  # before the names of a UNet's or transformer's weights


def read_tensors(path: Path, kind: str = "VideoCrafter", device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without what DeepSpeed puts before the names.

    Args:
        path: the checkpoint.
        kind: the model that it should hold, for messages.
        device: "cpu"; "meta": names, shapes and precisions alone, from the file's header.

    Raises:
        PriorError: the file cannot be read safely, or holds no UNet or transformer.
    """
    check_fetched(path)
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = read_safetensors(path, device)
        else:
            # the old format of torch.save is no zip archive and cannot be mapped
            with warnings.catch_warnings(action="ignore"):  # of odd pickles, which are refused below
                content = torch.load(path, map_location=device, weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise PriorError(
            f"{path} is damaged, or holds more than tensors, which is not read (it could run any code):"
            f" {_reason(error)}. Fetch it again, or save only its state_dict."
        ) from error
    except Exception as error:  # torch raises many types for damaged files
        raise PriorError(f"{path} cannot be read as a checkpoint ({_reason(error)}): fetch it again.") from error
    if not isinstance(content, dict):  # a single tensor, a list, ...
        raise PriorError(f"{path} must hold a dict of tensors, found a {type(content).__name__}.")
    nested = [content[nest] for nest in ("module", "state_dict") if isinstance(content.get(nest), dict)]
    content = nested[0] if nested else content
    names = [name for name in content if isinstance(name, str) and UNET in name]
    if not names:
        some = ", ".join(map(str, list(content)[:3]))
        raise PriorError(f"{path} is no {kind} checkpoint: of its {len(content)} entries ({some}, ...) none has"
                         f" '{UNET}' in its name.")  # fmt: skip
    before = names[0].split(UNET)[0]  # "_forward_module." of DeepSpeed, or nothing
    return {name.removeprefix(before): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}


def read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file; on the "meta" device their names and shapes alone."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    if device != "meta":
        return load_file(path)
    with safe_open(path, framework="pt") as opened:
        return {name: torch.empty(opened.get_slice(name).get_shape(), device="meta") for name in opened.keys()}  # noqa: SIM118


def _reason(error: Exception) -> str:
    """What torch found, without its advice (which is to execute the file)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    found = next((line for line in lines if "nsupported" in line), lines[0])
    return found.split(". ")[0].rstrip(".")[:160]


def under(weights: dict[str, Tensor], prefix: str, path: Path) -> dict[str, Tensor]:
    """The weights whose names begin with `prefix`, without it; raises PriorError where there are none."""
    found = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    if not found:
        raise PriorError(f"{path} is incomplete: none of its {len(weights)} tensors has a name in '{prefix}'.")
    return found


@contextlib.contextmanager
def structure_of(weights: Sized, where: str) -> Iterator[None]:
    """Read a network's structure off its weights.

    Raises:
        PriorError: a weight that tells it is missing, or of a shape that means nothing.
    """
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, ZeroDivisionError) as error:
        raise PriorError(f"{where}: its structure cannot be told ({error}, {len(weights)} weights found).") from error


def load_weights(module: Any, weights: dict[str, Tensor], dtype: torch.dtype, where: str) -> Any:
    """Fill a module that is on the meta device; every weight must be there, of its shape, and none may be left over.

    Raises:
        PriorError: which weights, and how many, do not fit.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    wrong = {
        "missing": [name for name in expected if name not in found],
        "unknown": [name for name in found if name not in expected],
        "of another shape": [name for name in expected if name in found and expected[name] != found[name]],
    }
    complaints = [f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
                  for kind, names in wrong.items() if names]  # fmt: skip
    if complaints:
        raise PriorError(
            f"{where}: of {len(expected)} weights, {'; '.join(complaints)}. It is truncated or another model."
        )
    own = {name: tensor.to(dtype=dtype, copy=True) for name, tensor in weights.items()}  # not the file's mapped pages
    module.load_state_dict(own, strict=True, assign=True)
    refuse_dead(where, type(module).__name__, module)
    return module
