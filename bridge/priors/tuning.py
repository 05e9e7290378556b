"""How the networks of a frozen prior are run: memory formats, compilation, CUDA graphs, activations computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bridge.priors.spec import Compile, PriorError, Setup

# Nothing in a frozen network is random, and keeping the generator's state would stop the GPU's queue.
recomputed = functools.partial(checkpoint, use_reentrant=False, preserve_rng_state=False)


def tune(denoiser: nn.Module, vae: Any | None, setup: Setup) -> None:
    """Prepare the networks of a prior, in place; before the first step, since shapes are taken as fixed.

    Args:
        denoiser: the UNet or transformer.
        vae: an autoencoder of diffusers with an `encoder`; None: the prior works in pixels.
        setup: `channels_last`, `compile`, `compile_backend` and `low_memory` are read.

    Raises:
        PriorError: the choice is unknown.
    """
    if setup.compile not in get_args(Compile):
        raise PriorError(f"compile must be off, on or graphs, got {setup.compile!r}.")
    if setup.channels_last:
        for network in (denoiser, vae):
            if network is not None:
                _channels_last(network)
    if setup.compile != "off":
        _compile(denoiser, setup.compile_backend, graphs=setup.compile == "graphs")
        if vae is not None:
            # No graphs here: their outputs are overwritten by the next chunk's, and one chunk's gradients wait for all.
            _compile(vae.encoder, setup.compile_backend, graphs=False)
    if setup.low_memory and vae is not None and vae._supports_gradient_checkpointing:
        vae.enable_gradient_checkpointing(recomputed)  # Wan's cannot; its prior does it instead


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
