"""Optax optimisers by name, with gradient clipping and a learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable

import optax

from md_jax.errors import UserError

# Adam's defaults stay optax's; the paper's code uses betas (0.9, 0.99), eps 1e-15 (its preset sets them).
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "adabelief": optax.adabelief,
    "adan": optax.adan,
    "lamb": optax.lamb,
    "lion": optax.lion,
    "nadam": optax.nadam,
    "radam": optax.radam,
    "rmsprop": optax.rmsprop,
    "sgd": lambda learning_rate: optax.sgd(learning_rate, momentum=0.9),
    "yogi": optax.yogi,
}


def make_optimizer(
    name: str, learning_rate: float, *, steps: int, schedule: str = "constant", grad_clip: float = 0.0
) -> optax.GradientTransformation:
    """The optimiser of one motion (the trainer maps it over M, so clipping is per motion).

    Args:
        name: a key of OPTIMIZERS.
        learning_rate: peak learning rate.
        steps: length of the schedule.
        schedule: constant, cosine (to 1 %) or linear (to 1 %).
        grad_clip: maximal gradient norm; 0 = no clipping.

    Raises:
        UserError: the name is not known.
    """
    if name not in OPTIMIZERS:
        raise UserError(f"unknown --optimizer={name!r}; known: {', '.join(sorted(OPTIMIZERS))}.")
    rate: optax.ScalarOrSchedule = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, steps, alpha=0.01),
        "linear": optax.linear_schedule(learning_rate, 0.01 * learning_rate, steps),
    }[schedule]
    clip = optax.clip_by_global_norm(grad_clip) if grad_clip > 0 else optax.identity()
    return optax.chain(clip, OPTIMIZERS[name](rate))
