"""The whole training step in PyTorch alone: the twin that `md_jax.fit.train.make_step` is compared with.

PoseFields, body, smoothness, clipping and Adam are torch's; the frozen half (`bridge.distill.critic`) is the very
function object that the JAX step calls. Given the same weights and draws both follow the same losses. Two bodies tell
the algorithm from the framework: the `smplx` package, and `md_jax.body.lbs.pose` in torch (`benchmarks.lbs_torch`).

The twin covers what a default run uses: our PoseField in axis-angle, a fixed root, Adam.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import torch
from flax import nnx
from jaxtyping import Float
from torch import Tensor, nn

from benchmarks import lbs_torch
from bridge.critic import Critic, Stopwatch
from md_jax.body import lbs
from md_jax.config import Config
from md_jax.draws.draw import Draws
from md_jax.errors import UserError
from md_jax.fit.posefield import Fields

BodyFn = Callable[[Float[Tensor, "M F 21 3"]], Float[Tensor, "M F V 3"]]
Adam = Literal["foreach", "fused"]
# The defaults of optax.adam and torch.optim.Adam, which both add ε outside the root, after the bias correction.
BETAS, EPSILON = (0.9, 0.999), 1e-8


# --- PoseFields -------------------------------------------------------------------------------------------------


class PoseFields(NamedTuple):
    """What of M PoseFields is not trained."""

    features: Float[Tensor, "F D"]  # sines and cosines of the frames' times
    mean: Float[Tensor, "M 1 K 3"]
    limit: Float[Tensor, "M 1 K 3"]  # k·std
    bound: str


def fields_from_jax(fields: Fields, params: Any, device: str = "cpu") -> tuple[PoseFields, list[list[Tensor]]]:
    """The twin of M JAX PoseFields: what is fixed, and for each motion its weights [kernel, bias, kernel, bias, ...].

    Raises:
        UserError: the fields are not axis-angle with a fixed root, or normalise their layers.
    """
    if (fields.rotation, fields.root) != ("axis_angle", "fixed"):
        raise UserError(
            "the torch twin takes --rotation=axis_angle and --root=fixed, got"
            f" --rotation={fields.rotation} --root={fields.root}."
        )
    one = nnx.merge(fields.graphdef, *jax.tree.map(lambda x: x[0], (params, fields.fixed)))
    if one.layer_norm:
        raise UserError("the torch twin has no layer normalisation: it takes --posefield=default.")

    def tensor(x: Any) -> Tensor:
        return torch.tensor(np.array(x), device=device)

    angles = np.outer(np.arange(fields.frames) * one.time_scale, one.frequencies)
    features = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    names = [*(f"hidden_{i}" for i in range(one.depth)), "head"]
    motions = range(len(fields.fixed["mean"]))
    weights = [[tensor(params[name][kind][m]) for name in names for kind in ("kernel", "bias")] for m in motions]
    fixed = PoseFields(
        features=tensor(features.astype(fields.fixed["mean"].dtype)),
        mean=tensor(fields.fixed["mean"])[:, None],
        limit=one.bound_sigma * tensor(fields.fixed["std"])[:, None],
        bound=one.bound,
    )
    return fixed, weights


def pose_values(fields: PoseFields, weights: Sequence[Float[Tensor, "M ..."]]) -> Float[Tensor, "M F K 3"]:
    """Pose parameters of every motion (`md_jax.fit.posefield.apply_fields`); weights: kernel, bias, kernel, ..."""
    x = fields.features.expand(len(fields.mean), -1, -1)
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for kernel, bias in layers[:-1]:
        x = nn.functional.silu(torch.baddbmm(bias[:, None], x, kernel))
    kernel, bias = layers[-1]
    raw = torch.baddbmm(bias[:, None], x, kernel).unflatten(2, (-1, 3))
    if fields.bound == "tanh":
        return fields.mean + fields.limit * torch.tanh(raw)
    return fields.mean + torch.clamp(raw, -fields.limit, fields.limit)


def smoothness(values: Float[Tensor, "M F K 3"]) -> Float[Tensor, "M"]:
    """Sum of squared differences between consecutive frames (`md_jax.control.losses.smoothness`)."""
    return values.diff(dim=1).square().sum(dim=(1, 2, 3))


# --- bodies -----------------------------------------------------------------------------------------------------


def smplx_body(
    path: str | Path, clips: int, betas: Sequence[float] = (), device: str = "cpu", dtype: torch.dtype = torch.float32
) -> BodyFn:
    """The body by the `smplx` package, for `clips` frames in all; its full model, recomputed at every call."""
    import smplx

    count = max(len(betas), 10)
    options = {"num_betas": count, "use_pca": False, "flat_hand_mean": True, "batch_size": clips, "dtype": dtype}
    with contextlib.redirect_stdout(io.StringIO()):  # it greets
        model = smplx.SMPLX(str(path), **options).requires_grad_(False).to(device)
    shape = torch.zeros(clips, count, device=device, dtype=dtype)
    shape[:, : len(betas)] = torch.tensor(betas, device=device)
    return lambda values: model(betas=shape, body_pose=values.reshape(clips, 63)).vertices.unflatten(
        0, values.shape[:2]
    )


def baked_body(baked: lbs.BakedBody, device: str = "cpu") -> BodyFn:
    """The body by our baked algorithm in torch."""
    arrays = lbs_torch.from_baked(baked, device)
    return lambda values: lbs_torch.pose(arrays, values.flatten(0, 1)).unflatten(0, values.shape[:2])


# --- the step ---------------------------------------------------------------------------------------------------


def make_step(
    config: Config,
    fields: PoseFields,
    weights: list[list[Tensor]],
    body: BodyFn,
    critic: Critic,
    *,
    adam: Adam = "foreach",
    compiled: bool = False,
    parts: Stopwatch | None = None,
) -> Callable[[Draws], dict[str, Tensor]]:
    """The training step of `md_jax.fit.train.make_step`, in torch; it trains `weights` in place.

    Args:
        config: the options; Adam is expected.
        fields, weights: from `fields_from_jax`. Every motion has leaves of its own, so that one whose gradient is not
            finite can sit out a step alone, moments and step count included.
        body: pose parameters to vertices.
        critic: e.g. a `bridge.distill.critic.VertexCritic`.
        adam: which of torch's implementations.
        compiled: torch.compile PoseFields, body and smoothness with their backward pass, on CUDA as CUDA graphs.
        parts: adds up the seconds of "pose + LBS", "critic" and "optimiser".

    Returns:
        step(draws of tensors) -> the terms that the JAX step reports, each (M,).

    Raises:
        UserError: another optimiser is asked for.
    """
    if config.optimizer != "adam":
        raise UserError(f"the torch twin takes --optimizer=adam, got --optimizer={config.optimizer}.")
    leaves = [leaf.requires_grad_() for motion in weights for leaf in motion]
    size, cuda = len(weights[0]), leaves[0].is_cuda
    kind = {"foreach": adam == "foreach", "fused": adam == "fused"}
    groups = [{"params": motion, "taken": 0} for motion in weights]  # steps taken, which the schedule goes by
    optimizer = torch.optim.Adam(groups, lr=config.learning_rate, betas=BETAS, eps=EPSILON, **kind)
    clock = parts or Stopwatch()

    def body_and_smoothness(leaves: list[Tensor]) -> tuple[Tensor, Tensor]:
        values = pose_values(fields, [torch.stack(leaves[i::size]) for i in range(size)])
        return body(values), smoothness(values)

    if compiled:
        body_and_smoothness = torch.compile(body_and_smoothness, mode="reduce-overhead" if cuda else "default")

    def step(draws: Draws) -> dict[str, Tensor]:
        with clock("pose + LBS"):
            if compiled and cuda:
                torch.compiler.cudagraph_mark_step_begin()
            verts, reg = body_and_smoothness(leaves)
        with clock("critic"):
            loss, grad_verts, metrics = critic(verts.detach(), draws)
        with clock("pose + LBS"):
            cotangents = (config.distillation_weight * grad_verts, torch.full_like(reg, config.reg_weight))
            grads = torch.autograd.grad((verts, reg), leaves, cotangents)
            reg = reg.detach().clone()  # a CUDA graph writes its outputs anew in the next step
        with clock("optimiser"):
            norms, finite = _give_gradients(weights, grads, loss, config.grad_clip)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, group["taken"])
            optimizer.step()
            for group, ok in zip(optimizer.param_groups, finite, strict=True):
                group["taken"] += ok
        total = config.distillation_weight * loss + config.reg_weight * reg
        return {"loss": total, "loss_sds": loss, "loss_reg": reg, **metrics, "grad_norm": norms}

    return step


def learning_rate(config: Config, step: int) -> float:
    """The rate of a step by the schedules of `md_jax.fit.optimizers`."""
    done = min(step / config.steps, 1.0)
    fallen = {"constant": 0.0, "linear": done, "cosine": (1 - math.cos(math.pi * done)) / 2}[config.schedule]
    return config.learning_rate * (1 - 0.99 * fallen)


def _give_gradients(
    weights: list[list[Tensor]], grads: Sequence[Tensor], loss: Float[Tensor, "M"], limit: float
) -> tuple[Float[Tensor, "M"], list[bool]]:
    """Hand each motion its clipped gradients, or none where they are not finite (Adam leaves such leaves alone).

    Returns the norms before clipping, and which motions are finite.
    """
    size = len(weights[0])
    by_motion = [list(grads[m * size : (m + 1) * size]) for m in range(len(weights))]
    norms = torch.stack([nn.utils.get_total_norm(own, foreach=True) for own in by_motion])
    finite = (torch.isfinite(norms) & torch.isfinite(loss)).tolist()
    for leaves, own, norm, ok in zip(weights, by_motion, norms, finite, strict=True):
        for leaf, grad in zip(leaves, own, strict=True):
            leaf.grad = grad if ok else None
        if ok and limit > 0:
            nn.utils.clip_grads_with_norm_(leaves, limit, norm, foreach=True)
    return norms, finite
