"""Reads VideoCrafter's original model.ckpt into the parts of a diffusers folder; nothing in it is executed.

It holds a LatentDiffusion's state dict: ``model.diffusion_model.`` (UNet), ``first_stage_model.`` (VAE) and
``cond_stage_model.model.`` (open_clip's ViT-H text tower), under ``state_dict``, or under ``module`` and with longer
names where DeepSpeed wrote it.
"""

from __future__ import annotations

import dataclasses
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import PriorError
from bridge.priors.videocrafter.names import text_name, unet_config, unet_name
from bridge.priors.videocrafter.unet import Additions, load_weights, make_unet

UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."
HEAD = 64  # width of an attention head of every open_clip text tower
VAE_SCALE = 0.18215
STEPS, BETA_START, BETA_END = 1000, 0.00085, 0.012  # the training schedule: linear in the square root of beta


@dataclasses.dataclass
class Checkpoint:
    """The networks of a checkpoint, on the CPU, in one precision."""

    unet: Any
    additions: Additions
    vae: Any
    text_encoder: Any
    scale: Float[Tensor, "T"] | None  # the factor of z at every step, where the checkpoint states it


def load_checkpoint(path: Path, dtype: torch.dtype) -> Checkpoint:
    """Load and convert every network of a model.ckpt.

    Args:
        path: the checkpoint (.ckpt, .pth, .pt: tensors pickled by torch; .safetensors).
        dtype: precision of the weights.

    Raises:
        PriorError: the file is damaged, holds other things than tensors, or is no VideoCrafter checkpoint.
    """
    weights = read_tensors(path)
    unet_weights, vae_weights, text_weights = (under(weights, prefix, path) for prefix in (UNET, VAE, TEXT))
    unet, additions = _unet(unet_weights, dtype, f"{path}, UNet")
    return Checkpoint(
        unet=unet,
        additions=additions,
        vae=vae_of(vae_weights, dtype, f"{path}, VAE"),
        text_encoder=text_encoder_of(text_weights, dtype, f"{path}, text encoder"),
        scale=weights.get("scale_arr"),
    )


def count_parts(path: Path) -> dict[str, int]:
    """The weights of each network of a checkpoint, whose UNet's names are compared with what its structure has.

    Raises:
        PriorError: as `load_checkpoint`, which this is the quick part of.
    """
    weights = read_tensors(path, device="meta")
    parts = {part: under(weights, prefix, path) for part, prefix in (("UNet", UNET), ("VAE", VAE), ("text", TEXT))}
    _structure(parts["UNet"], f"{path}, UNet")
    return {part: sum(tensor.numel() for tensor in found.values()) for part, found in parts.items()}


def read_tensors(path: Path, kind: str = "VideoCrafter", device: str = "cpu") -> dict[str, Tensor]:
    """The tensors of a checkpoint by name, without what DeepSpeed puts before the names.

    Args:
        path: the checkpoint.
        kind: the model that it should hold, for messages.
        device: "cpu"; "meta": names, shapes and precisions alone, from the file's header.

    Raises:
        PriorError: the file cannot be read safely, or holds no UNet or transformer.
    """
    content: Any
    try:
        if path.suffix == ".safetensors":
            content = _read_safetensors(path, device)
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


def _read_safetensors(path: Path, device: str) -> dict[str, Tensor]:
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


def _structure(weights: dict[str, Tensor], where: str) -> tuple[Any, Additions, dict[str, str]]:
    """(UNet without weights, what it has beside diffusers' own, checkpoint's name of each of its weights)."""
    try:
        config, additions = unet_config(weights)
        unet = make_unet(config, additions)
    except (KeyError, IndexError, ValueError) as error:
        raise PriorError(f"{where}: its structure cannot be told ({error}, {len(weights)} weights found).") from error
    names = {name: unet_name(name, config) for name in unet.state_dict()}
    _compare(set(names.values()), set(weights), where)
    return unet, additions, names


