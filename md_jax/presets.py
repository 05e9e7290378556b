"""Values for the options that are not given: the prior's own, and above them those of a --preset."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from md_jax.errors import UserError

if TYPE_CHECKING:
    from bridge.recipes import Camera

# Where the paper's method (Janson et al. 2024, sec. 4) is not the defaults of `bridge.recipes.Recipe`: its own clip.
_METHOD: dict[str, Any] = {"distillation": "sds", "bound_sigma": 3.0, "frames": 10, "fps": 8.0}
# What a prior needs of a machine, and the size of its pictures, are no matter of method.
_PRIORS_OWN = ("height", "width", "azimuths", "prior_batch", "encode_chunk", "dtype")

# As the first author's public code has it. What we do not follow: it trains the texture as well (ours is fixed, as the
# paper prints), smooths all 55 joints (21 move), and takes its cameras from a hundred places on the circle (ours: any).
_PAPER: dict[str, Any] = {
    "prompt": "a shot of {view} view of a man walking in the beach, full-body",
    "negative_prompt": "low motion, static statue, not moving, no motion",  # the code's own is not known
    # two frames a step for Stable Diffusion 2.1
    "image_prior": "sd21",
    "image_frames": 2,
    "image_weight": 1e-3,
    "image_guidance_scale": 100.0,
    "image_weighting": "sqrt_abar_sigma2",
    # poses in 6D, clamped; a network of the raw frame index
    "rotation": "6d",
    "bound": "clamp",
    "posefield": "paper",
    # radius 1.3 of a body scaled to a size of 1: ours is 1.7 m tall
    "distance": 2.2,
    "fov": 50.0,
    "elevation": (15.0,),
    "background": (0.95, 0.95, 0.95),
    "supersample": 2,
    "optimizer": "adam_paper",
    "schedule": "constant",
    "grad_clip": 0.0,
}

# ε_c + s(ε_c - ε_u) is guidance with s + 1.
_PAPER_VIDEOCRAFTER2: dict[str, Any] = {"guidance_scale": 101.0, "motion_amp": 2.0, "scale_arr": False}
_NVDIFFRAST: dict[str, Any] = {"renderer": "nvdiffrast", "antialias": "nvdiffrast"}


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Raise what the torch side says to the user (`bridge.errors.BridgeError`) as UserError, with the same text."""
    from bridge.errors import BridgeError

    try:
        yield
    except BridgeError as error:
        raise UserError(str(error)) from error


@functools.lru_cache
def own_values(prior: str, mode: str | None = None, path: str = "") -> dict[str, Any]:
    """What a prior wants (`bridge.recipes.Recipe`) in a mode (None: its own), by the name of the option.

    Raises:
        UserError: there is no such video prior, or its folder's recipe cannot be read.
    """
    from bridge.recipes import recipe_of

    with user_errors():
        return dataclasses.asdict(recipe_of(prior, mode or "", path))


def clip_seconds(prior: str, path: str = "", frames: int | None = None, fps: float | None = None) -> float | None:
    """Seconds from the first frame of a prior's clip to the first of the next; None: only the loaded prior knows.

    Args:
        prior, path: as in --prior and --prior_path.
        frames, fps: of the clip, where they are given.

    Raises:
        UserError: there is no such video prior, or its folder's recipe cannot be read.
    """
    from bridge.recipes import clip_of

    with user_errors():
        own_frames, own_fps = clip_of(prior, path)
    frames, fps = frames or own_frames, fps or own_fps
    return frames / fps if frames and fps else None


def camera_of(prior: str, path: str = "") -> Camera | None:
    """The camera that a prior wants (`bridge.recipes.camera_of`), before it is loaded.

    Raises:
        UserError: there is no such video prior, or its folder's recipe cannot be read.
    """
    from bridge import recipes

    with user_errors():
        return recipes.camera_of(prior, path)


def preset_values(preset: str, prior: str) -> dict[str, Any]:
    """The values of a preset by the name of their flag.

    Args:
        preset: "none", "paper" (the published code, quirks included; pure nvdiffrast where that is installed) or
            "corrected" (the paper's method with everything else as we have it).
        prior: the video prior, since the published code treats VideoCrafter 2 its own way.
    """
    if preset == "none":
        return {}
    from bridge.recipes import Recipe

    method = {name: value for name, value in dataclasses.asdict(Recipe()).items() if name not in _PRIORS_OWN} | _METHOD
    if preset == "corrected":
        return method
    values = method | _PAPER
    if prior == "videocrafter2":
        values |= _PAPER_VIDEOCRAFTER2
    if nvdiffrast_installed():
        values |= _NVDIFFRAST
    return values


def nvdiffrast_installed() -> bool:
    """Whether the package is there; that it works on this machine is seen when it is used."""
    return importlib.util.find_spec("nvdiffrast") is not None
