"""Arrays between JAX and torch without a copy, or a typed error: nothing is converted silently.

DLPack lets both frameworks read the same memory. Neither protects it, so two rules hold for whoever uses this module:

- Read only. Writing in place on one side changes the other side's array; JAX arrays are meant to be immutable.
- On CUDA the consumer's stream waits for the producer's, but nobody waits before the memory is freed and reused: keep
  exchanged tensors alive for two steps (`bridge.op` does).
"""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import jax
import torch
from jax import Array
from torch import Tensor

from bridge.errors import BridgeError

CPU_ALIGNMENT = 64  # bytes; XLA on CPU copies what is aligned less

# With x64 off JAX would cast these to the narrower type, which is a copy.
_NARROWED = {torch.int64: "int32", torch.uint64: "uint32", torch.float64: "float32", torch.complex128: "complex64"}


class ZeroCopyError(BridgeError):
    """An array cannot be shared as it is; the message says what was found and what to do."""


@dataclasses.dataclass
class Traffic:
    """Bytes that crossed the seam and the number of torch calls, since the last `reset`."""

    calls: int = 0  # torch functions called through `bridge.op`
    aliased: int = 0  # bytes that both frameworks read in place
    copied: int = 0  # bytes copied by the exchange or through the host: a step adds 0
    device_copied: int = 0  # bytes that torch copied into JAX's output buffers, on the device

    def add(self, *, calls: int = 0, aliased: int = 0, copied: int = 0, device_copied: int = 0) -> None:
        """Count; safe from XLA's threads."""
        with _COUNTING:
            self.calls += calls
            self.aliased += aliased
            self.copied += copied
            self.device_copied += device_copied

    def reset(self) -> None:
        """Start again from zero."""
        with _COUNTING:
            self.calls = self.aliased = self.copied = self.device_copied = 0

    def snapshot(self) -> Traffic:
        """The counts of this moment, in an object of their own."""
        with _COUNTING:
            return dataclasses.replace(self)


_COUNTING = threading.Lock()
ACCOUNT = Traffic()


def to_torch(x: Array) -> Tensor:
    """The torch tensor that reads a JAX array's memory; waits (CPU) or orders the streams (CUDA) until it is computed.

    Args:
        x: a concrete array on one device, of any dtype that DLPack has.

    Returns:
        A tensor of the same shape, dtype and device at the same address. Read only: writing would corrupt `x`.

    Raises:
        ZeroCopyError: `x` is a tracer, is no JAX array, was deleted, lies on several devices, or has a dtype that
            torch or DLPack lacks.
    """
    _refuse_jax(x)
    try:
        with torch.inference_mode(False):  # an ordinary tensor, whatever mode the caller is in
            tensor = torch.from_dlpack(x)
    except Exception as error:
        raise ZeroCopyError(f"torch cannot alias {_jax_words(x)}: {error}") from error
    _count(x.nbytes, same=tensor.data_ptr() == x.unsafe_buffer_pointer(), tensor=tensor)
    return tensor


def to_jax(tensor: Tensor) -> Array:
    """The JAX array that reads a torch tensor's memory; on CUDA JAX waits for torch's current stream.

    Args:
        tensor: contiguous; detached here if it requires gradients. On CPU its address is a multiple of 64 bytes, as
            every freshly allocated tensor's is (slices of one often are not).

    Returns:
        A committed array of the same shape, dtype and device at the same address. It keeps the memory alive, but
        writing into `tensor` afterwards would change it; donating it to a jit gives up JAX's handle alone.

    Raises:
        ZeroCopyError: what JAX would copy, cast or lay out anew.
    """
    _refuse_torch(tensor)
    tensor = tensor.detach()
    try:
        if tensor.device.type == "cuda":  # torch exports from its current device alone
            with torch.cuda.device(tensor.device):
                x = jax.dlpack.from_dlpack(tensor, copy=False)
        else:
            x = jax.dlpack.from_dlpack(tensor, copy=False)
    except Exception as error:
        raise ZeroCopyError(f"JAX cannot alias {_torch_words(tensor)}: {error}") from error
    _count(x.nbytes, same=tensor.data_ptr() == x.unsafe_buffer_pointer(), tensor=tensor)
    return x


