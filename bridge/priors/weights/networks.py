"""A network of a diffusers folder that has every weight of its files, or nothing but their names and shapes."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import (
    TEXT_ENCODER,
    Weights,
    find_weights,
    first_line,
    read_json,
    refuse_other_weights,
)
from bridge.priors.weights.headers import CPU, check_index, header

Shapes = dict[str, tuple[int, ...]]
# Names that old files have and today's libraries read under new ones.
RENAMED = (
    (r"^text_model\.", ""),
    (r"\.query\.", ".to_q."),
    (r"\.key\.", ".to_k."),
    (r"\.value\.", ".to_v."),
    (r"\.proj_attn\.", ".to_out.0."),
)


def read_network(folder: Path, part: str, class_name: str, dtype: torch.dtype, device: torch.device = CPU) -> Any:
    """A network with every weight found in its files, whole or in pieces; safetensors, or .bin read as plain tensors.

    The files' headers are compared with the class first, before gigabytes are read: a run and the doctor say the same.

    Args:
        folder, part: the network's folder is `part` of `folder`.
        class_name: its class, in diffusers or (of a text encoder) in transformers.
        dtype: precision of its weights.
        device: on the meta device names and shapes are compared, and on any other the weights read, onto the CPU.

    Raises:
        PriorError: the files are missing, damaged, or of another network.
    """
    where = folder / part
    weights = find_weights(where, dtype)
    network = _compared(where, class_name, weights)
    if device.type == "meta":
        return network
    kind = type(network)
    options: dict[str, Any] = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    if part == TEXT_ENCODER:
        options = {"dtype": dtype}
    elif kind._keep_in_fp32_modules is not None:
        options["torch_dtype"] = torch.float32  # `_cast` follows
    options["use_safetensors"] = weights.files[0].suffix == ".safetensors"
    try:
        with quiet(), _nothing_ignored(kind):
            network, report = kind.from_pretrained(
                where, variant=weights.variant.removeprefix(".") or None, local_files_only=True,
                output_loading_info=True, **options,
            )  # fmt: skip
    except Exception as error:  # the libraries raise many types for damaged files
        reason = first_line(str(error).replace(f"{where}/", "")) or type(error).__name__
        raise PriorError(f"{where} cannot be loaded as {class_name} ({reason}): fetch the folder again.") from error
    missing = [*(report.get("missing_keys") or ()), *(key for key, *_ in _shapes(report))]
    refuse_other_weights(where, class_name, missing, report.get("unexpected_keys") or ())
    refuse_dead(where, class_name, network)
    return network if part == TEXT_ENCODER else _cast(network, dtype)


def _compared(where: Path, class_name: str, weights: Weights) -> Any:
    """A network on the meta device, every weight of its files compared with what its class has.

    Raises:
        PriorError: a file is damaged, a weight is missing, left over or of another shape, or config.json describes no
            such network.
    """
    import diffusers
    import transformers

    file, config = where / "config.json", read_json(where / "config.json")
    of_text = where.name == TEXT_ENCODER
    kind: Any = getattr(transformers if of_text else diffusers, class_name)
    if not of_text and (named := config.get("_class_name", class_name)) != class_name:
        raise PriorError(f"{file} is a {named}'s: expected {class_name}, as model_index.json names it.")
    if not of_text:
        _say_unknown_settings(file, config, kind)
    check_index(weights)
    shapes = {name: shape for piece in weights.files for name, (shape, _) in header(piece).items()}
    try:
        with quiet(), torch.device("meta"), no_larger_than(sum(piece.stat().st_size for piece in weights.files)):
            network = kind(kind.config_class(**config)) if of_text else kind.from_config(config)
    except Exception as error:  # the libraries raise many types for odd configurations
        raise PriorError(f"{file} describes no {class_name} ({first_line(str(error))}): fetch it again.") from error
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    found: Shapes = {}
    for key, shape in shapes.items():
        for old, new in RENAMED:
            key = re.sub(old, new, key) if key not in expected else key
        found[key] = shape
    other = {key: (found[key], shape) for key, shape in expected.items() if found.get(key, shape) != shape}
    refuse_other_weights(where, class_name, expected.keys() - found.keys(), found.keys() - expected.keys(), other)
    return network.requires_grad_(False).eval()


def _say_unknown_settings(file: Path, config: dict[str, Any], kind: Any) -> None:
    """Warn of settings that a class of diffusers does not have: it would leave them out without a word."""
    known = inspect.signature(kind.__init__).parameters
    unknown = sorted(name for name in config if name not in known and not name.startswith("_"))
    if unknown:
        some = ", ".join(unknown[:3]) + ", ..." * (len(unknown) > 3)
        warnings.warn(
            f"{file} states {some}, which the installed {kind.__name__} does not know: without effect here.",
            stacklevel=2,
        )


def refuse_dead(where: Path | str, class_name: str, network: torch.nn.Module) -> None:
    """Raise PriorError where a network holds weights that are no finite numbers, or nothing but zeros.

    A single NaN would spread over every picture, and a network of zeros pulls at nothing; neither would be noticed
    before the run is over. Both are looked for in the precision that the files are read in.

    Args:
        where: the component, for the message.
        class_name: the network's class.
        network: with its weights; on the meta device, which holds none, it passes.
    """
    alive = False
    for name, tensor in network.state_dict().items():
        if tensor.is_meta:  # built from a file's header, to be described: there are no numbers
            return
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        low, high = map(float, torch.aminmax(tensor.detach()))
        if not (math.isfinite(low) and math.isfinite(high)):
            count = int((~tensor.isfinite()).sum())
            raise PriorError(
                f"{where}: the weight {name} of {class_name} holds {count} numbers that are NaN or infinite, expected"
                f" finite ones: it is damaged, or too large for {str(tensor.dtype).removeprefix('torch.')}; fetch the"
                " folder again, or try --dtype=float32."
            )
        alive = alive or low < 0
    if not alive:
        raise PriorError(
            f"{where}: no weight of {class_name} is below zero, expected a trained network: its files are zeros or"
            " damaged; fetch the folder again."
        )


def _shapes(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The weights of another shape in a library's report: names, or tuples that begin with one."""
    wrong = report.get("mismatched_keys") or ()
    return [tuple(entry) if isinstance(entry, (tuple, list)) else (str(entry),) for entry in wrong]


