"""Facts about the torch half of this machine, as plain numbers and words: what `python -m md_jax.doctor` asks for."""

from __future__ import annotations

import importlib.metadata
import resource
import sys
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError


def torch_facts() -> dict[str, Any]:
    """Version, CUDA version (None: built without), and each GPU's name with total and free bytes."""
    import torch

    gpus = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            gpus.append({"name": torch.cuda.get_device_name(index), "total": total, "free": free})
    return {"version": torch.__version__, "cuda": torch.version.cuda, "gpus": gpus}


def nvdiffrast_version() -> str:
    """Its version.

    Raises:
        BridgeError: it is not installed or cannot be imported.
    """
    from bridge.render.nvdiffrast import load

    load()
    try:
        return importlib.metadata.version("nvdiffrast")
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def kernel_cache() -> Path:
    """Where Warp keeps compiled kernels."""
    import warp as wp

    from bridge.render.kernels import runtime as warp_runtime

    warp_runtime.start()
    return Path(str(wp.config.kernel_cache_dir))  # set by its start


def try_out(device: str) -> str:
    """Take a gradient through JAX, the exchange, the renderer and back: the seam of a training step, on a triangle.

    Args:
        device: "cpu" or "cuda", as `bridge.configure.configure` returned it.

    Returns:
        What was seen.

    Raises:
        BridgeError: something was copied, or no gradient came back.
    """
    import jax
    import jax.numpy as jnp
    import torch
    from torch import Tensor

    from bridge.critic import FunctionCritic, Judgement
    from bridge.exchange import ACCOUNT
    from bridge.op import torch_loss
    from bridge.render import render
    from bridge.render.camera import Camera
    from bridge.render.mesh import make_mesh

    mesh = make_mesh(torch.tensor([[0, 1, 2]]), torch.ones(3, 3), device)
    zero = torch.zeros(1, device=device)
    camera = Camera(zero, zero, 2.0, 1.0, torch.zeros(3, device=device))

    def fn(verts: Tensor, draws: Any, grad_out: Tensor | None) -> Judgement:
        leaf = verts[0].detach().requires_grad_()
        loss = render(leaf, camera, mesh, 16, 16, background=(0.0, 0.0, 0.0)).sum()
        return loss.detach()[None], torch.autograd.grad(loss, leaf)[0][None], {}

    verts = jnp.asarray([[[[0.0, 0.5, 0.0], [-0.5, -0.5, 0.0], [0.5, -0.5, 0.0]]]], jnp.float32)
    before = ACCOUNT.snapshot()
    loss, grad, _ = torch_loss(FunctionCritic(fn), "staged").loss_and_grad(jax.device_put(verts, jax.devices()[0]), ())
    copied = ACCOUNT.snapshot().copied - before.copied
    if copied or not float(jnp.abs(grad).sum()) > 0 or not float(loss[0]) > 0:
        raise BridgeError(f"a triangle drawn on {device} gave loss {float(loss[0])}, {copied} bytes copied.")
    return f"a triangle was drawn on {device} and its gradient came back, 0 bytes copied"


def prior_state(name: str, path: str, clip: tuple[int, int, int] | None = None) -> str:
    """What a prior's weights are, and where. The small embedded one is loaded; of others the headers are read.

    Args:
        name: one of `bridge.priors.LOADERS`.
        path: --prior_path, or empty for the shipped prior.
        clip: (frames, height, width) to estimate a step's memory for; None: that of the family's flag file.

    Raises:
        BridgeError: they are not on this machine, or damaged; the message says what to do.
    """
    from bridge.priors import check_name, load_prior
    from bridge.priors.files import describe

    check_name(name)
    if not path and name != "embedded":
        raise BridgeError(f"prior '{name}' does not ship with the program: give --prior_path its folder or hub id.")
    found = describe(name, path, clip) if path else ""
    return found if name != "embedded" else load_prior(name, path).spec.origin


def peak_memory() -> dict[str, float]:
    """Peaks in MiB: "host" (resident set), and on CUDA "torch" (its allocator's, without JAX's)."""
    import torch

    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    peaks = {"host": host}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["torch"] = torch.cuda.max_memory_allocated()
    return {name: round(peak / 2**20, 1) for name, peak in peaks.items()}
