"""The small prior that ships with the project: an ordinary diffusers folder, trained by tools/train_prior.py."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from bridge.priors.base import FolderPrior
from bridge.priors.folder import Parts, load_parts
from bridge.priors.spec import PriorError, PriorSpec, precision_name

# bridge imports no md_jax; the two packages are always installed side by side
SHIPPED = Path(__file__).resolve().parent / "assets"


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> FolderPrior:
    """The prior in the folder `path`, or the shipped one where `path` is empty.

    Raises:
        PriorError: the folder is missing, damaged, or states no frames, size or camera.
    """
    folder = Path(path) if path else SHIPPED
    parts = load_parts(folder, device, dtype)
    return FolderPrior(spec_of(name, parts, folder, precision_name(dtype)), parts, device)


def spec_of(name: str, parts: Parts, folder: Path, dtype: str) -> PriorSpec:
    """The PriorSpec that a folder's prior.json states (angles there are in degrees)."""
    settings = parts.settings
    try:
        low, high = settings["elevation"]
        red, green, blue = settings["background"]
        return PriorSpec(
            name=name,
            kind="video",
            prediction=parts.prediction,  # type: ignore[arg-type]
            frames=int(settings["frames"]),
            fps=float(settings["fps"]),
            height=int(settings["height"]),
            width=int(settings["width"]),
            latent_channels=3,
            fixed_frames=True,
            fixed_size=True,
            elevation=(math.radians(low), math.radians(high)),
            fov=math.radians(settings["fov"]),
            distance=float(settings["distance"]),
            background=(float(red), float(green), float(blue)),
            dtype=dtype,
            licence=str(settings["licence"]),
            origin=str(folder),
            actions=parts.actions,
            repeats=_repeats(settings.get("repeats")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PriorError(f"{folder / 'prior.json'} is incomplete ({type(error).__name__}: {error}).") from error


def _repeats(stated: object) -> dict[str, float] | None:
    """The repeats of actions (`PriorSpec.repeats`) as prior.json states them."""
    if stated is None:
        return None
    if not isinstance(stated, dict) or not all(isinstance(x, int | float) and 0 < x < 60 for x in stated.values()):
        raise ValueError(f'"repeats" must hold seconds by action, found {str(stated)[:60]}')
    return {str(action): float(seconds) for action, seconds in stated.items()}
