"""Frozen diffusion priors, one small file a family, behind one protocol (`bridge.priors.spec.Prior`)."""

from __future__ import annotations

import torch

from bridge.errors import reason_of
from bridge.priors import embedded
from bridge.priors.spec import PRECISIONS, Conditioning, Loader, Prior, PriorError, PriorSpec, Setup, Text
from bridge.priors.transformer import cogvideox, ltx, skyreels, wan
from bridge.priors.unet import animatediff, stable_diffusion, text_to_video
from bridge.priors.videocrafter import prior as videocrafter

LOADERS: dict[str, Loader] = {
    "embedded": embedded.load,
    "modelscope": text_to_video.load,
    "zeroscope": text_to_video.load,
    "videocrafter1": videocrafter.load,
    "videocrafter2": videocrafter.load,
    "animatediff": animatediff.load,
    "sd15": stable_diffusion.load,
    "sd21": stable_diffusion.load,
    "wan21": wan.load,
    "wan22": wan.load,
    "skyreels2": skyreels.load,
    "cogvideox": cogvideox.load,
    "cogvideox15": cogvideox.load,
    "ltx": ltx.load,
}


def check_name(name: str) -> None:
    """Raise PriorError where `name` is none of LOADERS."""
    if name not in LOADERS:
        raise PriorError(f"unknown prior {name!r}: the priors are {', '.join(LOADERS)}.")


def load_prior(
    name: str, path: str = "", device: str | torch.device = "cpu", dtype: str | torch.dtype = "float32"
) -> Prior:
    """The prior `name`, frozen, on `device`.

    Args:
        name: one of LOADERS.
        path: its diffusers folder; empty: the shipped one, for the prior that ships.
        device: a torch device.
        dtype: precision of the weights: float32, float16 or bfloat16; everything outside the networks is float32.

    Raises:
        PriorError: the name is unknown, or the folder cannot be read.
    """
    check_name(name)
    precision = PRECISIONS.get(dtype) if isinstance(dtype, str) else dtype
    if precision is None or precision not in PRECISIONS.values():
        raise PriorError(f"unknown precision {dtype!r}: expected {', '.join(PRECISIONS)}.")
    try:
        return LOADERS[name](name, path, torch.device(device), precision)
    except torch.OutOfMemoryError as error:
        raise PriorError(
            f"prior '{name}' alone does not fit the GPU's free memory ({reason_of(error)}): try --dtype=float16, end"
            " other programs on the card (nvidia-smi lists them), or take a smaller prior."
        ) from error


__all__ = ["LOADERS", "Conditioning", "Prior", "PriorError", "PriorSpec", "Setup", "Text", "check_name", "load_prior"]
