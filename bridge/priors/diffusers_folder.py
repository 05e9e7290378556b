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

UNETS = ("UNet2DConditionModel", "UNet3DConditionModel")
VAES = ("AutoencoderKL", "AutoencoderTiny")
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
    if not folder.is_dir():
        raise PriorError(f"prior folder {folder} does not exist: expected a diffusers folder (with model_index.json).")
    index = read_json(folder / "model_index.json")
    prediction, alphas_cumprod = _schedule(folder)
    if read_unet is not None:
        unet = read_unet(folder / "unet", dtype)
    else:
        unet = _network(folder, "unet", _class_name(index, "unet", UNETS), dtype)
    has_vae = (index.get("vae") or [None, None])[1] is not None
    vae = _network(folder, "vae", _class_name(index, "vae", VAES), dtype) if has_vae else None
    text_encoder = _network(folder, "text_encoder", _class_name(index, "text_encoder", TEXT_ENCODERS), dtype)
    for network in (unet, vae, text_encoder):
        if network is not None:
            network.to(device).requires_grad_(False).eval()
    return Parts(
        unet=unet,
        vae=vae,
        tokenizer=_tokenizer(folder, _class_name(index, "tokenizer", TOKENIZERS)),
        text_encoder=text_encoder,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
        settings=read_json(folder / "prior.json", optional=True),
        vocabulary=read_json(folder / "vocabulary.json", optional=True),
    )


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


def _class_name(index: dict[str, Any], part: str, known: tuple[str, ...]) -> str:
    entry = index.get(part)
    name = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
    if name not in known:
        raise PriorError(f"model_index.json names {name!r} as '{part}': expected one of {', '.join(known)}.")
    return name


def _network(folder: Path, part: str, class_name: str, dtype: torch.dtype) -> Any:
    """A network with every weight found in its file; safetensors, or .bin read as plain tensors."""
    import diffusers
    import transformers

    where = folder / part
    config = read_json(where / "config.json")
    library: Any = transformers if part == "text_encoder" else diffusers
    options = {"dtype": dtype} if part == "text_encoder" else {"torch_dtype": dtype, "low_cpu_mem_usage": False}
    variant = "fp16" if not _weights(where, "") and _weights(where, ".fp16") else None
    if variant is None and not _weights(where, ""):
        raise PriorError(f"{where} holds no weights: expected a .safetensors or .bin file beside config.json.")
    try:
        with _quiet():
            network, report = getattr(library, class_name).from_pretrained(
                where, variant=variant, local_files_only=True, output_loading_info=True, **options
            )
    except Exception as error:  # the libraries raise many types for damaged files
        message = f"{where} cannot be loaded as {class_name} ({_first_line(error)}): fetch the folder again."
        raise PriorError(message) from error
    wrong = {kind: sorted(map(str, report.get(kind) or ())) for kind in ("missing_keys", "mismatched_keys")}
    # position_ids are buffers that old files carry and new ones leave out
    missing = [key for key in wrong["missing_keys"] + wrong["mismatched_keys"] if "position_ids" not in key]
    if missing:
        raise PriorError(
            f"{where}: {len(missing)} weights of {class_name} are missing or of another shape, first {missing[0]};"
            f" config.json ({len(config)} entries) and weights do not belong together."
        )
    return network


def _weights(where: Path, variant: str) -> list[Path]:
    """Weight files of a component: model.safetensors, diffusion_pytorch_model.fp16.bin, ..., or a shards' index."""
    stem = rf".*model{re.escape(variant)}"
    return [p for p in where.iterdir() if re.fullmatch(rf"{stem}\.(safetensors|bin)|{stem}.*\.index.*\.json", p.name)]


def _tokenizer(folder: Path, class_name: str) -> Any:
    import transformers

    name = "PreTrainedTokenizerFast" if class_name == "TokenizersBackend" else class_name
    try:
        with _quiet():
            return getattr(transformers, name).from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        raise PriorError(f"{folder / 'tokenizer'} cannot be loaded as {name} ({_first_line(error)}).") from error


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


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200].rstrip(" :,") if lines else type(error).__name__
