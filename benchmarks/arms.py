"""The arms of the step benchmarks: one training step by JAX or by PyTorch, whole and taken apart.

Every arm gets the same body, PoseFields, renderer and prior from `md_jax.run.build.make_job`, and makes its own random
numbers inside the step. Three cases:

- `kernel`: PoseFields, skinning, losses and optimiser; dL/dvertices is given, so neither renderer nor prior runs.
- `null`:   the renderer as well, and `benchmarks.priors.NullPrior`: the step without the prior.
- `full`:   everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax import Array

from benchmarks import priors, torch_baseline, torch_draws
from bridge.critic import Critic, FunctionCritic, Judgement, Stopwatch
from bridge.exchange import ACCOUNT
from bridge.op import TorchLoss, torch_loss
from md_jax.body.model import FREE_BODY
from md_jax.config import Config
from md_jax.draws.draw import Draws
from md_jax.fit import train
from md_jax.fit.problems import PoseProblem
from md_jax.run.build import Job, make_job

CASES = ("kernel", "null", "full")
PARTS = ("pose + LBS", "render", "encode", "UNet", "optimiser", "bridge", "rest")
CRITIC_PARTS = {"render": "render", "render_backward": "render", "encode": "encode", "predict": "UNet"}


class Arm(NamedTuple):
    """One way to take a training step."""

    step: Callable[[], Any]  # one step; returns once it is done
    apart: Callable[[], dict[str, float]]  # one step with waits between its parts: the seconds of each


def make_setup(case: str, config: Config) -> Job:
    """The job of a case; `config.prior` is the full prior.

    Raises:
        UserError, BridgeError: as `md_jax.run.build.make_job`.
    """
    priors.register(size_of=config.prior)
    if case != "full":  # the same clip, and a residual that is not zero
        config = dataclasses.replace(config, prior=priors.NULL, distillation="sds", guidance_scale=1.0)
    job = make_job(config)
    if case == "kernel":
        assert isinstance(job.problem, PoseProblem)
        tiny = dataclasses.replace(job.problem, latent_shape=(1, 1, 1, 1))
        shape = (len(job.prompts), job.problem.fields.frames, len(job.surface.vertices), 3)
        grad = jax.device_put(np.random.default_rng(0).normal(size=shape).astype(np.float32), jax.devices()[0])
        given: Any = GivenGradient(grad, job.device)
        job = dataclasses.replace(job, problem=tiny, op=given)
    return job


def critic_of(job: Job) -> Critic:
    """The torch function behind a job's loss."""
    assert isinstance(job.op, TorchLoss | GivenGradient)
    return job.op.critic


class GivenGradient:
    """Stands for `bridge.op.TorchLoss`: the loss ⟨verts, g⟩ for a given g, in JAX and, as `critic`, in torch."""

    original_errors = staticmethod(contextlib.nullcontext)
    traffic = ACCOUNT  # nothing crosses

    def __init__(self, grad: Array, device: str) -> None:
        self.grad = grad
        self.critic = _given_in_torch(torch.tensor(np.asarray(grad), device=device))
        self.parts = self.critic.parts
        self._loss = jax.jit(_inner_product)

    def __call__(self, verts: Array, draws: Draws) -> tuple[Array, dict[str, Array]]:
        return _inner_product(verts, self.grad), {}

    def loss_and_grad(self, verts: Array, draws: Draws) -> tuple[Array, Array, dict[str, Array]]:
        return self._loss(verts, self.grad), self.grad, {}


def _inner_product(verts: Array, grad: Array) -> Array:
    return jnp.sum(verts * grad, axis=(1, 2, 3))


def _given_in_torch(grad: torch.Tensor) -> Critic:
    def judge(verts: torch.Tensor, draws: Draws, grad_out: torch.Tensor | None) -> Judgement:
        return (verts * grad).sum(dim=(1, 2, 3)), grad, {}

    return FunctionCritic(judge)


# --- JAX --------------------------------------------------------------------------------------------------------


def jax_arm(job: Job, transport: str) -> Arm:
    """The step of `md_jax.fit.train`."""
    chosen: Any = transport
    config = dataclasses.replace(job.config, transport=chosen)
    given = isinstance(job.op, GivenGradient)
    clock = Stopwatch()
    state = train.init_state(config, job.params)
    op = job.op if given else torch_loss(critic_of(job), transport)
    step = train.make_step(config, job.problem, op)
    timed: Any = TimedOp(job.op if given else torch_loss(_timed(critic_of(job), clock), transport))
    step_apart = train.make_step(config, job.problem, timed)
    optimizer = train.optimizer_of(config)
    update = jax.jit(lambda grads, state: jax.vmap(optimizer.update)(grads, state.opt_state, state.params))

    def run(step: Callable[..., Any] = step) -> None:
        nonlocal state
        with op.original_errors():
            state, report = step(state)
            jax.block_until_ready((state, report))

    def once() -> float:
        start = time.perf_counter()
        jax.block_until_ready(update(state.params, state))
        return time.perf_counter() - start

    def apart() -> dict[str, float]:
        parts = _parts_of_critic(job, clock, run_it=lambda: run(step_apart))
        critic, total = parts.pop("critic"), parts.pop("total")
        if transport == "jit":  # one program: only what torch does can be told apart
            return {**parts, "rest": parts["rest"] + total - critic}
        optimiser = min(once() for _ in range(3))  # the least: what disturbs one is not taken from "pose + LBS"
        inside = timed.end - timed.start
        parts.update({"pose + LBS": total - inside - optimiser, "optimiser": optimiser})
        return {**parts, "rest": inside} if given else {**parts, "bridge": inside - critic}

    return Arm(run, apart)


