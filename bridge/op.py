"""The seam: a torch function (verts, draws) → (loss, dL/dverts, metrics) as a JAX function, differentiable in verts.

The torch function computes its gradient itself, in the forward call; the backward pass only multiplies it by the
incoming cotangent. So a step makes exactly one torch call. Two ways to make it, with the same result bit for bit:

- `staged`: between two jitted functions, on concrete arrays. Inputs and outputs are aliased.
- `jit`: inside a jitted function, reached through `buffer_callback`. Inputs are aliased; the gradient is written into
  XLA's own output buffer, `grad_out`, or copied there on the device if the function does not use it.

Neither copies through the host. (`pure_callback` would, on CPU too.)
"""

from __future__ import annotations

import collections
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import torch
from jax import Array
from jax.experimental.buffer_callback import buffer_callback
from jaxtyping import Float
from torch import Tensor

from bridge.critic import Critic, Stopwatch
from bridge.errors import ADVICE, BridgeError, OutOfMemory
from bridge.exchange import ACCOUNT, Traffic, ZeroCopyError, alias_buffer, to_jax, to_torch

TRANSPORTS = ("staged", "jit")
KEEP_STEPS = 2  # see TorchLoss.__init__

# One torch call at a time: XLA may run callbacks of two executions on two threads, and the function's caches, streams
# and random state are shared. Held around the function alone, never while waiting for a JAX array.
_ONE_AT_A_TIME = threading.RLock()


class Outputs(NamedTuple):
    """What a torch call gives, as tensors, as JAX arrays or as shapes."""

    loss: Any  # (M,) float32
    grad: Any  # like verts
    metrics: dict[str, Any]  # (M,) float32 each


def torch_loss(critic: Critic, transport: str = "staged") -> TorchLoss:
    """Make a JAX function, differentiable in its first argument, of a torch function that gives loss and gradient.

    Args:
        critic: critic(verts (M, ...), draws, grad_out) -> (loss (M,) float32, grad like verts, metrics {name: (M,)
            float32}); make one of a plain function by `bridge.critic.FunctionCritic`. `verts` is detached and, like
            every leaf of `draws` (the caller's pytree with tensors for arrays), read only and valid during the call
            alone. `grad_out` is None, or uninitialised memory like `verts`: write the gradient there and return it.
            It is called with gradients enabled and autocast off, whatever the caller's mode, and must not call JAX. On
            CUDA it runs on torch's current stream and joins any other stream before it returns.
        transport: 'staged' (between jitted functions) or 'jit' (inside one).

    Returns:
        op(verts, draws) -> (loss (M,), metrics), see `TorchLoss`.

    Raises:
        BridgeError: the transport is unknown.
    """
    if transport not in TRANSPORTS:
        raise BridgeError(f"transport must be one of {', '.join(TRANSPORTS)}, got {transport!r}.")
    return TorchLoss(critic, transport)


