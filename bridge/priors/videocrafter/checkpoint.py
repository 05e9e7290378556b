"""Reads VideoCrafter's original model.ckpt into the parts of a diffusers folder; nothing in it is executed.

It holds a LatentDiffusion's state dict: ``model.diffusion_model.`` (UNet), ``first_stage_model.`` (VAE) and
``cond_stage_model.model.`` (open_clip's ViT-H text tower), under ``state_dict``, or under ``module`` and with longer
names where DeepSpeed wrote it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import PriorError
from bridge.priors.videocrafter.names import text_name, unet_config, unet_name
from bridge.priors.videocrafter.unet import Additions, make_unet
from bridge.priors.weights.headers import CPU
from bridge.priors.weights.state_dicts import UNET, load_weights, read_tensors, structure_of, under

VAE, TEXT = "first_stage_model.", "cond_stage_model.model."
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


def load_checkpoint(path: Path, dtype: torch.dtype, device: torch.device = CPU) -> Checkpoint:
    """Load and convert every network of a model.ckpt.

    Args:
        path: the checkpoint (.ckpt, .pth, .pt: tensors pickled by torch; .safetensors).
        dtype: precision of the weights.
        device: on the meta device nothing but the file's header is read, on any other the weights, onto the CPU.

    Raises:
        PriorError: the file is damaged, holds other things than tensors, or is no VideoCrafter checkpoint.
    """
    weights = read_tensors(path, device="meta" if device.type == "meta" else "cpu")
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


def _structure(weights: dict[str, Tensor], where: str) -> tuple[Any, Additions, dict[str, str]]:
    """(UNet without weights, what it has beside diffusers' own, checkpoint's name of each of its weights)."""
    with structure_of(weights, where):
        config, additions = unet_config(weights)
        unet = make_unet(config, additions)
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
    with structure_of(weights, where):
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
    with structure_of(weights, where):
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
