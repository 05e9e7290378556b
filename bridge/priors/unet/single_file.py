"""Stable Diffusion 1 and 2 in one file, as their authors publish them: a LatentDiffusion's state dict.

It holds ``model.diffusion_model.`` (UNet), ``first_stage_model.`` (VAE) and ``cond_stage_model.`` (text encoder: CLIP's
of transformers in version 1, open_clip's in version 2). Sizes are read off the weights. What no weight tells is the
published one: eight attention heads in version 1, heads of 64 channels in version 2, the noise schedule, the tokenizer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bridge.priors.folder import Parts
from bridge.priors.spec import PriorError
from bridge.priors.videocrafter.checkpoint import HEAD, VAE, text_encoder_of, vae_of
from bridge.priors.videocrafter.clip_text import END, OpenClipTokenizer, clip_tokenizer
from bridge.priors.videocrafter.names import blocks_of
from bridge.priors.videocrafter.prior import alphas_cumprod
from bridge.priors.weights.find import refuse_other_weights
from bridge.priors.weights.networks import frozen
from bridge.priors.weights.state_dicts import UNET, load_weights, read_tensors, structure_of, under

SUFFIXES = (".safetensors", ".ckpt")
CLIP, OPEN_CLIP = "cond_stage_model.transformer.", "cond_stage_model.model."
HEADS = 8  # of version 1
NATIVE = {"eps": 64, "v": 96}  # latents of the published models, by what they predict: 512 and 768 pixels
# What training leaves in a file beside the networks: a second copy that is averaged over time, and tables.
BESIDE = re.compile(
    r"model_ema\..*|first_stage_model\.loss\..*|(betas|logvar|scale_factor|global_step|lvlb_weights)"
    r"|(alphas_cumprod|sqrt_|log_one_minus_|posterior_).*|cond_stage_model\.(logit_scale|text_projection)"
    r"|cond_stage_model\..*position_ids"
)


def load_single_file(path: Path, name: str, device: torch.device, dtype: torch.dtype) -> Parts:
    """The parts of Stable Diffusion in one file.

    Args:
        path: a .safetensors or .ckpt file.
        name: "sd15" or "sd21".
        device, dtype: where the networks go, and the precision of their weights; on the meta device nothing but the
            file's header is read.

    Raises:
        PriorError: the file is damaged, of another model, or does not say what its UNet predicts.
    """
    if path.suffix not in SUFFIXES:
        raise PriorError(
            f"{path} is a {path.suffix or 'nameless'} file: expected {' or '.join(SUFFIXES)}, or a folder."
        )
    weights = read_tensors(path, "Stable Diffusion", "meta" if device.type == "meta" else "cpu")
    newer = _is_version_2(weights, name, path)
    unet_weights = under(weights, UNET, path)
    text = under(weights, OPEN_CLIP if newer else CLIP, path)
    known = (UNET, VAE, OPEN_CLIP if newer else CLIP)
    refuse_other_weights(
        path, "Stable Diffusion", [],
        [key for key in weights if not key.startswith(known) and not BESIDE.fullmatch(key)],
    )  # fmt: skip
    prediction = _prediction(path) if newer else "eps"
    networks = {
        "unet": _unet(unet_weights, newer, prediction, dtype, f"{path}, UNet"),
        "vae": vae_of(under(weights, VAE, path), dtype, f"{path}, VAE"),
        "text_encoder": (text_encoder_of if newer else _clip_text)(text, dtype, f"{path}, text encoder"),
    }
    for network in networks.values():
        frozen(network, device)
    return Parts(
        **networks,
        # version 1 is trained with end tokens behind a text, version 2 with zeros
        tokenizer=OpenClipTokenizer() if newer else clip_tokenizer(pad_token=END),
        alphas_cumprod=alphas_cumprod(),
        prediction=prediction,
        settings={},
        actions=(),
    )


def _is_version_2(weights: Mapping[str, Tensor], name: str, path: Path) -> bool:
    """Whether it is version 2; raises PriorError where prior `name` reads the other, or neither is there."""
    kinds = {"sd15": CLIP, "sd21": OPEN_CLIP}
    found = [kind for kind, prefix in kinds.items() if any(key.startswith(prefix) for key in weights)]
    if not found:
        other = sorted({".".join(key.split(".")[:2]) for key in weights if not key.startswith((UNET, VAE))})
        raise PriorError(
            f"{path} holds no text encoder of Stable Diffusion 1 or 2 ({', '.join(other[:3]) or 'nothing'} beside UNet"
            " and VAE; conditioner.embedders is Stable Diffusion XL, which no prior here is)."
        )
    if name in kinds and found != [name]:
        raise PriorError(f"{path} has the text encoder of --prior={found[0]}, not of {name}.")
    return found == ["sd21"]


def _prediction(path: Path) -> str:
    """What a version 2 was trained to predict: its weights do not say, its authors' .yaml or its name does."""
    settings = path.with_suffix(".yaml")
    if settings.is_file():
        return "v" if re.search(r"parameterization:\s*['\"]?v\b", settings.read_text("utf-8", "replace")) else "eps"
    if "768" in path.stem:
        return "v"
    if "512" in path.stem or "base" in path.stem:
        return "eps"
    raise PriorError(
        f"{path} does not say whether it predicts noise (512 pixels) or v (768): put its {settings.name} beside it, or"
        " keep 512 or 768 in its name."
    )