class TorchLoss:
    """A torch function as a JAX function; made by `torch_loss`.

    Calling it gives (loss (M,), metrics) and is differentiable in verts: the gradient of motion m is the cotangent of
    its loss times what the torch function gave for it. `draws` and metrics carry no gradient.
    """

    def __init__(self, critic: Critic, transport: str) -> None:
        self.critic = critic
        self.transport = transport
        # On CUDA a framework may reuse memory that the other's queued kernels still read. When step k + 1 hands over,
        # each stream has waited for the other's work of step k, so holding two steps is enough.
        self._kept: collections.deque[Any] = collections.deque(maxlen=KEEP_STEPS)
        self._failure: BaseException | None = None
        self._op = _differentiable(self._loss_and_grad)

    @property
    def parts(self) -> Stopwatch:
        """Adds up the seconds of the parts of the critic's calls."""
        return self.critic.parts

    @property
    def traffic(self) -> Traffic:
        """The exchange's counters (`bridge.exchange.ACCOUNT`)."""
        return ACCOUNT

    def __call__(self, verts: Float[Array, "M F V 3"], draws: Any) -> tuple[Float[Array, "M"], dict[str, Array]]:
        """Loss and metrics, each (M,), differentiable in verts by any of JAX's reverse-mode transforms.

        With 'jit' it may stand inside jit, scan and while loops, with 'staged' only where arrays are concrete.

        Raises:
            ZeroCopyError: something would have to be copied.
            BridgeError: the torch function's outputs are not as agreed.
        """
        with self.original_errors():
            return self._op(verts, draws)

    def loss_and_grad(
        self, verts: Float[Array, "M F V 3"], draws: Any
    ) -> tuple[Float[Array, "M"], Float[Array, "M F V 3"], dict[str, Float[Array, "M"]]]:
        """(loss, dL/dverts, metrics): what a step in two jitted halves needs between them.

        With 'staged' the results are torch's own memory and committed to their device; they stay valid as long as they
        are referenced. Warm up with imported arrays, or commit the parameters to the device before the first step
        (jax.device_put), or the second step compiles again.

        Raises:
            ZeroCopyError, BridgeError: as in calling it.
        """
        with self.original_errors():
            outputs = self._loss_and_grad(verts, draws)
            return outputs.loss, outputs.grad, outputs.metrics

    @contextlib.contextmanager
    def original_errors(self) -> Iterator[None]:
        """Raise what the torch function raised (OutOfMemory, KeyboardInterrupt ...), not XLA's text of it.

        Put it around the loop that calls a jitted step: an error inside a compiled function surfaces where its result
        is waited for, as a JaxRuntimeError. Arrays that went in are unharmed.
        """
        try:
            yield
        except jax.errors.JaxRuntimeError as error:
            failure, self._failure = self._failure, None
            if failure is None or type(failure).__name__ not in str(error):
                if "RESOURCE_EXHAUSTED" in str(error):
                    reason = str(error).splitlines()[0][:200]
                    raise OutOfMemory(f"JAX finds no memory ({reason}). {ADVICE}") from error
                raise
            try:
                raise failure from None
            finally:
                del failure  # or this frame and the traceback keep each other, and the tensors in it, alive

    def _loss_and_grad(self, verts: Array, draws: Any) -> Outputs:
        return self._staged(verts, draws) if self.transport == "staged" else self._in_jit(verts, draws)

    # --- staged: concrete arrays, on the caller's thread and torch's current stream

    def _staged(self, verts: Array, draws: Any) -> Outputs:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((verts, draws))):
            raise ZeroCopyError(
                "the staged transport needs computed arrays, found tracers: call it outside jax.jit, vmap and scan"
                " (forward jit, loss_and_grad, backward jit), or use torch_loss(fn, 'jit')."
            )
        t_verts, t_draws = jax.tree.map(to_torch, (verts, draws))
        outputs = self._call(t_verts, t_draws, None)
        self._kept.append((t_verts, t_draws, outputs))
        return Outputs(to_jax(outputs.loss), to_jax(outputs.grad), {k: to_jax(v) for k, v in outputs.metrics.items()})

    # --- jit: XLA's buffers, on whatever thread XLA chose and on XLA's stream

    def _in_jit(self, verts: Array, draws: Any) -> Outputs:
        for_each_motion = jax.ShapeDtypeStruct(verts.shape[:1], jnp.float32)
        grad = jax.ShapeDtypeStruct(verts.shape, verts.dtype)
        shapes = Outputs(for_each_motion, grad, dict.fromkeys(self.critic.metric_names, for_each_motion))
        # Without the side effect equal calls would be merged; in a CUDA graph torch would run once and never again.
        # The callback must be the same object every time, or every eager call would compile.
        call = buffer_callback(self._callback, shapes, has_side_effect=True, command_buffer_compatible=False)
        return call(verts, draws)

    def _callback(self, ctx: Any, outs: Outputs, verts: Any, draws: Any) -> None:
        self._failure = None
        try:
            with _xla_stream(ctx, verts):
                t_verts, t_draws = jax.tree.map(alias_buffer, (verts, draws))
                t_outs = jax.tree.map(alias_buffer, outs)
                outputs = self._call(t_verts, t_draws, t_outs.grad)
                jax.tree.map(_fill, t_outs, outputs)
        except BaseException as error:  # XLA keeps only its text
            self._failure = error
            raise

    # --- both

    def _call(self, verts: Tensor, draws: Any, grad_out: Tensor | None) -> Outputs:
        inputs = [verts, *jax.tree.leaves(draws)]
        versions = [tensor._version for tensor in inputs]
        ACCOUNT.add(calls=1)
        with _ONE_AT_A_TIME, _torch_defaults(verts.device):
            loss, grad, metrics = self.critic(verts, draws, grad_out)
        if versions != [tensor._version for tensor in inputs]:
            raise BridgeError(
                "the torch function wrote into its verts or draws, which are JAX's immutable arrays: use out-of-place"
                " operations, or clone what it changes."
            )
        names = self.critic.metric_names
        if set(metrics) != set(names):
            raise BridgeError(
                f"the torch function must give the metrics in its metric_names, {list(names)}, got {list(metrics)}."
            )
        _check("the loss", loss, verts.shape[:1], torch.float32, verts.device)
        _check("the gradient", grad, verts.shape, verts.dtype, verts.device)
        for name, value in metrics.items():
            _check(f"metric {name!r}", value, verts.shape[:1], torch.float32, verts.device)
        return Outputs(loss.detach(), grad.detach(), {name: metrics[name].detach() for name in names})


