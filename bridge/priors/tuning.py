"""How a frozen prior is run: memory formats, compilation, CUDA graphs, and what spares memory."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bridge.priors.spec import PriorError

Compile = Literal["off", "on", "graphs"]
DENOISERS = ("_unet", "_transformer")  # what predicts; what encodes is `_vae`


@dataclasses.dataclass(frozen=True)
class Tuning:
    """Choices that change speed and memory, and the result by rounding alone."""

    channels_last: bool = False  # 2D convolutions read channels from neighbouring addresses, as tensor cores want them
    compile: Compile = "off"  # "graphs": the denoiser's kernels are also replayed as one CUDA graph
    sparing: bool = False  # the least memory: one text at a time, one frame encoded at a time, activations recomputed


def tune(prior: Any, tuning: Tuning, backend: str = "inductor") -> None:
    """Apply `tuning` to the networks of a prior, in place; before the first step, since shapes are taken as fixed.

    Args:
        prior: a prior that keeps its networks as `_unet` or `_transformer`, and `_vae`.
        tuning: what to do.
        backend: torch.compile's; tests take "eager".

    Raises:
        PriorError: the choice is unknown.
    """
    if tuning.compile not in ("off", "on", "graphs"):
        raise PriorError(f"compile must be off, on or graphs, got {tuning.compile!r}.")
    denoisers = [network for name in DENOISERS if isinstance(network := getattr(prior, name, None), nn.Module)]
    vae: Any = getattr(prior, "_vae", None)
    if tuning.channels_last:
        for network in [*denoisers, *([vae] if vae is not None else [])]:
            _channels_last(network)
    if tuning.compile != "off":
        for network in denoisers:
            _compile(network, backend, graphs=tuning.compile == "graphs")
        encoder = getattr(vae, "encoder", None)
        if isinstance(encoder, nn.Module):
            # No graphs here: their outputs are overwritten by the next chunk's, and one chunk's gradients wait for all.
            _compile(encoder, backend, graphs=False)
    if tuning.sparing:
        prior.sparing = True
    recomputes = getattr(vae, "_supports_gradient_checkpointing", False)  # Wan's does not; its prior does it instead
    if recomputes and (getattr(vae, "is_gradient_checkpointing", False) or tuning.sparing):
        # Nothing in a frozen network is random, and keeping the generator's state would stop the GPU's queue.
        vae.enable_gradient_checkpointing(functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False))


def _channels_last(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):  # the 3D ones of temporal layers keep theirs: they see (N, C, F, h, w)
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)


def _compile(network: nn.Module, backend: str, graphs: bool) -> None:
    """Replace `forward` by its compiled form; everything else of the module (config, dtype) stays as it is."""
    options: dict[str, Any] = {"backend": backend, "dynamic": False}
    if backend == "inductor":
        options["mode"] = "reduce-overhead" if graphs else "default"
    compiled: Callable[..., Any] = torch.compile(network.forward, **options)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what the last replay returned has been used
        return compiled(*args, **kwargs)

    network.forward = forward  # type: ignore[method-assign]
