"""LTX-Video in one file, as Lightricks publishes it (ltx-video-2b-v0.9.safetensors): transformer and VAE, no text.

Sizes are read off the weights; what no weight tells (heads, how blocks scale) is that of the published version, as
diffusers' scripts/convert_ltx_to_diffusers.py states it; the VAE's blocks tell the versions apart. T5 comes from a
diffusers folder beside the file, or from one that is named.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge.priors.hub import refuse_distilled
from bridge.priors.spec import PriorError
from bridge.priors.transformer.base import TransformerParts
from bridge.priors.transformer.t5_text import read_tokenizer
from bridge.priors.weights.find import refuse_other_weights
from bridge.priors.weights.networks import frozen, read_network
from bridge.priors.weights.state_dicts import UNET as TRANSFORMER
from bridge.priors.weights.state_dicts import load_weights, read_tensors, structure_of

VAE = "vae."
BESIDE = re.compile(r"vae\.per_channel_statistics\.(channel|mean-of-stds.*)")  # statistics that nothing reads
HEADS = 32  # of every published size


@dataclasses.dataclass(frozen=True)
class Version:
    """What the weights of a published VAE do not tell, and the pipeline that runs its generation."""

    pipeline: str
    vae: dict[str, Any]
    shifts: bool  # times, by the size of the clip


CONV, NEWER = "LTXVideoDownBlock3D", "LTXVideo095DownBlock3D"
DECODER = {
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2,) * 3,
}
VERSIONS = {
    "0.9.0": Version("LTXPipeline", {
        "down_block_types": (CONV,) * 4, "spatio_temporal_scaling": (True, True, True, False),
        "decoder_spatio_temporal_scaling": (True, True, True, False),
        "upsample_residual": (False,) * 4, "upsample_factor": (1,) * 4, "timestep_conditioning": False,
    }, True),
    "0.9.1": Version("LTXPipeline", {
        "down_block_types": (CONV,) * 4, "spatio_temporal_scaling": (True, True, True, False), **DECODER,
        "timestep_conditioning": True,
    }, True),
    "0.9.5": Version("LTXConditionPipeline", {  # to 0.9.8
        "down_block_types": (NEWER,) * 4, "spatio_temporal_scaling": (True,) * 4, **DECODER,
        "timestep_conditioning": True,
        "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
        "spatial_compression_ratio": 32, "temporal_compression_ratio": 8,
    }, False),
}  # fmt: skip
SCHEDULE = {
    "_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "base_image_seq_len": 1024,
    "base_shift": 0.95, "max_image_seq_len": 4096, "max_shift": 2.05, "shift": 1.0,
}  # fmt: skip


def file_and_texts(path: str) -> tuple[Path, Path] | None:
    """The file that `path` names, and the folder that holds its T5: the file's own, or what stands behind a comma.

    None where it names no file.
    """
    name, _, other = (part.strip() for part in path.partition(","))
    file = Path(name).expanduser()
    return (file, Path(other).expanduser() if other else file.parent) if file.is_file() else None


def load_single_file(file: Path, texts: Path, device: torch.device, dtype: torch.dtype) -> TransformerParts:
    """The parts of LTX-Video in one file.

    Args:
        file: .safetensors, with transformer and VAE.
        texts: the folder that holds T5 as text_encoder/ and tokenizer/.
        device, dtype: where the networks go, and the precision of their weights.

    Raises:
        PriorError: the file is damaged, of another model or distilled, or no T5 is there.
    """
    transformer, vae, version = networks(file, dtype, "meta" if device.type == "meta" else "cpu")
    check_texts(file, texts)
    tokenizer = read_tokenizer(texts / "tokenizer")
    text_encoder = read_network(texts, "text_encoder", "T5EncoderModel", dtype, device)
    if (width := text_encoder.config.d_model) != transformer.config.caption_channels:
        raise PriorError(
            f"{file}: the transformer reads text of width {transformer.config.caption_channels}, the text encoder in"
            f" {texts} writes {width}; they do not belong together."
        )
    for network in (transformer, vae, text_encoder):
        frozen(network, device)
    schedule = {**SCHEDULE, "use_dynamic_shifting": VERSIONS[version].shifts}
    index = {"_class_name": VERSIONS[version].pipeline}
    return TransformerParts(transformer, vae, tokenizer, text_encoder, schedule, index)


def check_texts(file: Path, texts: Path) -> None:
    """Raise PriorError where `texts` is no folder with T5 in it; `file` is for the message."""
    if not (texts / "text_encoder").is_dir() or not (texts / "tokenizer").is_dir():
        raise PriorError(
            f"{file} holds no text encoder, and {texts} has no text_encoder/ and tokenizer/: give"
            f" --prior_path={file.name},FOLDER with the diffusers folder of any model that reads T5-XXL (LTX-Video,"
            " CogVideoX)."
        )


def networks(file: Path, dtype: torch.dtype, device: str = "cpu") -> tuple[Any, Any, str]:
    """(transformer, VAE, version) of a file; on the "meta" device nothing but its header is read.

    Raises:
        PriorError: the file is damaged, of another model, or distilled.
    """
    import diffusers

    if file.suffix != ".safetensors":
        raise PriorError(f"{file} is a {file.suffix or 'nameless'} file: expected .safetensors, or a diffusers folder.")
    refuse_distilled(str(file))
    weights = read_tensors(file, "LTX-Video", device)
    if TRANSFORMER + "patchify_proj.weight" not in weights or VAE + "encoder.conv_in.conv.weight" not in weights:
        raise PriorError(
            f"{file} holds no transformer and VAE of LTX-Video: expected {TRANSFORMER}patchify_proj.weight and"
            f" {VAE}encoder.conv_in.conv.weight among its {len(weights)} weights."
        )
    unknown = [key for key in weights if not key.startswith((TRANSFORMER, VAE)) and not BESIDE.fullmatch(key)]
    refuse_other_weights(file, "LTX-Video", [], unknown)
    version = _version(weights)
    ours = {key: weights[theirs] for key, theirs in _names(weights, version).items()}
    inside = {key.removeprefix("transformer."): w for key, w in ours.items() if key.startswith("transformer.")}
    pixels = {key.removeprefix("vae."): w for key, w in ours.items() if key.startswith("vae.")}
    with structure_of(weights, str(file)), torch.device("meta"):
        transformer = diffusers.LTXVideoTransformer3DModel(**_transformer_config(inside, _stated(file)))
        vae = diffusers.AutoencoderKLLTXVideo(**_vae_config(pixels, version))
    loaded = load_weights(transformer, inside, dtype, f"{file}, transformer")
    return loaded, load_weights(vae, pixels, dtype, f"{file}, VAE"), version


def _version(weights: Mapping[str, Tensor]) -> str:
    if any(key.startswith("vae.encoder.down_blocks.2.res_blocks.") for key in weights):
        return "0.9.5"
    return "0.9.1" if "vae.decoder.last_scale_shift_table" in weights else "0.9.0"


def _names(weights: Mapping[str, Tensor], version: str) -> dict[str, str]:
    """The file's name of each weight, by diffusers' name behind "transformer." or "vae."."""
    from diffusers.loaders import single_file_utils as converters

    # the converter tells the newer VAE by the published width of this weight, which small ones do not have
    wide = torch.empty(0, 2048 if version == "0.9.5" else 0)
    known = {key: wide.clone() for key in weights if not BESIDE.fullmatch(key)}
    theirs = {id(tensor): key for key, tensor in known.items()}
    parts = {
        "vae.": converters.convert_ltx_vae_checkpoint_to_diffusers({k: t for k, t in known.items() if k[:4] == VAE}),
        "transformer.": converters.convert_ltx_transformer_checkpoint_to_diffusers(
            {key: tensor for key, tensor in known.items() if key.startswith(TRANSFORMER)}
        ),
    }
    return {prefix + key: theirs[id(t)] for prefix, converted in parts.items() for key, t in converted.items()}


def _stated(file: Path) -> dict[str, Any]:
    """What the file's header says of its transformer; files of 0.9.5 and later have it."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        config = (opened.metadata() or {}).get("config")
    try:
        stated = json.loads(config).get("transformer") if config else None
    except (ValueError, AttributeError):
        stated = None
    return stated if isinstance(stated, dict) else {}


