"""Where VideoCrafter's checkpoint keeps each weight of the diffusers UNet and of the CLIP text encoder.

Names are looked up from the module to the checkpoint, so that what is missing has the name that the checkpoint lacks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bridge.priors.videocrafter.unet import Additions

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_PLACE = {"resnets": 0, "temp_convs": 0, "attentions": 1, "temp_attentions": 2}
_TOP = {
    "conv_in": "input_blocks.0.0",
    "transformer_in": "init_attn.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "fps_embedding.linear_1": "fps_embedding.0",
    "fps_embedding.linear_2": "fps_embedding.2",
    "fps_embedding.time_bias": "time_embed.2.bias",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_TEXT_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "self_attn.out_proj": "attn.out_proj",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
_TEXT_TOP = {
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm.weight": "ln_final.weight",
    "final_layer_norm.bias": "ln_final.bias",
}


def blocks_of(weights: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    """What a latent diffusion UNet's weights tell of its blocks, as the config of diffusers' UNets has it.

    Args:
        weights: by their names in the checkpoint.
        kind: of the blocks: "2D", or "3D" with layers over frames.

    Raises:
        KeyError: a weight that tells the structure is missing.
    """
    stride = next((n for n in range(1, 100) if f"input_blocks.{n}.0.op.weight" in weights), 0)
    if not stride:
        raise KeyError("input_blocks.3.0.op.weight")
    levels = 1 + sum(f"input_blocks.{stride * n}.0.op.weight" in weights for n in range(1, 10))
    starts = [1 + stride * level for level in range(levels)]
    cross = ["CrossAttn" * (f"input_blocks.{start}.1.proj_in.weight" in weights) for start in starts]
    return {
        "in_channels": weights["input_blocks.0.0.weight"].shape[1],
        "out_channels": weights["out.2.weight"].shape[0],
        "block_out_channels": [weights[f"input_blocks.{start}.0.out_layers.3.weight"].shape[0] for start in starts],
        "layers_per_block": stride - 1,
        "down_block_types": [f"{attention}DownBlock{kind}" for attention in cross],
        "up_block_types": [f"{attention}UpBlock{kind}" for attention in reversed(cross)],
    }


def unet_config(weights: dict[str, Tensor]) -> tuple[dict[str, Any], Additions]:
    """Read the UNet3DConditionModel's config and the additions to it off the weights' names and shapes.

    Raises:
        KeyError: a weight that tells the structure is missing.
    """
    tables = weights.get("init_attn.0.transformer_blocks.0.attn1.relative_position_k.embeddings_table")
    config = {
        **blocks_of(weights, "3D"),
        "cross_attention_dim": weights["input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "attention_head_dim": weights["init_attn.0.proj_in.weight"].shape[0] // 8,  # eight heads, always
    }
    return config, Additions(
        relative_positions=0 if tables is None else (tables.shape[0] - 1) // 2,
        temporal_convolutions="input_blocks.1.0.temopral_conv.conv1.0.weight" in weights,  # their spelling
        fps_embedding="fps_embedding.0.weight" in weights,
    )


def unet_name(name: str, config: dict[str, Any]) -> str:
    """The checkpoint's name of a UNet weight; `config` as `unet_config` reads it."""
    layers = config["layers_per_block"]
    for part, theirs in _TOP.items():
        if name.startswith(part):
            return theirs + _attention(name.removeprefix(part))
    if match := re.match(r"mid_block\.(\w+)\.(\d)\.(.+)", name):
        kind, index, rest = match.groups()
        place = 3 * int(index) if _PLACE[kind] == 0 else _PLACE[kind]
        return f"middle_block.{place}.{_inner(kind, rest)}"
    match = re.match(r"(down|up)_blocks\.(\d+)\.(\w+)\.(\d+)\.(.+)", name)
    if not match:
        return name
    way, block, kind, index, rest = match.groups()
    number = int(block) * (layers + 1) + int(index)
    if kind == "downsamplers":
        return f"input_blocks.{number + layers + 1}.0.op.{rest.removeprefix('conv.')}"
    if kind == "upsamplers":
        attends = config["up_block_types"][int(block)].startswith("CrossAttn")  # published: all but the innermost
        return f"output_blocks.{number + layers}.{3 if attends else 1}.{rest}"
    side = f"input_blocks.{number + 1}" if way == "down" else f"output_blocks.{number}"
    return f"{side}.{_PLACE[kind]}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind == "temp_convs":
        return f"temopral_conv.{rest}"
    if kind == "resnets":
        part, _, leaf = rest.rpartition(".")
        return f"{_RESNET[part]}.{leaf}"
    return _attention(rest)


def _attention(rest: str) -> str:
    for ours, theirs in (("processor.keys", "relative_position_k"), ("processor.values", "relative_position_v")):
        rest = rest.replace(ours, f"{theirs}.embeddings_table")
    return rest


def text_name(name: str) -> tuple[str, int | None]:
    """The checkpoint's name of a text encoder's weight, and which third of that tensor it is (None: all of it)."""
    if name in _TEXT_TOP:
        return _TEXT_TOP[name], None
    match = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if not match:
        return name, None
    layer, part, leaf = match.groups()
    prefix = f"transformer.resblocks.{layer}"
    if (third := re.match(r"self_attn\.([qkv])_proj", part)) is not None:
        return f"{prefix}.attn.in_proj_{leaf}", "qkv".index(third.group(1))
    return f"{prefix}.{_TEXT_LAYER[part]}.{leaf}", None
