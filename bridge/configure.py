"""One device for two frameworks: chosen, checked and its memory shared out before either starts."""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from bridge.errors import BridgeError

DEVICES = ("auto", "cpu", "cuda")

_JAX_MEMORY = ("XLA_PYTHON_CLIENT_PREALLOCATE", "XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION")


def configure(device: str = "auto") -> str:
    """Choose the device of both frameworks and start JAX on it; call it before any JAX computation.

    On CUDA JAX is told not to take 75 % of the card at once and torch to use expandable segments, unless the
    environment says otherwise. JAX starts before torch touches the card: an older cuDNN loaded first makes it fall
    back to the CPU (jax#18032).

    Args:
        device: 'cpu', 'cuda', or 'auto' (CUDA where both frameworks can use it).

    Returns:
        'cpu' or 'cuda'.

    Raises:
        BridgeError: a framework cannot use the device, their CUDA majors differ, or JAX had already started elsewhere
            or with the card's memory reserved.
    """
    if device not in DEVICES:
        raise BridgeError(f"device must be one of {', '.join(DEVICES)}, got {device!r}.")
    if device == "cpu":
        return _start_cpu()
    problem = cuda_problem()
    if problem is None:
        return _start_cuda()
    if device == "cuda":
        raise BridgeError(f"CUDA cannot be used: {problem}")
    if _torch_has_cuda() and not _kept_on_cpu():
        warnings.warn(f"running on the CPU although there is a GPU: {problem}", stacklevel=2)
    return _start_cpu()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Let torch compute with `count` threads on the CPU, and with as many as before at the end."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cuda_problem() -> str | None:
    """Why the two frameworks cannot share a CUDA device, and what to do; None if nothing speaks against it."""
    import torch

    torch_cuda, jax_cuda = torch.version.cuda, jax_cuda_major()
    if _kept_on_cpu():
        return "JAX_PLATFORMS keeps JAX on the CPU; unset it."
    if torch_cuda is None:
        return f"this torch ({torch.__version__}) was built without CUDA; install one from pytorch.org."
    if not torch.cuda.is_available():
        return f"torch ({torch.__version__}) finds no CUDA device; check nvidia-smi and the driver."
    major = int(torch_cuda.split(".")[0])
    if jax_cuda is None:
        return f"JAX has no CUDA plugin; pip install -e '.[cuda{major}]'."
    if jax_cuda != major:
        return (
            f"torch uses CUDA {torch_cuda} and JAX CUDA {jax_cuda}, which cannot share one process;"
            f" pip install -e '.[cuda{major}]' and uninstall jax-cuda{jax_cuda}-plugin."
        )
    return None


def jax_cuda_major() -> int | None:
    """The CUDA major of the installed JAX plugin (jax-cuda12-plugin, jax-cuda13-plugin); None without one."""
    for major in (13, 12):
        try:
            importlib.metadata.version(f"jax-cuda{major}-plugin")
        except importlib.metadata.PackageNotFoundError:
            continue
        return major
    return None


def _start_cpu() -> str:
    import jax

    if not _jax_started():
        jax.config.update("jax_platforms", "cpu")
    if jax.default_backend() != "cpu":
        raise BridgeError(
            f"JAX already runs on {jax.default_backend()}: call bridge.configure before any JAX computation, or set"
            " JAX_PLATFORMS=cpu."
        )
    return "cpu"


def _start_cuda() -> str:
    import jax

    if all(name in os.environ for name in _JAX_MEMORY[1:]):
        raise BridgeError(
            f"{_JAX_MEMORY[1]} and its old name {_JAX_MEMORY[2]} are both set: JAX takes one; unset the other."
        )
    if _jax_started():
        if not any(name in os.environ for name in _JAX_MEMORY):
            raise BridgeError(
                "JAX has already started and may have reserved 75 % of the card: call bridge.configure before any JAX"
                " computation, or set XLA_PYTHON_CLIENT_PREALLOCATE=false in the environment."
            )
    elif not any(name in os.environ for name in _JAX_MEMORY):
        os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    _expandable_segments()
    try:
        platform = jax.default_backend()  # starts JAX, before torch touches the card
    except RuntimeError as error:
        raise BridgeError(f"JAX cannot start on the GPU: {error}") from error
    if platform != "gpu":
        raise BridgeError(
            f"JAX started on {platform} and not on the GPU that torch sees: JAX_PLATFORMS=cuda makes it say why (often"
            " an older cuDNN that torch loaded first, or a driver too old for the plugin)."
        )
    return "cuda"


def _expandable_segments() -> None:
    """Let torch's allocator grow and shrink its blocks: it has no fixed share of the card to fragment."""
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")  # the second is the name before torch 2.9
    if not any(name in os.environ for name in names):
        version = tuple(int(part) for part in importlib.metadata.version("torch").split(".")[:2])
        os.environ[names[0] if version >= (2, 9) else names[1]] = "expandable_segments:True"


def _torch_has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _kept_on_cpu() -> bool:
    import jax

    return getattr(jax.config, "jax_platforms", None) == "cpu"


def _jax_started() -> bool:
    from jax._src import xla_bridge  # no public way to ask without starting it

    return xla_bridge.backends_are_initialized()
