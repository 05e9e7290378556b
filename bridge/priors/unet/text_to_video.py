"""ModelScope and ZeroScope: diffusers folders of one architecture (UNet3DConditionModel, 1.7 billion parameters)."""

from __future__ import annotations

from pathlib import Path

import torch

from bridge.priors.base import FolderPrior
from bridge.priors.folder import Parts, load_parts
from bridge.priors.hub import local_path
from bridge.priors.spec import PriorError, PriorSpec, precision_name

HUB_IDS = {"modelscope": "ali-vilab/text-to-video-ms-1.7b", "zeroscope": "cerspense/zeroscope_v2_576w"}
NATIVE = {"modelscope": (16, 256, 256), "zeroscope": (24, 320, 576)}  # frames, height, width
LICENCE = "CC-BY-NC-4.0"  # of both
TOLD = ("time_cond_proj_dim", "class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")
FPS = 8.0  # neither is told a frame rate; diffusers writes their videos at 8


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> FolderPrior:
    """ModelScope's text-to-video model (Wang et al. 2023), or ZeroScope v2 576w, the same model trained on.

    See `bridge.priors.spec.Loader`.
    """
    folder = local_path(path, name, dtype, HUB_IDS[name])
    parts = load_parts(folder, device, dtype)
    channels, stride = latents_of(parts, folder, name)
    frames, height, width = NATIVE[name]
    spec = PriorSpec(
        name=name,
        kind="video",
        prediction=parts.prediction,  # type: ignore[arg-type]
        frames=frames,
        fps=FPS,
        height=height,
        width=width,
        latent_channels=channels,
        pixel_stride=stride,
        dtype=precision_name(dtype),
        licence=LICENCE,
        origin=str(folder),
    )
    return FolderPrior(spec, parts, device)


def latents_of(parts: Parts, folder: Path, name: str, expected: str = "UNet3DConditionModel") -> tuple[int, int]:
    """(channels, pixels a latent along height and width) of what an `expected` UNet and its VAE work in.

    Raises:
        PriorError: UNet, VAE and text encoder do not belong together, or one of them is missing.
    """
    kind = type(parts.unet).__name__
    if kind != expected:
        raise PriorError(f"{folder} holds a {kind}: prior '{name}' is a {expected}.")
    if told := next((key for key in TOLD if parts.unet.config.get(key) is not None), None):
        raise PriorError(
            f"{folder}: the UNet is told more than time and text ({told}={parts.unet.config[told]!r}), as those of"
            f" distilled models and of other tasks are: prior '{name}' is not."
        )
    if parts.vae is None:
        raise PriorError(f"{folder} holds no VAE: prior '{name}' works in the latents of one.")
    vae = parts.vae.config
    if parts.unet.config.in_channels != vae.latent_channels:
        raise PriorError(
            f"{folder}: the UNet takes {parts.unet.config.in_channels} latent channels, the VAE makes"
            f" {vae.latent_channels}; they do not belong together."
        )
    width = parts.text_encoder.config.hidden_size
    if parts.unet.config.cross_attention_dim != width:
        raise PriorError(
            f"{folder}: the UNet reads text of width {parts.unet.config.cross_attention_dim}, the text encoder"
            f" writes {width}; they do not belong together."
        )
    return vae.latent_channels, 2 ** (len(vae.block_out_channels) - 1)  # one halving between every two levels
