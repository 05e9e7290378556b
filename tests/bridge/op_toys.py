"""A small torch loss, its oracle in JAX, and draws: what the tests of bridge.op work on."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import torch

from bridge.critic import FunctionCritic

M, F, V = 2, 3, 50


class Draws(NamedTuple):
    t: object
    noise: object
    frames: object  # int, or None


def _toy(verts, draws, grad_out=None):
    """Autograd inside, a weighted sine; integer and missing draws are part of the game."""
    leaf = verts.detach().requires_grad_()
    scale = 1.0 if draws.frames is None else 1.0 + draws.frames.float().sum()
    loss = ((leaf * draws.noise).sin() * draws.t[:, None, None, None]).sum(dim=(1, 2, 3)) * scale
    (grad,) = torch.autograd.grad(loss.sum(), leaf)
    if grad_out is not None:
        grad = grad_out.copy_(grad)
    return loss.detach(), grad, {"t": draws.t + 0, "mean": verts.mean(dim=(1, 2, 3))}


toy = FunctionCritic(_toy, ("t", "mean"))


def toy_in_jax(verts, draws):
    """The oracle: the same loss, differentiated by JAX."""
    scale = 1.0 if draws.frames is None else 1.0 + draws.frames.astype(jnp.float32).sum()
    return (jnp.sin(verts * draws.noise) * draws.t[:, None, None, None]).sum(axis=(1, 2, 3)) * scale


def make_draws(seed=0, frames=True):
    rng = np.random.default_rng(seed)
    return Draws(
        t=jnp.asarray(rng.uniform(0.5, 1.5, M), jnp.float32),
        noise=jnp.asarray(rng.normal(size=(M, F, V, 3)), jnp.float32),
        frames=jnp.arange(4, dtype=jnp.int32) if frames else None,
    )


def draws_at(step):
    """Draws computed inside a jit from the index of the step."""
    return Draws(jnp.full((M,), 0.7), jnp.sin(jnp.arange(M * F * V * 3.0) + step).reshape(M, F, V, 3), None)


def make_verts():
    """(M, F, V, 3) metres."""
    return jnp.asarray(np.random.default_rng(9).normal(size=(M, F, V, 3)), jnp.float32)
