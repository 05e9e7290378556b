"""The draws of a step in torch's own random numbers, for the arms of `benchmarks.step_time` that are torch alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor

from md_jax.config import Config, pair
from md_jax.draws.draw import Draws, t_range_at


def make_draws(
    config: Config, latent_shape: Sequence[int], elevation: tuple[float, float], motions: int, device: str = "cpu"
) -> Callable[[int], Draws]:
    """Draws of a step in torch's own random numbers, distributed as `md_jax.draws.draw.draw`, cameras on the circle.

    `config` gives views, t ranges and seed; `latent_shape` is (C, f, h, w), `elevation` radians, low and high.
    """
    generator = torch.Generator(device).manual_seed(config.seed)
    views, clips = config.views, motions * config.views
    fractions = jnp.arange(config.steps) / max(config.steps - 1, 1)
    ranges = t_range_at(fractions, pair(config.t_min), pair(config.t_max), config.t_schedule)
    t_low, t_high = (np.broadcast_to(np.asarray(end), fractions.shape).tolist() for end in ranges)
    spacing = torch.arange(views, device=device) / views

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, device=device)

    def noise() -> Tensor:
        return torch.randn(clips, *latent_shape, generator=generator, device=device)

    of_run = noise() if config.noise == "fixed" else None

    def draw(step: int) -> Draws:
        turn = (uniform(0, 1, motions, 1) + spacing) % 1
        tensors: dict[str, Any] = {
            "azimuth": (math.pi * (2 * turn - 1)).flatten(),
            "elevation": uniform(*elevation, clips),
            "t": uniform(t_low[step], t_high[step], clips),
            "noise": noise() if of_run is None else of_run,
        }
        return Draws(**tensors, frames=None)

    return draw
