"""The optimisation of M motions against a frozen torch teacher, read from top to bottom.

One step: draws from JAX keys → PoseFields → skinning → ``op`` (torch, behind `bridge.op`) → dL/dvertices → back through
skinning and PoseFields → optax. This module knows the op only as a JAX function; it imports neither torch nor bridge.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from md_jax import lbs, losses, posefield
from md_jax.checkpoint import Checkpoints
from md_jax.config import Config, pair
from md_jax.draws import Draws, draw, t_range_at
from md_jax.errors import DivergedError
from md_jax.optimizers import make_optimizer
from md_jax.statistics import PoseStatistics


class TorchLoss(Protocol):
    """What `bridge.op.torch_loss` returns; see there."""

    fn: Any

    @property
    def traffic(self) -> Any: ...

    def __call__(self, verts: Any, draws: Draws) -> tuple[Any, dict[str, Any]]: ...

    def loss_and_grad(self, verts: Any, draws: Draws) -> tuple[Any, Any, dict[str, Any]]: ...

    def original_errors(self) -> AbstractContextManager[None]: ...


class TrainState(NamedTuple):
    """Everything that a step changes; every leaf but `step` has the leading axis M."""

    step: Int[Array, ""]
    params: Any  # trainable PoseField parameters
    opt_state: Any
    skipped: Int[Array, "M"]  # steps left out because the gradient was not finite
    bad_streak: Int[Array, "M"]  # how many of them in a row up to now


class Report(NamedTuple):
    """What a step tells: every value per motion."""

    terms: dict[str, Float[Array, "M"]]
    verts: Float[Array, "M F V 3"]


@dataclasses.dataclass(frozen=True)
class Problem:
    """What stays fixed during a run."""

    fields: posefield.Fields
    baked: lbs.BakedBody
    key: Array
    latent_shape: tuple[int, int, int, int]  # (C, f, h, w) of the prior
    azimuth_ranges: list[list[tuple[float, float]]]  # per motion, radians
    elevation_range: tuple[float, float]  # radians


# --- setting up -------------------------------------------------------------------------------------------------


def make_fields(config: Config, statistics: list[PoseStatistics], frames: int) -> tuple[posefield.Fields, Any]:
    """The M PoseFields and their trainable parameters, at the mean poses of `statistics`."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(config.seed), jnp.arange(len(statistics)))
    return posefield.init_fields(
        statistics,
        keys,
        frames=frames,
        root=config.root,
        rotation=config.rotation,
        bound=config.bound,
        bound_sigma=config.bound_sigma,
        frequencies=posefield.octaves(config.frequencies),
    )


def optimizer_of(config: Config) -> optax.GradientTransformation:
    """The optimiser of one motion."""
    return make_optimizer(
        config.optimizer,
        config.learning_rate,
        steps=config.steps,
        schedule=config.schedule,
        grad_clip=config.grad_clip,
    )


def init_state(config: Config, params: Any) -> TrainState:
    """The state before the first step."""
    motions = jax.tree.leaves(params)[0].shape[0]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=jax.vmap(optimizer_of(config).init)(params),
        skipped=jnp.zeros(motions, jnp.int32),
        bad_streak=jnp.zeros(motions, jnp.int32),
    )


def vertices_of(fields: posefield.Fields, params: Any, baked: lbs.BakedBody) -> Float[Array, "M F V 3"]:
    """Posed vertices of every motion, in metres."""
    pose = posefield.poses(fields, params)
    return lbs.pose(baked, pose.body, pose.root, pose.transl)


# --- one step ---------------------------------------------------------------------------------------------------