@contextlib.contextmanager
def no_larger_than(size: int) -> Iterator[None]:
    """Within it, a network that grows far beyond the `size` bytes of its files is given up before it fills the memory.

    A configuration may ask for any width and depth. Weights take a byte each at least; some are made twice, then tied.

    Raises:
        PriorError: it grows larger.
    """
    made, register = 0, torch.nn.Module.register_parameter

    def counted(module: torch.nn.Module, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal made
        made += 0 if parameter is None else parameter.numel()
        if made > 2 * size + 2**20:
            raise PriorError(f"config.json describes more than {made} weights, and the files have {size} bytes")
        register(module, name, parameter)

    torch.nn.Module.register_parameter = counted  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


def frozen(network: Any, device: torch.device | str) -> Any:
    """`network` on `device`, in evaluation mode, without gradients of its weights."""
    return network.to(device).requires_grad_(False).eval()


@contextlib.contextmanager
def _nothing_ignored(kind: Any) -> Iterator[None]:
    """Reports every weight that a class has no place for, and lets diffusers do without the package accelerate.

    Classes list names that they leave out without a word ("decoder" of a T5 encoder), which hides other models' files.
    Modules that stay in float32 need accelerate in diffusers; they are read whole in float32 here (see `_cast`).
    """
    changed: dict[str, Any] = {}
    if kind.__module__.startswith("diffusers."):
        changed["_keep_in_fp32_modules"] = None
    if kind._keys_to_ignore_on_load_unexpected:
        changed["_keys_to_ignore_on_load_unexpected"] = None
    kept = {name: getattr(kind, name) for name in changed}
    for name, value in changed.items():
        setattr(kind, name, value)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(kind, name, value)


def _cast(network: Any, dtype: torch.dtype) -> Any:
    """`network` in one precision, but for the modules that its authors keep in float32."""
    kept = set(network._keep_in_fp32_modules or ())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and kept.isdisjoint(name.split(".")):
            tensor.data = tensor.data.to(dtype)
    return network


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silences the libraries' loading messages: what matters in them becomes a PriorError."""
    import diffusers
    import transformers

    loggings = [library.utils.logging for library in (diffusers, transformers)]
    levels = [logging.get_verbosity() for logging in loggings]
    bars = [logging.is_progress_bar_enabled() for logging in loggings]
    for logging in loggings:
        logging.set_verbosity_error()
        logging.disable_progress_bar()
    try:
        yield
    finally:
        for logging, level, bar in zip(loggings, levels, bars, strict=True):
            logging.set_verbosity(level)
            if bar:
                logging.enable_progress_bar()
