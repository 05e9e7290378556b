"""What the flags say about the machine: how priors are run, how much is done at once, which rasteriser draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from md_jax.body.model import Body
from md_jax.config import Config


def tune_prior(prior: Any, config: Config, device: str) -> None:
    """Run a prior as the flags say; the numbers stay the same up to rounding.

    Args:
        prior: just loaded (`bridge.priors.load_prior`).
        config: `compile` and `low_vram` are read.
        device: "cpu" or "cuda".
    """
    from bridge.priors.tuning import Tuning, tune

    tune(prior, Tuning(channels_last=device == "cuda", compile=config.compile, sparing=config.low_vram))


def amounts(config: Config) -> tuple[int, int]:
    """How much a step does at once: (clips judged, frames encoded for the gradient; 0: all)."""
    if config.low_vram:
        return 1, config.encode_chunk or 1
    return config.prior_batch, config.encode_chunk


def choose_renderer(config: Config, device: str, body: Body, mesh: Any, height: int, width: int) -> str:
    """The rasteriser of a run; "auto" times those that are there on this body and picture.

    Args:
        config: `renderer`, `antialias` and `supersample` are read.
        device: "cpu" or "cuda".
        body: its rest pose is drawn for the timing.
        mesh: of the body, on the device (`bridge.render.mesh.make_mesh`).
        height, width: of the picture in pixels.

    Raises:
        bridge.errors.BridgeError: what is asked for is not there, or does not go together.
    """
    from bridge.render.choice import choose, picture_seconds

    vertices = np.asarray(body.v_template)

    def seconds(backend: str) -> float:
        return picture_seconds(backend, mesh, vertices, height, width, config.supersample)

    return choose(config.renderer, config.antialias, device, seconds)