def make_step(config: Config, problem: Problem, op: TorchLoss) -> Callable[[TrainState], tuple[TrainState, Report]]:
    """The training step, by the transport that the config names.

    `staged` runs jitted forward → torch → jitted backward and update; the pullback crosses between the two jits as a
    pytree, so nothing is computed twice. `jit` is one compiled function. Both give the same numbers.
    """
    optimizer = optimizer_of(config)
    arrays = (
        problem.fields,
        problem.baked,
        problem.key,
    )  # arguments: as constants they would slow compilation

    def draws_at(state: TrainState, key: Array) -> Draws:
        fraction = state.step / max(config.steps - 1, 1)
        return draw(
            key,
            state.step,
            t_range_at(fraction, pair(config.t_min), pair(config.t_max), config.t_schedule),
            motions=state.skipped.shape[0],
            views=config.views,
            latent_shape=problem.latent_shape,
            azimuth_ranges=problem.azimuth_ranges,
            elevation_range=problem.elevation_range,
        )

    def body_and_smoothness(params: Any, fields: posefield.Fields, baked: lbs.BakedBody) -> tuple[Array, Array]:
        return vertices_of(fields, params, baked), losses.smoothness(posefield.apply_fields(fields, params))

    def update(state: TrainState, pullback: Any, grad_verts: Array, terms: dict[str, Array]) -> Any:
        reg_grad = jnp.full_like(terms["loss_reg"], config.reg_weight)
        (grads,) = pullback((config.sds_weight * grad_verts, reg_grad))
        norms = jax.vmap(optax.tree.norm)(grads)
        ok = jnp.isfinite(norms) & jnp.isfinite(terms["loss_sds"])

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
        total = config.sds_weight * terms["loss_sds"] + config.reg_weight * terms["loss_reg"]
        return state, {"loss": total, **terms, "grad_norm": norms}

    if config.transport == "jit":

        @jax.jit
        def whole(state: TrainState, fields: Any, baked: Any, key: Array) -> tuple[TrainState, Report]:
            (verts, reg), pullback = jax.vjp(lambda p: body_and_smoothness(p, fields, baked), state.params)
            loss, op_pullback, metrics = jax.vjp(lambda v: op(v, draws_at(state, key)), verts, has_aux=True)
            (grad_verts,) = op_pullback(jnp.ones_like(loss))
            state, terms = update(state, pullback, grad_verts, {"loss_sds": loss, "loss_reg": reg, **metrics})
            return state, Report(terms, verts)

        return lambda state: whole(state, *arrays)

    @jax.jit
    def forward(state: TrainState, fields: Any, baked: Any, key: Array) -> Any:
        (verts, reg), pullback = jax.vjp(lambda p: body_and_smoothness(p, fields, baked), state.params)
        return verts, reg, pullback, draws_at(state, key)

    backward = jax.jit(update)

    def staged(state: TrainState) -> tuple[TrainState, Report]:
        verts, reg, pullback, draws = forward(state, *arrays)
        loss, grad_verts, metrics = op.loss_and_grad(verts, draws)
        state, terms = backward(state, pullback, grad_verts, {"loss_sds": loss, "loss_reg": reg, **metrics})
        return state, Report(terms, verts)

    return staged


# --- the loop ---------------------------------------------------------------------------------------------------


def fit(
    config: Config,
    problem: Problem,
    params: Any,
    op: TorchLoss,
    folder: Path,
    *,
    on_log: Callable[[int, dict[str, Any]], None] = lambda step, line: None,
    on_preview: Callable[[int, Float[Array, "M F V 3"]], None] = lambda step, verts: None,
) -> TrainState:
    """Optimise until `config.steps`, going on from the newest checkpoint in `folder` if there is one.

    A resumed run ends where an uninterrupted one would, bit for bit on the same CPU. Ctrl-C saves before it leaves.

    Args:
        config, problem: the options and what stays fixed.
        params: trainable PoseField parameters to start from.
        op: the torch loss (bridge.op.torch_loss).
        folder: where `checkpoints/` lies or is made.
        on_log: called with the number of steps done and one line of metrics, each `log_every` steps and at the end.
        on_preview: called with the steps done and the vertices, each `preview_every` steps.

    Raises:
        DivergedError: a motion's gradient was not finite for `max_bad_steps` steps in a row.
        UserError: the checkpoints cannot be read or written.
    """
    step_fn = make_step(config, problem, op)
    checkpoints = Checkpoints(folder / "checkpoints")
    state = checkpoints.restore(init_state(config, params))
    # Gradients come back from torch committed to their device; uncommitted parameters would make step 2 compile anew.
    state = jax.device_put(state, jax.devices()[0])
    done = int(state.step)
    try:
        since, since_step = time.perf_counter(), done
        while done < config.steps:
            with op.original_errors():
                state, report = step_fn(state)
            done += 1
            if done % config.log_every == 0 or done == config.steps:
                line = _line(state, report, (time.perf_counter() - since) / (done - since_step))
                since, since_step = time.perf_counter(), done
                on_log(done, line)
                _check_divergence(config, done, state)
            if config.preview_every and done % config.preview_every == 0:
                on_preview(done, report.verts)
            if done % config.checkpoint_every == 0 or done == config.steps:
                checkpoints.save(state)
    except KeyboardInterrupt:
        checkpoints.save(state)
        raise
    finally:
        checkpoints.close()
    return state


def _line(state: TrainState, report: Report, seconds: float) -> dict[str, Any]:
    """One line of metrics: every term as a list over motions (this reads the values, so it waits for the step)."""
    terms = {name: np.asarray(value).astype(float).round(6).tolist() for name, value in report.terms.items()}
    return {**terms, "skipped": np.asarray(state.skipped).tolist(), "step_seconds": round(seconds, 5)}


def _check_divergence(config: Config, done: int, state: TrainState) -> None:
    worst = int(jnp.max(state.bad_streak))
    if worst >= config.max_bad_steps:
        raise DivergedError(
            f"the gradient of motion {int(jnp.argmax(state.bad_streak))} was NaN or infinite for {worst} steps in a row"
            f" (up to step {done}). The last good parameters are in the checkpoint; try a lower --learning_rate or"
            " --guidance_scale, or --dtype=float32."
        )