def _unet(weights: dict[str, Tensor], dtype: torch.dtype, where: str) -> tuple[Any, Additions]:
    unet, additions, names = _structure(weights, where)
    # 1x1 convolutions over frames that diffusers keeps as linear layers
    shapes = {name: tensor.ndim for name, tensor in unet.state_dict().items()}
    renamed = {name: weights[theirs] for name, theirs in names.items()}
    renamed = {name: t.squeeze(-1) if t.ndim == shapes[name] + 1 else t for name, t in renamed.items()}
    return load_weights(unet, renamed, dtype, where), additions


def vae_of(weights: dict[str, Tensor], dtype: torch.dtype, where: str) -> Any:
    """The AutoencoderKL of a latent diffusion model's weights.

    Raises:
        PriorError: they are not those of one such network, each once.
    """
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("loss.")}
    levels = 0
    while f"encoder.down.{levels}.block.0.conv1.weight" in weights:
        levels += 1
    try:
        config = {
            "in_channels": weights["encoder.conv_in.weight"].shape[1],
            "out_channels": weights["decoder.conv_out.weight"].shape[0],
            "latent_channels": weights["post_quant_conv.weight"].shape[0],
            "block_out_channels": [weights[f"encoder.down.{n}.block.0.conv1.weight"].shape[0] for n in range(levels)],
            "layers_per_block": sum(f"encoder.down.0.block.{n}.conv1.weight" in weights for n in range(9)),
            "down_block_types": ["DownEncoderBlock2D"] * levels,
            "up_block_types": ["UpDecoderBlock2D"] * levels,
            "scaling_factor": VAE_SCALE,
        }
        converted = convert_ldm_vae_checkpoint(weights, config)
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(config)
    except (KeyError, IndexError, ValueError) as error:
        raise PriorError(f"{where}: its structure cannot be told ({error}, {len(weights)} weights found).") from error
    if len(converted) != len(weights):
        raise PriorError(f"{where}: {len(weights) - len(converted)} of {len(weights)} weights belong to another model.")
    return load_weights(vae, converted, dtype, where)


def text_encoder_of(weights: dict[str, Tensor], dtype: torch.dtype, where: str) -> Any:
    """The CLIPTextModel of open_clip's text tower, without its last layer: its users read the penultimate one.

    Raises:
        PriorError: the weights are not those of one such network, each once.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    layers = len({name.split(".")[2] for name in weights if name.startswith("transformer.resblocks.")}) - 1
    try:
        vocabulary, width = weights["token_embedding.weight"].shape
        config = CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=width // HEAD,
            intermediate_size=weights["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
            max_position_embeddings=weights["positional_embedding"].shape[0],
            hidden_act="gelu",
        )
        with torch.device("meta"):
            encoder = CLIPTextModel(config)
    except (KeyError, ValueError, ZeroDivisionError) as error:
        raise PriorError(f"{where}: its structure cannot be told ({error}, {len(weights)} weights found).") from error
    names = {name: text_name(name) for name in encoder.state_dict()}
    beside = {"text_projection", "logit_scale", "attn_mask"}
    last = f"transformer.resblocks.{layers}."
    _compare({theirs for theirs, _ in names.values()},
             {name for name in weights if name not in beside and not name.startswith(last)}, where)  # fmt: skip
    converted = {}
    for name, (theirs, third) in names.items():
        converted[name] = weights[theirs] if third is None else weights[theirs].chunk(3)[third]
    encoder = load_weights(encoder, converted, dtype, where)
    # a buffer that no file carries; it is on the meta device still
    encoder.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
    return encoder


def _compare(expected: set[str], found: set[str], where: str) -> None:
    """Raise PriorError unless the checkpoint has exactly the weights that the model needs; the names are its own."""
    missing, unknown = sorted(expected - found), sorted(found - expected)
    said = [f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' * (len(names) > 3)})"
            for kind, names in (("missing", missing), ("unknown", unknown)) if names]  # fmt: skip
    if said:
        raise PriorError(f"{where}: of {len(expected)} weights, {'; '.join(said)}. It is truncated or another model.")