def unet_config(weights: Mapping[str, Tensor], newer: bool, prediction: str) -> dict[str, Any]:
    """The UNet2DConditionModel's config, from the weights' names and shapes.

    Raises:
        KeyError: a weight that tells the structure is missing.
    """
    blocks = blocks_of(weights, "2D")
    heads = [width // HEAD for width in blocks["block_out_channels"]] if newer else HEADS
    reads = "attn2.to_k.weight"
    return {
        **blocks,
        "sample_size": NATIVE[prediction],
        "cross_attention_dim": next((w.shape[1] for key, w in weights.items() if key.endswith(reads)), 0),
        "attention_head_dim": heads,  # in spite of its name
        "use_linear_projection": weights["middle_block.1.proj_in.weight"].ndim == 2,
    }


def _unet(weights: dict[str, Tensor], newer: bool, prediction: str, dtype: torch.dtype, where: str) -> Any:
    from diffusers import UNet2DConditionModel
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    with structure_of(weights, where):
        config = unet_config(weights, newer, prediction)
        names = convert_ldm_unet_checkpoint({UNET + key: key for key in weights}, config)
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(config)
    converted = {key: weights[theirs] for key, theirs in names.items()}
    converted |= {key: weights[key] for key in weights.keys() - set(names.values())}  # refused by their names
    return load_weights(unet, converted, dtype, where)


def _clip_text(weights: dict[str, Tensor], dtype: torch.dtype, where: str) -> Any:
    """CLIP's text encoder of transformers, under the names of any of its versions."""
    from transformers import CLIPTextConfig, CLIPTextModel

    weights = {key.removeprefix("text_model."): w for key, w in weights.items() if not key.endswith("position_ids")}
    with structure_of(weights, where):
        vocabulary, width = weights["embeddings.token_embedding.weight"].shape
        config = CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            num_hidden_layers=len({key.split(".")[2] for key in weights if key.startswith("encoder.layers.")}),
            num_attention_heads=width // HEAD,
            intermediate_size=weights["encoder.layers.0.mlp.fc1.weight"].shape[0],
            max_position_embeddings=weights["embeddings.position_embedding.weight"].shape[0],
            hidden_act="quick_gelu",
        )
        with torch.device("meta"):
            encoder = CLIPTextModel(config)
    encoder = load_weights(encoder, weights, dtype, where)
    # a buffer that no file carries; it is on the meta device still
    encoder.embeddings.position_ids = torch.arange(config.max_position_embeddings)[None]
    return encoder
