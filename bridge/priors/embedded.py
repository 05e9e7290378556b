"""The small prior that ships with the project: an ordinary diffusers folder, trained by tools/train_prior.py."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from bridge.priors.diffusers_folder import Parts, load_parts
from bridge.priors.folder_prior import FolderPrior
from bridge.priors.spec import PriorError, PriorSpec

# bridge imports no md_jax; the two packages are always installed side by side
SHIPPED = Path(__file__).resolve().parents[2] / "md_jax" / "assets" / "prior"


def load(path: str, device: torch.device, dtype: torch.dtype) -> FolderPrior:
    """The prior in the folder `path`, or the shipped one where `path` is empty.

    Raises:
        PriorError: the folder is missing, damaged, or states no frames, size or camera.
    """
    folder = Path(path) if path else SHIPPED
    parts = load_parts(folder, device, dtype)
    return FolderPrior(spec_of(parts, folder, str(dtype).removeprefix("torch.")), parts, device)


def spec_of(parts: Parts, folder: Path, dtype: str) -> PriorSpec:
    """The PriorSpec that a folder's prior.json states (angles there are in degrees)."""
    settings = parts.settings
    latents: dict[str, Any] = {"latent_channels": 3}
    if parts.vae is not None:  # whole frames as vectors (bridge.priors.eigenframes)
        latents = {"latent_channels": parts.vae.config.components, "pixel_stride": int(settings.get("height", 1))}
    try:
        low, high = settings["elevation"]
        red, green, blue = settings["background"]
        return PriorSpec(
            name="embedded",
            kind="video",
            prediction=parts.prediction,  # type: ignore[arg-type]
            frames=int(settings["frames"]),
            fps=float(settings["fps"]),
            height=int(settings["height"]),
            width=int(settings["width"]),
            **latents,
            fixed_frames=True,
            fixed_size=True,
            t_min=float(settings["t_min"]),
            t_max=float(settings["t_max"]),
            guidance_scale=float(settings["guidance_scale"]),
            elevation=(math.radians(low), math.radians(high)),
            fov=math.radians(settings["fov"]),
            distance=float(settings["distance"]),
            background=(float(red), float(green), float(blue)),
            dtype=dtype,
            licence=str(settings["licence"]),
            origin=str(folder),
            actions=tuple(parts.vocabulary),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PriorError(f"{folder / 'prior.json'} is incomplete ({type(error).__name__}: {error}).") from error
