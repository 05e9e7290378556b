"""The optimisation of M motions against a frozen torch critic, read from top to bottom.

One step: draws from JAX keys → PoseFields → skinning → ``op`` (torch, behind `bridge.op`) → dL/dvertices → back through
skinning and PoseFields → optax. This module knows the op only as a JAX function; it imports neither torch nor bridge.
What is optimised is a `Problem`: PoseFields, or in latent mode the latents of a video, which the op judges directly.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from md_jax.config import Config, pair
from md_jax.draws.draw import Draws, draw, drawn_windows, t_range_at
from md_jax.draws.noise import Coherence
from md_jax.files import WriteError
from md_jax.fit.checkpoint import Checkpoints
from md_jax.fit.checks import check_divergence, check_gradient, check_skipped
from md_jax.fit.optimizers import final_params, make_optimizer
from md_jax.fit.problems import CriticLoss, Params, Problem, Terms
from md_jax.outside import interrupts


class TrainState(NamedTuple):
    """Everything that a step changes; every leaf but `step` has the leading axis M."""

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState
    skipped: Int[Array, "M"]  # steps left out because the gradient was not finite
    bad_streak: Int[Array, "M"]  # how many of them in a row up to now


class Report(NamedTuple):
    """What came out of a step, for each motion."""

    terms: dict[str, Float[Array, "M"]]
    shown: Float[Array, "M *x"]  # what the critic judged: vertices (M, F, V, 3) or latents (M, C, f, h, w)


# --- setting up -------------------------------------------------------------------------------------------------


def optimizer_of(config: Config) -> optax.GradientTransformation:
    """The optimiser of one motion."""
    return make_optimizer(
        config.optimizer,
        config.learning_rate,
        steps=config.steps,
        schedule=config.schedule,
        grad_clip=config.grad_clip,
    )


def init_state(config: Config, params: Params) -> TrainState:
    """The state before the first step, on the device where the steps are taken."""
    motions = jax.tree.leaves(params)[0].shape[0]
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=jax.jit(jax.vmap(optimizer_of(config).init))(params),
        skipped=jnp.zeros(motions, jnp.int32),
        bad_streak=jnp.zeros(motions, jnp.int32),
    )
    return committed(state)


def committed(state: TrainState) -> TrainState:
    """The state tied to its device, as the results of a step are: otherwise the second step would compile anew."""
    return jax.device_put(state, jax.devices()[0])


# --- one step ---------------------------------------------------------------------------------------------------


def draws_at(
    config: Config, problem: Problem, motions: int, step: Array, key: Array, coherence: Coherence | None = None
) -> Draws:
    """The draws of one step (of step 0, where --fixed_draws is on).

    Args:
        config, problem: the options and what stays fixed.
        motions: M.
        step: its index.
        key: the problem's.
        coherence: the problem's (the default); in a compiled function an argument, like the key: constants would slow
            compilation.
    """
    step = jnp.zeros_like(step) if config.fixed_draws else step
    fraction = step / max(config.steps - 1, 1)
    return draw(
        key,
        step,
        t_range_at(fraction, pair(config.t_min), pair(config.t_max), config.t_schedule),
        motions=motions,
        views=config.views,
        latent_shape=problem.latent_shape,
        azimuth_ranges=problem.azimuth_ranges,
        elevation_range=problem.elevation_range,
        image=problem.image,
        noise=config.noise,
        coherence=problem.coherence if coherence is None else coherence,
        windows=problem.windows,
        first=config.first_motion,
    )


def starts_at(config: Config, problem: Problem, step: Array, key: Array) -> Int[Array, "M views"] | None:
    """The first frames of a step's windows, as in its draws; None where there are no windows."""
    if problem.windows is None:
        return None
    step = jnp.zeros_like(step) if config.fixed_draws else step
    return drawn_windows(key, step, problem.windows, config.views, config.first_motion)[0]


