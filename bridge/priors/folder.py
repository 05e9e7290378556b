"""Reads a diffusers folder (model_index.json, unet/, vae/, tokenizer/, text_encoder/, scheduler/), offline.

A folder may hold two more files. ``prior.json`` states what PriorSpec wants to know (frames, fps, size, camera), the
``recipe`` of a run (`bridge.recipes`) and ``frame_packing``, for a 2D UNet that takes the frames as channels;
``vocabulary.json`` names the actions that the text encoder knows, for a prior of closed vocabulary: {"actions": [...]}.
Without a ``vae`` the latents are the pixels in [-1, 1].
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.schedule import check_table, described
from bridge.priors.spec import PriorError
from bridge.priors.weights.find import check_token_file, first_line, read_json
from bridge.priors.weights.networks import frozen, quiet, read_network

UNETS = ("UNet2DConditionModel", "UNet3DConditionModel")
VAES = ("AutoencoderKL", "AutoencoderTiny")
TEXT_ENCODERS = ("CLIPTextModel", "CLIPTextModelWithProjection")
TOKENIZERS = ("CLIPTokenizer", "CLIPTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend")
PREDICTIONS = {"epsilon": "eps", "v_prediction": "v", "sample": "sample"}
# Samplers of one and the same training schedule: noise added in steps with variances beta.
SCHEDULERS = (
    "DDIMScheduler", "DDIMInverseScheduler", "DDPMScheduler", "DEISMultistepScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSDEScheduler", "DPMSolverSinglestepScheduler", "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2AncestralDiscreteScheduler", "KDPM2DiscreteScheduler",
    "LMSDiscreteScheduler", "PNDMScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
ORIGINALS = (".pth", ".pt", ".ckpt", ".safetensors", ".gguf")
ONCE = (
    " Take the -Diffusers folder of the hub, or write one with diffusers: from_single_file, then save_pretrained. Of"
    " Stable Diffusion and LTX-Video one .safetensors file will do: name the file itself."
)
MOST_TIMES = 100_000  # steps of a schedule; published ones have a thousand
# Pipelines that run such a UNet; one of another task or of a distilled model (LatentConsistencyModelPipeline) does not.
UNET_PIPELINES = re.compile(r"(StableDiffusion|TextToVideo|VideoToVideo|AnimateDiff)(?!XL|3)\w*")
UNET_PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
UNUSED_PARTS = ("feature_extractor", "safety_checker")  # a folder's check of finished pictures
# Entries of a model_index.json that change what the networks mean, and what they make of a folder.
MEANINGS = {
    "boundary_ratio": "two networks share the times (Wan 2.2 A14B, which no prior here is)",
    "expand_timesteps": "each latent has a time of its own (Wan 2.2 TI2V: --prior=wan22)",
    "is_distilled": "the model is distilled to a few steps, which no prior here may be: take the full one",
}


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
    actions: tuple[str, ...]  # the names in vocabulary.json, or nothing


def load_parts(
    folder: str | Path,
    device: torch.device,
    dtype: torch.dtype,
    read_unet: Callable[[Path, torch.dtype], Any] | None = None,
    beta_schedule: str | None = None,
) -> Parts:
    """Load every component of `folder`; nothing is downloaded and nothing is unpickled.

    Args:
        folder: a diffusers folder.
        device, dtype: where the networks go, and the precision of their weights; on the meta device nothing but the
            files' headers is read.
        read_unet: reads the folder's unet/ where that is no class of diffusers.
        beta_schedule: takes the place of the one in the folder's scheduler, for layers that were trained with another.

    Raises:
        PriorError: the folder or one of its components is missing, malformed, truncated or of an unknown class.
    """
    folder = Path(folder)
    index = read_index(folder)
    pipeline = str(index.get("_class_name") or "TextToVideoSDPipeline")
    if not UNET_PIPELINES.fullmatch(pipeline):
        raise PriorError(
            f"{folder / 'model_index.json'} is a {pipeline}'s: expected StableDiffusionPipeline, TextToVideoSDPipeline"
            " or another one of the same networks."
        )
    check_parts(folder, index, UNET_PARTS)
    prediction, alphas_cumprod = _schedule(folder, index, beta_schedule)

    def read(part: str, known: tuple[str, ...]) -> Any:
        return read_network(folder, part, class_name_of(folder, index, part, known), dtype, device)

    unet = read("unet", UNETS) if read_unet is None else read_unet(folder / "unet", dtype)
    has_vae = (index.get("vae") or [None, None])[1] is not None
    vae = read("vae", VAES) if has_vae else None
    text_encoder = read("text_encoder", TEXT_ENCODERS)
    for network in (unet, vae, text_encoder):
        if network is not None:
            frozen(network, device)
    tokenizer = read_tokenizer(folder, class_name_of(folder, index, "tokenizer", TOKENIZERS))
    check_vocabulary(folder, len(tokenizer), text_encoder)
    return Parts(
        unet=unet,
        vae=vae,
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        alphas_cumprod=alphas_cumprod,
        prediction=prediction,
        settings=read_json(folder / "prior.json", optional=True),
        actions=actions_of(read_json(folder / "vocabulary.json", optional=True)),
    )


def actions_of(vocabulary: dict[str, Any]) -> tuple[str, ...]:
    """The names of the actions; folders of version 0.1 and before have them as keys, with lists of words."""
    names = vocabulary.get("actions", vocabulary)
    if not isinstance(names, list | dict) or not all(isinstance(name, str) for name in names):
        raise PriorError(f'vocabulary.json must hold {{"actions": [names]}}, found {str(names)[:60]!r}.')
    return tuple(names)


def read_index(folder: Path) -> dict[str, Any]:
    """What model_index.json says of a diffusers folder.

    Raises:
        PriorError: the folder or the file in it is missing or unreadable.
    """
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise PriorError(
            f"prior folder {folder} {found}: expected a diffusers folder (with model_index.json)."
            f"{ONCE * folder.exists()}"
        )
    if not (folder / "model_index.json").exists() and not (folder / "config.json").exists():
        originals = sorted(file.name for file in folder.iterdir() if file.suffix in ORIGINALS)
        if originals:
            raise PriorError(
                f"{folder} holds {originals[0]}{f' and {len(originals) - 1} more' * (len(originals) > 1)} and no"
                f" model_index.json: it is the layout of the model's own repository, expected a diffusers folder.{ONCE}"
            )
    return read_json(folder / "model_index.json")


def check_parts(folder: Path, index: Mapping[str, Any], known: Sequence[str], meanings: Sequence[str] = ()) -> None:
    """Refuse a folder that holds, or says, more than its family understands.

    Args:
        folder: for messages.
        index: its model_index.json.
        known: the parts that the family reads.
        meanings: those of MEANINGS that the family understands.

    Raises:
        PriorError: another part is named, or an entry of MEANINGS is set.
    """
    for name, meaning in MEANINGS.items():
        if name not in meanings and index.get(name) not in (None, False):
            raise PriorError(f"{folder / 'model_index.json'} has {name}={index[name]}: {meaning}.")
    others = [
        part
        for part, entry in index.items()
        if isinstance(entry, list) and entry and entry[-1] is not None and part not in (*known, *UNUSED_PARTS)
    ]
    if others:
        raise PriorError(
            f"{folder / 'model_index.json'} names {index[others[0]][-1]!r} as '{others[0]}': expected only"
            f" {', '.join(known)}; it is another kind of model."
        )


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


def check_vocabulary(folder: Path, tokens: int, text_encoder: Any) -> None:
    """Raise PriorError where a tokenizer has more tokens than the text encoder knows; `folder` is for the message."""
    if tokens > (known := text_encoder.config.vocab_size):
        raise PriorError(
            f"{folder}: the tokenizer has {tokens} tokens, the text encoder knows {known}; they do not belong together."
        )


def read_tokenizer(folder: Path, class_name: str) -> Any:
    """The tokenizer of transformers in `folder`/tokenizer.

    Raises:
        PriorError: a file is missing, damaged, or git-LFS's note of one.
    """
    import transformers

    check_tokenizer(folder)
    name = "PreTrainedTokenizerFast" if class_name == "TokenizersBackend" else class_name
    try:
        with quiet():
            tokenizer = getattr(transformers, name).from_pretrained(folder / "tokenizer", local_files_only=True)
            most = tokenizer.model_max_length
            if not isinstance(most, int) or most < 1:
                raise ValueError(f"model_max_length is {most!r}, expected a number of tokens")
            tokenizer(["a person"], padding="max_length", truncation=True, max_length=4)
            return tokenizer
    except Exception as error:
        raise PriorError(
            f"{folder / 'tokenizer'} cannot be loaded as {name} ({first_line(str(error))}): fetch the folder again."
        ) from error


def check_tokenizer(folder: Path) -> None:
    """Raise PriorError where `folder` has no tokenizer/, or a file there that no library may read."""
    where = folder / "tokenizer"
    files = sorted(where.iterdir()) if where.is_dir() else []
    if not files:
        raise PriorError(f"{where} is missing: {folder} is no complete diffusers folder.")
    for file in files:
        check_token_file(file)


def alphas_of(settings: Mapping[str, Any]) -> Float[Tensor, "T"]:
    """ᾱ of a schedule of betas, as a scheduler_config.json states it; float64."""
    from diffusers import DDPMScheduler

    scheduler: Any = DDPMScheduler(**settings)
    return scheduler.alphas_cumprod.double()


def _schedule(
    folder: Path, index: Mapping[str, Any], beta_schedule: str | None = None
) -> tuple[str, Float[Tensor, "T"]]:
    """(prediction, ᾱ) of the scheduler: the training schedule that any of SCHEDULERS samples from."""
    import diffusers

    path = folder / "scheduler" / "scheduler_config.json"
    config = read_json(path)
    named = index.get("scheduler")
    said = [config.get("_class_name"), named[1] if isinstance(named, list) and len(named) == 2 else None]
    kinds = [kind for kind in said if kind is not None]
    strange = next((kind for kind in kinds if kind not in SCHEDULERS), None)
    other = "set to flows" if config.get("use_flow_sigmas") else ""
    other = "with continuous times" if config.get("timestep_type") == "continuous" else other
    if not kinds or strange is not None or other:
        found = f"{kinds[0]} {other}" if kinds and other else "no class" if strange is None else str(strange)[:60]
        raise PriorError(
            f"{path} and model_index.json describe {found}: a UNet's family needs a schedule of betas, such as"
            " DDIMScheduler or PNDMScheduler."
        )
    predicted = config.get("prediction_type", "epsilon")
    prediction = PREDICTIONS.get(predicted) if isinstance(predicted, str) else None
    if prediction is None:
        raise PriorError(f"{path} has prediction_type {str(predicted)[:60]!r}: expected {', '.join(PREDICTIONS)}.")
    # What a config leaves out is its class's own default.
    defaults = inspect.signature(getattr(diffusers, kinds[0]).__init__).parameters
    settings = {key: defaults[key].default for key in _SCHEDULE_KEYS if key in defaults}
    settings |= {key: config[key] for key in _SCHEDULE_KEYS if key in config}
    if beta_schedule is not None:
        settings["beta_schedule"] = beta_schedule
    count = settings.get("num_train_timesteps")
    if not isinstance(count, int) or not 2 <= count <= MOST_TIMES:
        raise PriorError(
            f"{path} describes no noise schedule (num_train_timesteps={str(count)[:60]}): expected 2 to {MOST_TIMES}."
        )
    with described(path):
        return prediction, check_table(alphas_of(settings))


_SCHEDULE_KEYS = (
    "num_train_timesteps",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "trained_betas",
    "rescale_betas_zero_snr",
)
