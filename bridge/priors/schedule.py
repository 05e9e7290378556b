"""Discrete noise schedules at continuous times."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

PerClip = Float[Tensor, "N"]


def alpha_sigma_from_table(t: PerClip, alphas_cumprod: Float[Tensor, "T"]) -> tuple[PerClip, PerClip]:
    """(α, σ) of a discrete variance-preserving schedule at continuous times.

    Step i of T stands at t = i/T; between two steps α is linear, which stays finite for a zero terminal SNR.

    Args:
        t: diffusion times in (0, 1).
        alphas_cumprod: ᾱ of the T steps.
    """
    table = alphas_cumprod.double().sqrt()
    position = (t.double() * len(table)).clamp(0, len(table) - 1)
    low = position.floor().long().clamp(max=len(table) - 2)
    alpha = torch.lerp(table[low], table[low + 1], position - low)
    return alpha.to(t.dtype), (1 - alpha.square()).clamp(min=0).sqrt().to(t.dtype)


def timesteps(t: PerClip, steps: int) -> PerClip:
    """The (fractional) step that times t stand for, of `steps`, counted as in `alpha_sigma_from_table`."""
    return (t * steps).clamp(0, steps - 1)