def make_step(config: Config, problem: Problem, op: CriticLoss) -> Callable[[TrainState], tuple[TrainState, Report]]:
    """The training step, by the transport that the config names.

    `staged` runs jitted forward → torch → jitted backward and update. The second computes poses and bones again: that
    is little, and cheaper than to hand it the pullback, whose residuals hold a copy of the body's large matrices. `jit`
    is one compiled function. Both give the same numbers.
    """
    # arguments: as constants they would slow compilation
    arrays, drawn_from = problem.arrays, (problem.key, problem.coherence)
    parts = _parts_of(config, problem)
    if config.transport == "jit":

        @jax.jit
        def whole(state: TrainState, arrays: Any, key: Array, coherence: Coherence | None) -> tuple[TrainState, Report]:
            (shown, own), pullback = parts.show(state, arrays, key)
            draws = parts.draws(state, key, coherence)
            loss, op_pullback, metrics = jax.vjp(lambda x: op(x, draws), shown, has_aux=True)
            (grad_shown,) = op_pullback(jnp.ones_like(loss))
            state, terms = parts.update(state, pullback, grad_shown, loss, own, metrics)
            return state, Report(terms, shown)

        return lambda state: whole(state, arrays, *drawn_from)

    def staged(state: TrainState) -> tuple[TrainState, Report]:
        shown, drawn = parts.forward(state, arrays, *drawn_from)
        loss, grad_shown, metrics = op.loss_and_grad(shown, drawn)
        state, terms = parts.backward(state, arrays, problem.key, grad_shown, loss, metrics)
        return state, Report(terms, shown)

    return staged


class _Parts(NamedTuple):
    """What surrounds the op in a step: pure functions, and jitted ones made of them."""

    show: Callable[..., Any]
    draws: Callable[..., Draws]
    update: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]


