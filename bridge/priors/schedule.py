"""Discrete noise schedules at continuous times."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import first_line

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


def cosine_table(steps: int = 1000) -> Float[Tensor, "T"]:
    """ᾱ of the cosine schedule (Nichol and Dhariwal 2021, eq. 17), as diffusers' rounds it; float64."""

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - bar((step + 1) / steps) / bar(step / steps), 0.999) for step in range(steps)]
    return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float32), dim=0).double()


def check_table(alphas_cumprod: Float[Tensor, "T"]) -> Float[Tensor, "T"]:
    """The table, if it is one: ᾱ falls from at most 1 to at least 0, in two steps or more; else raises ValueError."""
    falls = len(alphas_cumprod) > 1 and bool((alphas_cumprod.diff() < 0).all())
    if not falls or not 0 <= float(alphas_cumprod[-1]) < float(alphas_cumprod[0]) <= 1:
        raise ValueError(f"the share of the signal must fall from 1 to 0, got {alphas_cumprod[:2].tolist()}, ...")
    return alphas_cumprod


@contextlib.contextmanager
def described(where: Path) -> Iterator[None]:
    """Make a schedule of a folder's numbers.

    Args:
        where: its scheduler's folder or file, for the message.

    Raises:
        PriorError: the numbers are those of no schedule.
    """
    try:
        yield
    except (TypeError, ValueError, NotImplementedError, RuntimeError, ArithmeticError) as error:
        raise PriorError(f"{where} describes no noise schedule ({first_line(str(error))}).") from error


def timesteps(t: PerClip, steps: int) -> PerClip:
    """The (fractional) step that times t stand for, of `steps`, counted as in `alpha_sigma_from_table`."""
    return (t * steps).clamp(0, steps - 1)
