"""Optax optimisers by name, with gradient clipping and a learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import optax
from optax import contrib

from md_jax.errors import UserError

Rate = Callable[[Any], Any]  # step -> learning rate

# Defaults are optax's unless a comment says why not. The head of a PoseField starts at zero: what scales its steps with
# the size of the parameters would never leave it.
OPTIMIZERS: dict[str, Callable[[Rate], optax.GradientTransformation]] = {
    # Adam and its kin
    "adam": optax.adam,
    "adam_paper": lambda rate: optax.adam(rate, b1=0.9, b2=0.99, eps=1e-15),  # Janson et al.'s code
    "adamw": optax.adamw,
    "adabelief": optax.adabelief,
    "adamax": optax.adamax,
    "adan": optax.adan,
    "ademamix": contrib.ademamix,
    "adopt": contrib.adopt,
    "amsgrad": optax.amsgrad,
    "lamb": optax.lamb,
    "nadam": optax.nadam,
    "nadamw": optax.nadamw,
    "novograd": optax.novograd,
    "optimistic_adam": optax.optimistic_adam_v2,
    "radam": optax.radam,
    "simplified_ademamix": contrib.simplified_ademamix,
    "yogi": optax.yogi,
    # Signs, root mean squares, sums of squares
    "acprop": contrib.acprop,
    "adadelta": optax.adadelta,
    "adafactor": lambda rate: optax.adafactor(rate, multiply_by_parameter_scale=False, min_dim_size_to_factor=16),
    "adagrad": lambda rate: optax.adagrad(rate, initial_accumulator_value=0.0),  # 0.1 would drown these gradients
    "lion": optax.lion,
    "madgrad": contrib.madgrad,
    "rmsprop": optax.rmsprop,
    "sign_sgd": optax.sign_sgd,
    "signum": optax.signum,
    "sm3": lambda rate: optax.chain(
        optax.scale_by_sm3(0.9), optax.scale_by_learning_rate(rate)
    ),  # optax.sm3: no schedule
    # Plain directions
    "fromage": lambda rate: optax.fromage(rate, min_norm=0.1),
    "lars": optax.lars,
    # Adam, at the same learning rate, where a parameter is no matrix; hence steps of Adam's size (Liu et al. 2025)
    "muon": lambda rate: contrib.muon(rate, consistent_rms=0.2),
    "sgd": lambda rate: optax.sgd(rate, momentum=0.9),
    "optimistic_gradient_descent": optax.optimistic_gradient_descent,
    # The result is an average of the steps: see `final_params`
    "schedule_free": contrib.schedule_free_adamw,
    "schedule_free_sgd": contrib.schedule_free_sgd,
    # Those that find their own step: the learning rate is a factor of it, 1 by design
    "cocob": contrib.cocob,
    "dadapt_adamw": contrib.dadapt_adamw,
    "dog": contrib.dog,
    "dowg": contrib.dowg,
    "mechanic": lambda rate: contrib.mechanize(optax.adam(rate), weight_decay=0.0),  # adam at a rate that it scales
    "prodigy": contrib.prodigy,
}

_NO_LOSS = "it steps by the value of the loss, and score distillation has a gradient without one"
REFUSED: dict[str, str] = {
    "adamaxw": "it is adamax with weight decay, and a PoseField is bounded already: take adamax",
    "backtracking_linesearch": "a line search compares losses, and each evaluation here has its own noise",
    "dpsgd": "it needs the gradient of each example, and there are no examples",
    "galore": "it projects large matrices to rank 128, and a PoseField has none",
    "lbfgs": "its line search compares losses, and each evaluation here has its own noise",
    "lookahead": "it keeps two sets of parameters; schedule_free averages within one",
    "momo": _NO_LOSS,
    "momo_adam": _NO_LOSS,
    "noisy_sgd": "it adds noise to the gradient, and this gradient is noise enough",
    "polyak_sgd": _NO_LOSS,
    "reduce_on_plateau": _NO_LOSS,
    "rprop": "it compares the signs of successive gradients, which must be exact for that",
    "sam": "it needs a second gradient at a displaced point under the same noise, a second run of the prior a step",
    "sophia": "it needs the Hessian's diagonal, and the prior gives no second derivatives",
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
        UserError: the name is not known, or one that cannot work here.
    """
    if name in REFUSED:
        raise UserError(f"--optimizer={name} cannot be used here: {REFUSED[name]}.")
    if name not in OPTIMIZERS:
        raise UserError(f"unknown --optimizer={name!r}; known: {', '.join(sorted(OPTIMIZERS))}.")
    rate: Rate = {
        "constant": optax.constant_schedule(learning_rate),
        "cosine": optax.cosine_decay_schedule(learning_rate, steps, alpha=0.01),
        "linear": optax.linear_schedule(learning_rate, 0.01 * learning_rate, steps),
    }[schedule]
    clip = optax.clip_by_global_norm(grad_clip) if grad_clip > 0 else optax.identity()
    return optax.chain(clip, OPTIMIZERS[name](rate))


def final_params(opt_state: Any, params: Any) -> Any:
    """The parameters to use once training is over: the averaged ones of a schedule-free optimiser, else `params`.

    Checkpoints hold the trained parameters; this is for what is made of them.

    Args:
        opt_state, params: of M motions, each leaf with the leading axis M.

    Source: Defazio et al. 2024, The Road Less Scheduled, eq. 3: x = (y − (1 − β) z) / β.
    """
    is_averaging = lambda node: isinstance(node, contrib.ScheduleFreeState)  # noqa: E731
    states = [node for node in jax.tree.leaves(opt_state, is_leaf=is_averaging) if is_averaging(node)]
    if not states:
        return params
    return jax.vmap(contrib.schedule_free_eval_params)(states[0], params)