def alias_buffer(buffer: Any) -> Tensor:
    """The torch tensor that reads or writes a buffer inside a `buffer_callback`; valid until the callback returns.

    On CUDA the caller has made XLA's stream torch's current one: `Buffer.__dlpack__` ignores the stream that it is
    given, so order rests on that.
    """
    with torch.inference_mode(False):
        tensor = torch.from_dlpack(buffer)
    # Buffer.__array__ fails on CUDA (jax#38173), and no other address is offered there for every dtype; what XLA passes
    # lies on torch's device already, so there is nothing to copy it for.
    same = tensor.device.type != "cpu" or tensor.data_ptr() == buffer.__array__().ctypes.data
    _count(tensor.nbytes, same=same, tensor=tensor)
    return tensor


def _refuse_jax(x: Array) -> None:
    if isinstance(x, jax.core.Tracer):
        raise ZeroCopyError(
            f"to_torch needs a computed array, found a tracer {x.aval}: inside jax.jit, vmap or scan use"
            " bridge.op.torch_loss(fn, 'jit'), or call it between two jitted functions."
        )
    if not isinstance(x, jax.Array):
        raise ZeroCopyError(f"to_torch needs a jax.Array, found {type(x).__name__}: use torch.as_tensor for it.")
    if x.is_deleted():
        raise ZeroCopyError(
            f"to_torch found a deleted array, {x.aval}: it was donated to a jit; use that one's result."
        )
    if len(x.devices()) > 1:
        raise ZeroCopyError(
            f"to_torch needs an array on one device, found {x.aval} on {len(x.devices())}: jax.device_put it on one."
        )
    if jax.dtypes.issubdtype(x.dtype, jax.dtypes.extended):
        raise ZeroCopyError(f"torch has no dtype {x.dtype}: pass jax.random.key_data(key), or draw in JAX.")


def _refuse_torch(tensor: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise ZeroCopyError(f"to_jax needs a torch.Tensor, found {type(tensor).__name__}: use jnp.asarray for it.")
    if tensor.layout != torch.strided or tensor.is_conj() or tensor.is_neg():
        why = "it is not plain and dense; materialise it (to_dense, resolve_conj, resolve_neg)"
    elif not tensor.is_contiguous():
        why = (
            f"its strides are {tuple(tensor.stride())}, so JAX would copy it or compile anew for its layout; call"
            " .contiguous() where it is made"
        )
    elif tensor.dtype in _NARROWED and jax.dtypes.canonicalize_dtype("int64") != "int64":  # x64 is off
        why = f"JAX would cast it to {_NARROWED[tensor.dtype]}, a copy; cast it in torch, or set jax_enable_x64"
    elif tensor.device.type == "cpu" and tensor.numel() and tensor.data_ptr() % CPU_ALIGNMENT:
        why = (
            f"its address is {tensor.data_ptr() % CPU_ALIGNMENT} bytes past a multiple of {CPU_ALIGNMENT}, so JAX would"
            " copy it; .clone() it, or make it a tensor of its own and not a slice of another"
        )
    else:
        return
    raise ZeroCopyError(f"JAX cannot alias {_torch_words(tensor)}: {why}.")


def _count(nbytes: int, *, same: bool, tensor: Tensor) -> None:
    if same or nbytes == 0:  # nothing has no address
        ACCOUNT.add(aliased=nbytes)
        return
    ACCOUNT.add(copied=nbytes)
    raise ZeroCopyError(
        f"{nbytes} bytes of {_torch_words(tensor)} were copied where they should be shared: please report it with the"
        " versions of jax and torch."
    )


def _jax_words(x: Array) -> str:
    return f"a JAX array {x.dtype}{list(x.shape)} on {next(iter(x.devices()))}"


def _torch_words(tensor: Tensor) -> str:
    return f"a tensor {str(tensor.dtype).removeprefix('torch.')}{list(tensor.shape)} on {tensor.device}"
