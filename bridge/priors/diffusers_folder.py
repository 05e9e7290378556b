"""Reads a diffusers folder (model_index.json, unet/, vae/, tokenizer/, text_encoder/, scheduler/), offline.

A folder may hold two more files. ``prior.json`` states what PriorSpec wants to know (frames, fps, size, camera) and
``frame_packing``, for a 2D UNet that takes the frames as channels; ``vocabulary.json`` maps each action that the text
encoder knows to its words, for a prior of closed vocabulary. Without a ``vae`` the latents are the pixels in [-1, 1].
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import PriorError

UNETS = ("UNet2DConditionModel", "UNet3DConditionModel", "FrameDenoiser")
VAES = ("AutoencoderKL", "AutoencoderTiny", "EigenFrames")
TEXT_ENCODERS = ("CLIPTextModel",)
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "sample"}


@dataclasses.dataclass
class Parts:
    """The components of a folder, on their device, frozen and in evaluation mode."""

    unet: Any
    vae: Any | None
    tokenizer: Any
    text_encoder: Any
    alphas_cumprod: Float[Tensor, "T"]  # float64, on the CPU
    prediction: str
    settings: dict[str, Any]  # prior.json, or nothing
    vocabulary: dict[str, list[str]]  # vocabulary.json, or nothing


def load_parts(
    folder: str | Path,
    device: torch.device,
    dtype: torch.dtype,
    read_unet: Callable[[Path, torch.dtype], Any] | None = None,
) -> Parts:
    """Load every component of `folder`; nothing is downloaded and nothing is unpickled.

    Args:
        folder: a diffusers folder.
        device, dtype: where the networks go, and the precision of their weights.
        read_unet: reads the folder's unet/ where that is no class of diffusers.

    Raises:
        PriorError: the folder or one of its components is missing, malformed, truncated or of an unknown class.
    """
    folder = Path(folder)
    index = read_index(folder)
    prediction, alphas_cumprod = _schedule(folder)

    def read(part: str, known: tuple[str, ...]) -> Any:
        return read_network(folder, part, class_name_of(folder, index, part, known), dtype)

    unet = read("unet", UNETS) if read_unet is None else read_unet(folder / "unet", dtype)
    has_vae = (index.get("vae") or [None, None])[1] is not None
    vae = read("vae", VAES) if has_vae else None
    text_encoder = read("text_encoder", TEXT_ENCODERS)
    for network in (unet, vae, text_encoder):
        if network is not None:
            network.to(device).requires_grad_(False).eval()
    return Parts(
        unet=unet,
        vae=vae,
        tokenizer=read_tokenizer(folder, class_name_of(folder, index, "tokenizer", TOKENIZERS)),
        text_encoder=text_encoder,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
        settings=read_json(folder / "prior.json", optional=True),
        vocabulary=read_json(folder / "vocabulary.json", optional=True),
    )


def read_index(folder: Path) -> dict[str, Any]:
    """What model_index.json says of a diffusers folder.

    Raises:
        PriorError: the folder or the file in it is missing or unreadable.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise PriorError(f"prior folder {folder} {found}: expected a diffusers folder (with model_index.json).")
    return read_json(folder / "model_index.json")