class TimedOp:
    """A TorchLoss that waits for its inputs and outputs and notes when it began and ended."""

    def __init__(self, op: Any) -> None:
        self.op, self.critic = op, op.critic
        self.original_errors = op.original_errors
        self.start = self.end = 0.0

    def __call__(self, verts: Any, draws: Draws) -> Any:
        return self.op(verts, draws)

    def loss_and_grad(self, verts: Array, draws: Draws) -> Any:
        jax.block_until_ready((verts, draws))
        self.start = time.perf_counter()
        result = jax.block_until_ready(self.op.loss_and_grad(verts, draws))
        self.end = time.perf_counter()
        return result


def _timed(critic: Critic, clock: Stopwatch) -> Critic:
    """`critic`, with its seconds added up by `clock` under "critic"."""

    def judge(x: torch.Tensor, draws: Any, grad_out: torch.Tensor | None) -> Judgement:
        with clock("critic"):
            return critic(x, draws, grad_out)

    return FunctionCritic(judge, critic.metric_names, critic.parts)


# --- torch ------------------------------------------------------------------------------------------------------


def torch_arm(job: Job, body: str, adam: torch_baseline.Adam, compiled: bool = False) -> Arm:
    """The step of `benchmarks.torch_baseline`, on the `smplx` package or on our own algorithm."""
    config, problem, device = job.config, job.problem, job.device
    assert isinstance(problem, PoseProblem)
    motions = len(job.prompts)
    fields, weights = torch_baseline.fields_from_jax(problem.fields, job.params, device)
    if body == "smplx":
        path = FREE_BODY if config.body == "free" else config.body
        body_fn = torch_baseline.smplx_body(path, motions * problem.fields.frames, config.betas, device)
    else:
        body_fn = torch_baseline.baked_body(problem.baked, device)
    clock = Stopwatch()
    step = torch_baseline.make_step(
        config, fields, weights, body_fn, critic_of(job), adam=adam, compiled=compiled, parts=clock
    )
    draw = torch_draws.make_draws(config, problem.latent_shape, problem.elevation_range, motions, device)
    count = itertools.count()

    def run() -> None:
        with clock("pose + LBS"):  # where the JAX step makes its draws
            draws = draw(min(next(count), config.steps - 1))
        step(draws)
        if device == "cuda":
            torch.cuda.synchronize()

    def apart() -> dict[str, float]:
        parts = _parts_of_critic(job, clock, run_it=run)
        parts["rest"] += parts.pop("total") - parts.pop("critic") - parts["pose + LBS"] - parts["optimiser"]
        return parts

    return Arm(run, apart)


def _parts_of_critic(job: Job, clock: Stopwatch, run_it: Callable[[], None]) -> dict[str, float]:
    """Seconds of one step as `clock` and the critic's own stopwatch divide it, and of the whole as "total".

    "rest" is what the critic does besides its parts.
    """
    watches = (clock, critic_of(job).parts)
    for watch in watches:
        watch.wait = torch.cuda.synchronize if job.device == "cuda" else lambda: None
        watch.take()
    start = time.perf_counter()
    run_it()
    parts = {"total": time.perf_counter() - start, "critic": 0.0, **clock.take()}
    named = dict.fromkeys(("render", "encode", "UNet"), 0.0)
    for name, seconds in critic_of(job).parts.take().items():
        if name in CRITIC_PARTS:
            named[CRITIC_PARTS[name]] += seconds
    for watch in watches:
        watch.wait = lambda: None
    return {**parts, **named, "rest": parts["critic"] - sum(named.values())}


ARMS: dict[str, Callable[[Job], Arm]] = {
    "jax staged": lambda job: jax_arm(job, "staged"),
    "jax jit": lambda job: jax_arm(job, "jit"),
    "torch smplx foreach": lambda job: torch_arm(job, "smplx", "foreach"),
    "torch smplx fused": lambda job: torch_arm(job, "smplx", "fused"),
    "torch smplx compiled": lambda job: torch_arm(job, "smplx", "fused", compiled=True),
    "torch ours foreach": lambda job: torch_arm(job, "ours", "foreach"),
    "torch ours fused": lambda job: torch_arm(job, "ours", "fused"),
    "torch ours compiled": lambda job: torch_arm(job, "ours", "fused", compiled=True),
    "torch ours coarse": lambda job: torch_arm(job, "ours", "fused"),
}


def config_of(arm: str, config: Config) -> Config:
    """The options of an arm.

    All begin at the mean pose and leave the root where it is, as the torch twin does. Torch draws the full mesh, as
    people write it, but for the arm that takes ours.
    """
    config = dataclasses.replace(config, mode="pose", root="fixed")
    return dataclasses.replace(config, detail="full") if arm.startswith("torch") and "coarse" not in arm else config