def _differentiable(loss_and_grad: Callable[[Array, Any], Outputs]) -> Callable[[Array, Any], Any]:
    """(verts, draws) -> (loss, metrics) with the gradient that came along as its own."""

    @jax.custom_vjp
    def op(verts: Array, draws: Any) -> tuple[Array, dict[str, Array]]:
        outputs = loss_and_grad(verts, draws)
        return outputs.loss, outputs.metrics

    def forward(verts: Array, draws: Any) -> tuple[tuple[Array, dict[str, Array]], Array]:
        outputs = loss_and_grad(verts, draws)
        return (outputs.loss, outputs.metrics), outputs.grad

    def backward(grad: Array, cotangents: tuple[Array, dict[str, Array]]) -> tuple[Array, None]:
        scale = cotangents[0].reshape(-1, *[1] * (grad.ndim - 1))
        return (scale * grad).astype(grad.dtype), None  # None: no gradient for the draws

    op.defvjp(forward, backward)
    return op


def _check(what: str, tensor: Tensor, shape: Any, dtype: torch.dtype, device: torch.device) -> None:
    found = (tuple(tensor.shape), tensor.dtype, tensor.device)
    if found != (tuple(shape), dtype, device):
        raise BridgeError(
            f"{what} from the torch function must be {dtype} {list(shape)} on {device}, got {found[1]} {list(found[0])}"
            f" on {found[2]}."
        )


def _fill(out: Tensor, value: Tensor) -> None:
    """Put a result into XLA's buffer, unless it was written there already."""
    if out.data_ptr() != value.data_ptr() or out.stride() != value.stride():
        out.copy_(value)
        ACCOUNT.add(device_copied=value.nbytes)


@contextlib.contextmanager
def _torch_defaults(device: torch.device) -> Iterator[None]:
    """torch's modes as a fresh thread has them, so that the caller's (which XLA's threads lack) change nothing."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        for kind in {"cpu", device.type}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if device.type == "cuda":
            stack.enter_context(torch.cuda.device(device))
        yield


@contextlib.contextmanager
def _xla_stream(ctx: Any, verts: Any) -> Iterator[None]:
    """On CUDA make the stream that XLA computes on torch's current one, after and before torch's other work."""
    kind, index = verts.__dlpack_device__()
    if int(kind) == 1:  # CPU
        yield
        return
    own = torch.cuda.current_stream(index)
    stream = torch.cuda.ExternalStream(ctx.stream, device=index)
    stream.wait_stream(own)  # weights and caches made before
    with torch.cuda.stream(stream):
        yield
    own.wait_stream(stream)
