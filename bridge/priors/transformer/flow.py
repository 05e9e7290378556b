"""The schedules of flow models: z_t = (1 - σ) z + σ ε, and a model that predicts ε - z.

A diffusion time t in (0, 1) stands for σ = s t / (1 + (s - 1) t): the shift s leads uniform times to where sampling
and training spend theirs, the more so the more latents a clip has (Esser et al. 2024, eq. 23). Models are told 1000 σ.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import PriorError

LARGEST = "max_image_seq_len"
SIZES = {"base_image_seq_len": 256, LARGEST: 4096}  # what FlowMatchEulerDiscreteScheduler takes where none is stated


def shifted(t: Float[Tensor, "N"], shift: float) -> Float[Tensor, "N"]:
    """σ at times t."""
    return shift * t / (1 + (shift - 1) * t)


def alpha_sigma(t: Float[Tensor, "N"], shift: float) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
    """(α, σ) at times t: α + σ = 1."""
    sigma = shifted(t, shift)
    return 1 - sigma, sigma


def timesteps(t: Float[Tensor, "N"], shift: float, schedule: dict[str, Any]) -> Float[Tensor, "N"]:
    """What the model is told of times t: σ in the steps of its training, computed in float64.

    A thousand steps go into sines, which show each rounding of the way there: 6e-5 of a step is 1e-5 of a prediction.
    """
    return (shifted(t.double(), shift) * schedule.get("num_train_timesteps", 1000)).to(t.dtype)


def shift_of(schedule: dict[str, Any], folder: Path, latents: int | None = None) -> float:
    """The shift s that a scheduler_config.json asks for.

    Args:
        schedule: a FlowMatchEulerDiscreteScheduler's config, or that of a solver that is set to flows.
        folder: for messages.
        latents: places of a clip (f·h·w in patches), for a family whose shift may depend on it.

    Raises:
        PriorError: the scheduler is not one of a flow model, or its shift depends on what the family's does not.
    """
    name = schedule.get("_class_name", "")
    solver = schedule.get("use_flow_sigmas") and schedule.get("prediction_type") == "flow_prediction"
    if name != "FlowMatchEulerDiscreteScheduler" and not solver:
        raise PriorError(
            f"{folder / 'scheduler'} describes no flow ({name or 'no class'}, prediction_type"
            f" {schedule.get('prediction_type')!r}): expected FlowMatchEulerDiscreteScheduler, or use_flow_sigmas"
            " and flow_prediction."
        )
    _positive(schedule, "num_train_timesteps", 1000, folder)
    if not schedule.get("use_dynamic_shifting"):
        return _positive(schedule, "shift" if name == "FlowMatchEulerDiscreteScheduler" else "flow_shift", 1.0, folder)
    if latents is None:
        raise PriorError(
            f"{folder / 'scheduler'} shifts times by the size of the clip (use_dynamic_shifting): expected one shift."
        )
    least, most = (_positive(schedule, *size, folder) for size in SIZES.items())
    low, high = (_positive(schedule, *shift, folder) for shift in (("base_shift", 0.5), ("max_shift", 1.15)))
    if least == most:
        raise PriorError(f"{folder / 'scheduler'} states its shift for one size alone ({least:g}): expected two.")
    mu = low + (high - low) * (latents - least) / (most - least)
    return mu if schedule.get("time_shift_type") == "linear" else math.exp(mu)


def most_latents(schedule: dict[str, Any]) -> int:
    """The most latents of a clip for which a scheduler_config.json states its shift."""
    return int(schedule.get(LARGEST, SIZES[LARGEST]))


def _positive(schedule: dict[str, Any], key: str, default: float, folder: Path) -> float:
    value = schedule.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise PriorError(f"{folder / 'scheduler'} has {key}={value!r}: expected a number above 0.")
    return float(value)