@functools.lru_cache(maxsize=1)
def _parts_of(config: Config, problem: Problem) -> _Parts:
    """The parts of a step. Kept: the control run takes those of the run before, and nothing is traced again."""
    optimizer = optimizer_of(config)
    weights = {"reg": config.reg_weight, "control": config.control_weight}

    def show(state: TrainState, arrays: Any, key: Array) -> tuple[tuple[Array, Terms], Any]:
        start = starts_at(config, problem, state.step, key)
        return jax.vjp(lambda p: problem.show(p, arrays, start), state.params)

    def draws(state: TrainState, key: Array, coherence: Coherence | None) -> Draws:
        return draws_at(config, problem, state.skipped.shape[0], state.step, key, coherence)

    def update(
        state: TrainState, pullback: Any, grad_shown: Array, loss: Array, own: Terms, metrics: dict[str, Array]
    ) -> Any:
        of_own = {name: jnp.full_like(term, weights[name]) for name, term in own.items()}
        (grads,) = pullback((config.distillation_weight * grad_shown, of_own))
        norms = jax.vmap(optax.tree.norm)(grads)
        ok = jnp.isfinite(norms) & jnp.isfinite(loss)

        def keep(new: Array, old: Array) -> Array:
            return jnp.where(ok.reshape(-1, *[1] * (new.ndim - 1)), new, old)

        updates, opt_state = jax.vmap(optimizer.update)(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        state = TrainState(
            step=state.step + 1,
            params=jax.tree.map(keep, params, state.params),
            opt_state=jax.tree.map(keep, opt_state, state.opt_state),
            skipped=state.skipped + ~ok,
            bad_streak=jnp.where(ok, 0, state.bad_streak + 1),
        )
        total = config.distillation_weight * loss
        for name, term in own.items():
            total = total + weights[name] * term
        terms = {f"loss_{name}": term for name, term in own.items()}
        # with an image term the op's loss is a sum, and the metrics tell its parts
        return state, {"loss": total, "loss_sds": loss, **terms, **metrics, "grad_norm": norms}

    @jax.jit
    def forward(state: TrainState, arrays: Any, key: Array, coherence: Coherence | None) -> Any:
        shown, _ = problem.show(state.params, arrays, starts_at(config, problem, state.step, key))
        return shown, draws(state, key, coherence)

    @jax.jit
    def backward(
        state: TrainState, arrays: Any, key: Array, grad_shown: Array, loss: Array, metrics: dict[str, Array]
    ) -> Any:
        (_, own), pullback = show(state, arrays, key)
        return update(state, pullback, grad_shown, loss, own, metrics)

    return _Parts(show, draws, update, forward, backward)


def steps(config: Config, problem: Problem, state: TrainState, op: CriticLoss) -> Iterator[tuple[TrainState, Report]]:
    """Every step from where `state` is up to `config.steps`: no files, no clock, nothing printed.

    Args:
        config, problem: the options and what stays fixed.
        state: from `init_state`, or restored.
        op: the critic's loss.

    Yields:
        The state after each step, and what came out of it; the arrays may still be being computed.
    """
    step, state = make_step(config, problem, op), committed(state)
    for _ in range(int(state.step), config.steps):
        with op.original_errors():
            state, report = step(state)
        yield state, report


# --- the loop ---------------------------------------------------------------------------------------------------


def fit(
    config: Config,
    problem: Problem,
    params: Params,
    op: CriticLoss,
    folder: Path,
    *,
    on_log: Callable[[int, dict[str, Any]], None] = lambda step, line: None,
    on_preview: Callable[[int, Float[Array, "M *x"]], None] | None = None,
    tell: Callable[[str], None] = lambda text: None,
    guided: bool = True,
) -> TrainState:
    """Optimise until `config.steps`, going on from the newest whole checkpoint in `folder` if there is one.

    A resumed run ends where an uninterrupted one would, bit for bit on the same CPU. Ctrl-C and its like save before
    they leave (`md_jax.outside.interrupts`). A checkpoint that cannot be written, as on a full disk, is told, and the
    run goes on to the next. What is returned holds the parameters to use (`optimizers.final_params`), checkpoints those
    that are trained.

    Args:
        config, problem: the options and what stays fixed.
        params: trainable parameters to start from.
        op: the torch loss (bridge.op.torch_loss).
        folder: where `checkpoints/` lies or is made.
        on_log: called with the number of steps done and one line of metrics, each `log_every` steps and at the end.
        on_preview: called with the steps done and the motions as the critic sees them, but always whole, each
            `preview_every` steps; None: there are no previews.
        tell: called with a line about the checkpoint that the run goes on from, or about one that cannot be written.
        guided: whether a gradient of exactly zero is an error: without guidance it may be right.

    Raises:
        DivergedError: a motion's gradient was not finite for `max_bad_steps` steps in a row or in every step, or it is
            exactly zero.
        UserError: there are checkpoints, but none is whole and of this run.
    """
    checkpoints = Checkpoints(folder / "checkpoints")
    begun = state = checkpoints.restore(init_state(config, params), tell)
    done = start = int(begun.step)

    @contextlib.contextmanager
    def telling(what: str) -> Iterator[None]:
        try:
            yield
        except WriteError as error:
            tell(f"{what} is not saved, and the run goes on: {error}")

    logged = True  # whether every line so far is in the log: a checkpoint must not be ahead of it

    def save() -> None:
        with telling(f"step {done}"):
            if logged:
                checkpoints.save(state)

    with interrupts.saving(save):
        since, since_step = time.perf_counter(), done
        for n, (new, report) in enumerate(steps(config, problem, begun, op), start + 1):
            if n == start + 1:
                check_gradient(np.asarray(report.terms["grad_norm"]), guided)
                if n < config.steps and n % config.log_every:  # the first rate told leaves compiling out
                    since, since_step = time.perf_counter(), n
            if n % config.log_every == 0 or n == config.steps:
                line = _line(new, report, (time.perf_counter() - since) / (n - since_step))
                since, since_step = time.perf_counter(), n
                try:
                    on_log(n, line)
                    logged = True
                except WriteError as error:
                    if logged:
                        tell(f"nothing is saved from step {n} on until there is room, and the run goes on: {error}")
                    logged = False
                check_divergence(n, np.asarray(new.bad_streak), config.max_bad_steps)
            state, done = new, n  # only now: what is saved has its line in the log
            if on_preview and config.preview_every and n % config.preview_every == 0:
                with telling(f"the preview of step {n}"):
                    on_preview(n, report.shown if problem.windows is None else problem.whole(new.params))
            if n % config.checkpoint_every == 0 or n == config.steps:
                save()
            interrupts.check()
    check_skipped(done, np.asarray(state.skipped))
    return state._replace(params=final_params(state.opt_state, state.params))


def _line(state: TrainState, report: Report, seconds: float) -> dict[str, Any]:
    """One line of metrics: every term as a list over motions (this reads the values, so it waits for the step)."""
    terms = {name: np.asarray(value).astype(float).round(6).tolist() for name, value in report.terms.items()}
    return {**terms, "skipped": np.asarray(state.skipped).tolist(), "step_seconds": round(seconds, 5)}
