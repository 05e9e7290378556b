"""The weights of one component of a diffusers folder: which files hold them, and a network that has them all."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch

from bridge.priors.spec import PriorError

STEMS = "diffusion_pytorch_model|pytorch_model|model"  # an openvino_model.bin beside them holds no weights of torch
ENDINGS = "safetensors|bin"
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
        if (size := path.stat().st_size) > LARGEST_JSON:
            raise PriorError(f"{path} has {size >> 20} MiB, expected at most {LARGEST_JSON >> 20}: it is damaged.")
        value = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=_refuse, parse_float=_finite)
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


def find_weights(where: Path, dtype: torch.dtype) -> tuple[str, list[Path]]:
    """(variant, files) of the weights to read in a component's folder: the whole file, or all pieces of an index.

    Raises:
        PriorError: the folder is missing or holds none, a piece is missing, or a file is only git-LFS's note of one.
    """
    names = sorted(file.name for file in where.iterdir()) if where.is_dir() else []
    for variant in variants(dtype):
        for ending in ENDINGS.split("|"):  # safetensors before .bin
            whole = [name for name in names if is_weights(name, variant, ending)]
            indices = [name for name in names if is_index(name, variant, ending)]
            files = [where / name for name in whole[:1]]
            if not whole and indices:
                files = [where / name for name in _pieces(where / indices[0])]
            if files:
                for file in files:
                    check_fetched(file)
                return variant, files
    raise PriorError(f"{where} holds no weights: expected a .safetensors or .bin file beside config.json.")


def _pieces(index: Path) -> list[str]:
    """The files that an index of weights names; each lies beside it."""
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise PriorError(f"{index} must hold a 'weight_map' from weights to files: fetch it again.")
    names = sorted(set(places.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise PriorError(f"{index} names the file {outside[0]!r}: expected a name in the same folder.")
    return names


def check_fetched(file: Path) -> None:
    """Raise PriorError where a file of weights is missing, no regular file, or git-LFS's note of where it is."""
    if not file.is_file():
        raise PriorError(f"{file.parent} cannot be loaded: {file.name} is missing; fetch it again.")
    with file.open("rb") as content:
        if content.read(len(LFS)) == LFS:
            raise PriorError(
                f"{file.parent} cannot be loaded: {file.name} is a git-LFS pointer, not the weights; run `git lfs pull`"
                " where it was cloned."
            )


def read_network(folder: Path, part: str, class_name: str, dtype: torch.dtype) -> Any:
    """A network with every weight found in its files, whole or in pieces; safetensors, or .bin read as plain tensors.

    Raises:
        PriorError: the files are missing, damaged, or of another network.
    """
    import diffusers
    import transformers

    where = folder / part
    config = read_json(where / "config.json")
    kind: Any = getattr(transformers if part == "text_encoder" else diffusers, class_name)
    options: dict[str, Any] = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    if part == "text_encoder":
        options = {"dtype": dtype}
    elif kind._keep_in_fp32_modules is not None:
        options["torch_dtype"] = torch.float32  # `_cast` follows
    variant, files = find_weights(where, dtype)
    options["use_safetensors"] = files[0].suffix == ".safetensors"
    try:
        with quiet(), _nothing_ignored(kind), no_larger_than(sum(file.stat().st_size for file in files)):
            network, report = kind.from_pretrained(
                where, variant=variant.removeprefix(".") or None, local_files_only=True, output_loading_info=True,
                **options,
            )  # fmt: skip
    except Exception as error:  # the libraries raise many types for damaged files
        reason = first_line(str(error).replace(f"{where}/", "")) or type(error).__name__
        raise PriorError(f"{where} cannot be loaded as {class_name} ({reason}): fetch the folder again.") from error
    missing = [*(report.get("missing_keys") or ()), *(key for key, *_ in _shapes(report))]
    refuse_other_weights(where, class_name, missing, report.get("unexpected_keys") or (), len(config))
    refuse_dead(where, class_name, network)
    return network if part == "text_encoder" else _cast(network, dtype)


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

    torch.nn.Module.register_parameter = counted  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.nn.Module.register_parameter = register  # type: ignore[method-assign]


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


def refuse_other_weights(
    where: Path | str, class_name: str, missing: Sequence[str], unknown: Sequence[str], settings: int
) -> None:
    """Raise PriorError where a network and its files differ in a weight that matters (see HARMLESS).

    Args:
        where: the component, for the message.
        class_name: the network's class.
        missing: weights that the files lack, or have in another shape.
        unknown: weights of the files that the network has no place for.
        settings: how many entries config.json has.
    """
    missing = sorted(key for key in map(str, missing) if not HARMLESS.fullmatch(key))
    unknown = sorted(key for key in map(str, unknown) if not HARMLESS.fullmatch(key))
    together = f"config.json ({settings} entries) and weights do not belong together."
    if missing:
        besides = f", {len(unknown)} unknown (first {unknown[0]})" if unknown else ""
        raise PriorError(
            f"{where}: {len(missing)} weights of {class_name} are missing or of another shape, first {missing[0]}"
            f"{besides}; {together}"
        )
    if unknown:
        some = ", ".join(unknown[:3]) + ", ..." * (len(unknown) > 3)
        raise PriorError(f"{where}: {class_name} has no place for {len(unknown)} of the weights ({some}); {together}")


def _shapes(report: dict[str, Any]) -> list[tuple[str, ...]]:
    """The weights of another shape in a library's report: names, or tuples that begin with one."""
    wrong = report.get("mismatched_keys") or ()
    return [tuple(entry) if isinstance(entry, (tuple, list)) else (str(entry),) for entry in wrong]


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


def first_line(text: str) -> str:
    """The first line of a library's message, at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200].rstrip(" :,") if lines else ""
