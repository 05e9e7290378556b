"""The learning rate of the embedded prior's trainers: a warm-up, then a cosine down to little."""

from __future__ import annotations

import math

LOWEST = 0.02  # of the full rate, at the end


def share(step: int, done: float, warm_up: int) -> float:
    """Of the full learning rate, at a step.

    Args:
        step: from 0 on.
        done: share of the training that is over.
        warm_up: steps until the rate is full.
    """
    return min(1.0, (step + 1) / warm_up) * (LOWEST + (1 - LOWEST) * 0.5 * (1 + math.cos(math.pi * done)))