def _transformer_config(weights: Mapping[str, Tensor], stated: Mapping[str, Any]) -> dict[str, Any]:
    width, channels = weights["proj_in.weight"].shape
    heads = stated.get("num_attention_heads", HEADS)
    if width % heads:
        raise ValueError(f"{heads} attention heads do not divide a width of {width}")
    return {
        "in_channels": channels,
        "out_channels": weights["proj_out.weight"].shape[0],
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "cross_attention_dim": weights["transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "num_layers": len({key.split(".")[1] for key in weights if key.startswith("transformer_blocks.")}),
        "caption_channels": weights["caption_projection.linear_1.weight"].shape[1],
    }


def _vae_config(weights: Mapping[str, Tensor], version: str) -> dict[str, Any]:
    published = VERSIONS[version].vae
    ups = len(published["upsample_factor"])
    downs = [f"encoder.down_blocks.{n}" for n in range(4)]
    # outwards, as the configuration counts them
    decoder = [f"decoder.up_blocks.{n}" for n in reversed(range(ups))]
    widths = [_width(weights, block) for block in downs]
    if version == "0.9.5":
        widths.append(_width(weights, "encoder.mid_block"))
    latents = weights["decoder.conv_in.conv.weight"].shape[1]
    return {
        **published,
        "latent_channels": latents,
        "block_out_channels": widths,
        "layers_per_block": [_layers(weights, block) for block in (*downs, "encoder.mid_block")],
        "decoder_block_out_channels": [
            _width(weights, block) * factor for block, factor in zip(decoder, published["upsample_factor"], strict=True)
        ],
        "decoder_layers_per_block": [_layers(weights, block) for block in (*decoder, "decoder.mid_block")],
        "decoder_inject_noise": [
            f"{block}.resnets.0.per_channel_scale1" in weights for block in (*decoder, "decoder.mid_block")
        ],
    }


def _width(weights: Mapping[str, Tensor], block: str) -> int:
    return weights[f"{block}.resnets.0.conv1.conv.weight"].shape[0]


def _layers(weights: Mapping[str, Tensor], block: str) -> int:
    return sum(f"{block}.resnets.{n}.conv1.conv.weight" in weights for n in range(100))
