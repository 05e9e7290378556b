"""AnimateDiff: Stable Diffusion 1.5 and layers between its own that look along time, from two folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.base import FolderPrior
from bridge.priors.folder import alphas_of, class_name_of, load_parts, read_index
from bridge.priors.hub import local_path
from bridge.priors.spec import PriorError, PriorSpec, Text, precision_name
from bridge.priors.unet.single_file import load_single_file
from bridge.priors.unet.stable_diffusion import for_frames
from bridge.priors.unet.text_to_video import latents_of
from bridge.priors.videocrafter.checkpoint import BETA_END, BETA_START
from bridge.priors.weights.find import first_line
from bridge.priors.weights.networks import frozen, quiet, read_network

HUB_IDS = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "guoyww/animatediff-motion-adapter-v1-5-2")
LICENCE = "CreativeML Open RAIL-M (Stable Diffusion 1.5), Apache-2.0 (the motion adapter)"
FRAMES, FPS, SIZE = 16, 8.0, 512
BETAS = "linear"  # what the motion layers are trained with; the pictures' own are linear in their square root


class AnimateDiffPrior(FolderPrior):
    """A FolderPrior of a UNetMotionModel, which is given each frame's text, all the same here."""

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """What the UNet says of clips (see `FrozenPrior.output`)."""
        return super().output(z_t, t, for_frames(text, z_t.shape[2]))

    def _prepare_for(self, latents: tuple[int, int, int, int]) -> None:
        most = self._unet.config.motion_max_seq_length
        if latents[1] > most:
            raise PriorError(f"prior '{self.spec.name}' takes at most {most} frames, got {latents[1]}.")


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> AnimateDiffPrior:
    """AnimateDiff (Guo et al. 2023) on Stable Diffusion 1.5.

    Args:
        name, device, dtype: see `bridge.priors.spec.Loader`.
        path: two diffusers folders or hub ids with a comma between them: Stable Diffusion's (or one file of it),
            then the motion adapter's.

    Raises:
        PriorError: one of them is missing, damaged, or another kind of model, or they do not belong together.
    """
    pictures, motion = two_paths(path)
    folder = local_path(pictures, name, dtype, HUB_IDS[0])
    adapter = local_path(motion, name, dtype, HUB_IDS[1])
    if folder.is_file():
        parts = load_single_file(folder, "sd15", device, dtype)
        parts.unet = frozen(_with_motion(parts.unet, folder, adapter, dtype, device), device)
        parts.alphas_cumprod = alphas_of({"beta_schedule": BETAS, "beta_start": BETA_START, "beta_end": BETA_END})
    else:
        class_name_of(folder, read_index(folder), "unet", ("UNet2DConditionModel",))

        def read_unet(where: Path, dtype: torch.dtype) -> Any:
            unet = read_network(where.parent, where.name, "UNet2DConditionModel", dtype, device)
            return _with_motion(unet, where, adapter, dtype, device)

        parts = load_parts(folder, device, dtype, read_unet, beta_schedule=BETAS)
    channels, stride = latents_of(parts, folder, name, "UNetMotionModel")
    spec = PriorSpec(
        name=name,
        kind="video",
        prediction=parts.prediction,  # type: ignore[arg-type]
        frames=FRAMES,
        fps=FPS,
        height=SIZE,
        width=SIZE,
        latent_channels=channels,
        pixel_stride=stride,
        dtype=precision_name(dtype),
        licence=LICENCE,
        origin=f"{folder},{adapter}",
    )
    return AnimateDiffPrior(spec, parts, device)


def _with_motion(unet: Any, where: Path, adapter: Path, dtype: torch.dtype, device: torch.device) -> Any:
    """The UNetMotionModel of Stable Diffusion's UNet and the layers in `adapter`."""
    from diffusers import UNetMotionModel

    layers = read_network(adapter.parent, adapter.name, "MotionAdapter", dtype, device)
    try:
        with quiet(), torch.device("meta" if device.type == "meta" else "cpu"):
            return UNetMotionModel.from_unet2d(unet, layers).to(dtype)
    except (ValueError, RuntimeError) as error:
        raise PriorError(
            f"the motion adapter in {adapter} does not fit the UNet in {where} ({first_line(str(error))})."
        ) from error


def two_paths(path: str) -> tuple[str, str]:
    """The paths of Stable Diffusion and of the motion adapter.

    Raises:
        PriorError: there are not two of them, with a comma in between.
    """
    pictures, comma, motion = path.partition(",")
    if not comma or not pictures.strip() or not motion.strip():
        raise PriorError(
            f"prior 'animatediff' is made of two: give --prior_path=SD15,ADAPTER, folders on this machine or the hub"
            f" ids {','.join(HUB_IDS)} (which are downloaded), got {path!r}."
        )
    return pictures.strip(), motion.strip()