def read_json(path: Path, *, optional: bool = False) -> dict[str, Any]:
    """The JSON object in `path`; {} where the file is optional and missing.

    Raises:
        PriorError: the file is missing, unreadable or holds no object.
    """
    if optional and not path.exists():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PriorError(f"{path} is missing: {path.parent} is no complete diffusers folder.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PriorError(f"{path} cannot be read as JSON ({error}): fetch or unpack the folder again.") from error
    if not isinstance(value, dict):
        raise PriorError(f"{path} must hold a JSON object, found a {type(value).__name__}.")
    return value


def class_name_of(folder: Path, index: dict[str, Any], part: str, known: tuple[str, ...]) -> str:
    """The class that a folder's model_index.json names for a part.

    Raises:
        PriorError: it names none of the `known` ones.
    """
    entry = index.get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if name not in known:
        expected = f"one of {', '.join(known)}" if len(known) > 1 else known[0]
        raise PriorError(f"{folder / 'model_index.json'} names {name!r} as '{part}': expected {expected}.")
    return name


def read_network(folder: Path, part: str, class_name: str, dtype: torch.dtype) -> Any:
    """A network with every weight found in its files, whole or in pieces; safetensors, or .bin read as plain tensors.

    Raises:
        PriorError: the files are missing, damaged, or of another network.
    """
    import diffusers
    import transformers

    where = folder / part
    config = read_json(where / "config.json")
    from bridge.priors import eigenframes  # after diffusers, which it subclasses

    own = getattr(eigenframes, class_name, None)
    kind: Any = own or getattr(transformers if part == "text_encoder" else diffusers, class_name)
    options: dict[str, Any] = {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    if part == "text_encoder":
        options = {"dtype": dtype}
    elif kind._keep_in_fp32_modules is not None:
        options["torch_dtype"] = torch.float32  # `_cast` follows
    variant = None if _weights(where, "") else "fp16"
    files = _weights(where, f".{variant}" if variant else "")
    if not files:
        raise PriorError(f"{where} holds no weights: expected a .safetensors or .bin file beside config.json.")
    options["use_safetensors"] = any(".safetensors" in file.name for file in files)
    try:
        with _quiet(), _whole_precision(kind):
            network, report = kind.from_pretrained(
                where, variant=variant, local_files_only=True, output_loading_info=True, **options
            )
    except Exception as error:  # the libraries raise many types for damaged files
        reason = _first_line(str(error).replace(f"{where}/", "")) or type(error).__name__
        raise PriorError(f"{where} cannot be loaded as {class_name} ({reason}): fetch the folder again.") from error
    wrong = {name: sorted(map(str, report.get(name) or ())) for name in ("missing_keys", "mismatched_keys")}
    # position_ids are buffers that old files carry and new ones leave out
    missing = [key for key in wrong["missing_keys"] + wrong["mismatched_keys"] if "position_ids" not in key]
    if missing:
        unknown = [str(key) for key in report.get("unexpected_keys") or () if "position_ids" not in str(key)]
        besides = f", {len(unknown)} unknown (first {min(unknown)})" if unknown else ""
        raise PriorError(
            f"{where}: {len(missing)} weights of {class_name} are missing or of another shape, first {missing[0]}"
            f"{besides}; config.json ({len(config)} entries) and weights do not belong together."
        )
    return network if part == "text_encoder" else _cast(network, dtype)


@contextlib.contextmanager
def _whole_precision(kind: Any) -> Iterator[None]:
    """Lets diffusers read, without the package accelerate, a network of which some modules stay in float32."""
    kept = kind._keep_in_fp32_modules
    if kind.__module__.startswith("diffusers."):
        kind._keep_in_fp32_modules = None
    try:
        yield
    finally:
        kind._keep_in_fp32_modules = kept


def _cast(network: Any, dtype: torch.dtype) -> Any:
    """`network` in one precision, but for the modules that its authors keep in float32."""
    kept = set(network._keep_in_fp32_modules or ())
    for name, tensor in (*network.named_parameters(), *network.named_buffers()):
        if tensor.is_floating_point() and kept.isdisjoint(name.split(".")):
            tensor.data = tensor.data.to(dtype)
    return network


def _weights(where: Path, variant: str) -> list[Path]:
    """Weight files of a component: model.safetensors, diffusion_pytorch_model.fp16.bin, ..., or the index of pieces."""
    return [p for p in where.iterdir() if is_weights(p.name, variant) or is_index(p.name, variant)]


def is_weights(name: str, variant: str, endings: str = "safetensors|bin") -> bool:
    """Whether a file holds all of a network's weights; `variant` is ".fp16" or nothing."""
    return re.fullmatch(rf"[^.]*model{re.escape(variant)}\.({endings})", name) is not None


def is_index(name: str, variant: str, endings: str = "safetensors|bin") -> bool:
    """Whether a file tells which piece of the weights holds what."""
    v = re.escape(variant)
    return re.fullmatch(rf"[^.]*model\.({endings})(\.index{v}|{v}\.index)\.json", name) is not None


def is_piece(name: str, variant: str, endings: str = "safetensors|bin") -> bool:
    """Whether a file holds one of several pieces of a network's weights."""
    v, count = re.escape(variant), r"-\d+-of-\d+"
    return re.fullmatch(rf"[^.]*model({v}{count}|{count}{v})\.({endings})", name) is not None


def read_tokenizer(folder: Path, class_name: str) -> Any:
    import transformers

    name = "PreTrainedTokenizerFast" if class_name == "TokenizersBackend" else class_name
    try:
        with _quiet():
            return getattr(transformers, name).from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        raise PriorError(f"{folder / 'tokenizer'} cannot be loaded as {name} ({_first_line(str(error))}).") from error


def _schedule(folder: Path) -> tuple[str, Float[Tensor, "T"]]:
    """(prediction, ᾱ) of the scheduler; any diffusers scheduler's config describes the same training schedule."""
    from diffusers import DDPMScheduler

    path = folder / "scheduler" / "scheduler_config.json"
    config = read_json(path)
    prediction = PREDICTIONS.get(config.get("prediction_type", "epsilon"))
    if prediction is None:
        found = config["prediction_type"]
        raise PriorError(f"{path} has prediction_type {found!r}: expected {', '.join(PREDICTIONS)}.")
    try:
        known = {k: v for k, v in config.items() if k in _SCHEDULE_KEYS}
        scheduler: Any = DDPMScheduler(**known)
        return prediction, scheduler.alphas_cumprod.double()
    except (TypeError, ValueError, NotImplementedError) as error:
        raise PriorError(f"{path} describes no noise schedule that diffusers knows ({error}).") from error


_SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
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


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0][:200].rstrip(" :,") if lines else ""
