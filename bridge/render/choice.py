"""Which rasteriser a run uses: the one asked for, or the fastest that is there."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float

from bridge.errors import BridgeError
from bridge.render import BACKENDS, render
from bridge.render.camera import Camera
from bridge.render.mesh import Mesh
from bridge.render.nvdiffrast import load

MARGIN = 0.9  # what ships is kept unless another takes less than this share of its time
ROUNDS = 10


def choose(
    renderer: str, antialias: str, device: str, seconds: Callable[[str], float] | None = None
) -> str:  # fmt: skip
    """The backend of `bridge.render.render`.

    Args:
        renderer: "warp", "nvdiffrast" or "auto".
        antialias: "edge", or "nvdiffrast", which only nvdiffrast has.
        device: "cpu" or "cuda".
        seconds: the time that a backend takes for a picture (`picture_seconds`); None: "auto" does not measure and
            takes what ships.

    Raises:
        BridgeError: what is asked for is not installed, needs a GPU, or does not go together.
    """
    if renderer not in ("auto", *BACKENDS):
        raise BridgeError(f"the renderer must be auto, {' or '.join(BACKENDS)}, got {renderer!r}.")
    if antialias == "nvdiffrast" and renderer == "warp":
        raise BridgeError("--antialias=nvdiffrast is nvdiffrast's own: it takes --renderer=nvdiffrast, not warp.")
    if renderer == "nvdiffrast" or antialias == "nvdiffrast":
        if device != "cuda":
            raise BridgeError("nvdiffrast draws on NVIDIA GPUs alone, and this run is on the CPU: use --renderer=warp.")
        load()
        return "nvdiffrast"
    if renderer == "warp" or device != "cuda" or seconds is None:
        return "warp"
    try:
        load()
    except BridgeError:
        return "warp"
    return "nvdiffrast" if seconds("nvdiffrast") < MARGIN * seconds("warp") else "warp"


def picture_seconds(
    backend: str, mesh: Mesh, vertices: Float[np.ndarray, "V 3"], height: int, width: int, supersample: int
) -> float:
    """Least time of `ROUNDS` that one picture takes on the GPU, forward and backward.

    Args:
        backend: see `bridge.render.render`.
        mesh: on a CUDA device.
        vertices: metres.
        height, width, supersample: as in a run.
    """
    body = torch.tensor(vertices, dtype=torch.float32, device=mesh.device)
    low, high = body.amin(0), body.amax(0)
    zero = torch.zeros(1, device=mesh.device)
    camera = Camera(zero, zero, 1.5 * float((high - low).max()), math.radians(50.0), (low + high) / 2)
    background = torch.ones(3, device=mesh.device)
    times = []
    for _ in range(ROUNDS):
        leaf = body[None].clone().requires_grad_()
        events = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        events[0].record()
        render(leaf, camera, mesh, height, width, supersample, background, backend=backend).sum().backward()
        events[1].record()
        events[1].synchronize()
        times.append(events[0].elapsed_time(events[1]) / 1000)
    return min(times)
