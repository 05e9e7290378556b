"""bridge.op: errors keep their type, interruptions arrive, the caller's torch modes change nothing, misuse is named."""

import os
import signal
import threading

import jax
import numpy as np
import pytest
import torch

from bridge.critic import FunctionCritic
from bridge.errors import BridgeError, OutOfMemory
from bridge.exchange import ACCOUNT, ZeroCopyError
from bridge.op import TRANSPORTS, torch_loss
from tests.bridge.op_toys import make_draws, make_verts, toy, toy_in_jax


@pytest.fixture
def verts():
    return make_verts()


@pytest.fixture(autouse=True)
def _fresh_account():
    ACCOUNT.reset()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("error_type", [torch.OutOfMemoryError, ValueError, KeyboardInterrupt])
def test_the_original_error_is_raised_and_arrays_are_unharmed(transport, error_type, verts):
    faulty = True

    def fn(v, draws, grad_out=None):
        if faulty:
            raise error_type("no more memory for you")
        return toy(v, draws, grad_out)

    op, draws, before = (
        torch_loss(FunctionCritic(fn, toy.metric_names), transport),
        make_draws(),
        np.asarray(verts).copy(),
    )
    with pytest.raises(error_type, match="no more memory"):
        op.loss_and_grad(verts, draws)
    with pytest.raises(error_type, match="no more memory"):
        jax.value_and_grad(lambda v: op(v, draws)[0].sum())(verts)
    if transport == "jit":
        compiled = jax.jit(op.loss_and_grad)
        with pytest.raises(error_type, match="no more memory"), op.original_errors():
            jax.block_until_ready(compiled(verts, draws))
    np.testing.assert_array_equal(verts, before)
    faulty = False
    loss, _, _ = op.loss_and_grad(verts, draws)
    np.testing.assert_allclose(loss, toy_in_jax(verts, draws), rtol=1e-4)


def test_other_jax_errors_pass_through(verts):
    op = torch_loss(toy, "jit")
    op._failure = ValueError("an old one")
    with pytest.raises(jax.errors.JaxRuntimeError, match="nothing to do with torch"), op.original_errors():
        raise jax.errors.JaxRuntimeError("nothing to do with torch")


def test_jaxs_own_lack_of_memory_names_the_flags():
    text = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9000000000 bytes.\nmore"
    with pytest.raises(OutOfMemory, match=r"9000000000 bytes\.\)\. .*--low_vram"), torch_loss(toy).original_errors():
        raise jax.errors.JaxRuntimeError(text)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ctrl_c_during_the_torch_call(transport, verts):
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job started in the background inherits "ignore"
    started = threading.Event()

    def fn(v, draws, grad_out=None):
        started.set()
        for _ in range(2000):  # 20 s unless interrupted
            threading.Event().wait(0.01)
        return toy(v, draws, grad_out)

    op, draws = torch_loss(FunctionCritic(fn, toy.metric_names), transport), make_draws()

    def press():
        started.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt), op.original_errors():
        jax.block_until_ready(jax.jit(op.loss_and_grad)(verts, draws) if transport == "jit" else op(verts, draws))
    presser.join()
    op.critic = toy
    np.testing.assert_allclose(op(verts, draws)[0], toy_in_jax(verts, draws), rtol=1e-4)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_torch_mode_changes_nothing(transport, mode, verts):
    seen = []

    def fn(v, draws, grad_out=None):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
        return toy(v, draws, grad_out)

    op, draws = torch_loss(FunctionCritic(fn, toy.metric_names), transport), make_draws()
    call = jax.jit(op.loss_and_grad) if transport == "jit" else op.loss_and_grad
    expected = call(verts, draws)
    with mode():
        result = call(verts, draws)
        jax.block_until_ready(result)
        state = torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(result), strict=True):
        np.testing.assert_array_equal(a, b)
    assert set(seen) == {(True, False, False)}
    assert state != (True, False, False)  # the caller still has its mode


def test_staged_refuses_tracers(verts):
    op, draws = torch_loss(toy, "staged"), make_draws()
    for transform in (jax.jit, jax.vmap):
        with pytest.raises(ZeroCopyError, match="tracers"):
            transform(lambda v: op(v, draws)[0])(verts)


def test_unknown_transport():
    with pytest.raises(BridgeError, match="staged, jit"):
        torch_loss(toy, "callback")


def _bad(change):
    def fn(v, draws, grad_out=None):
        loss, grad, metrics = toy(v, draws)
        return change(loss, grad, metrics)

    return FunctionCritic(fn, toy.metric_names)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("fn", "words"),
    [
        (_bad(lambda loss, grad, m: (loss.sum(), grad, m)), r"loss .* \[2\]"),
        (_bad(lambda loss, grad, m: (loss.double(), grad, m)), "float32"),
        (_bad(lambda loss, grad, m: (loss, grad[:1], m)), "gradient"),
        (_bad(lambda loss, grad, m: (loss, grad, {"t": loss})), "metric_names"),
        (_bad(lambda loss, grad, m: (loss, grad, {**m, "t": loss.sum()})), "metric 't'"),
    ],
)
def test_wrong_outputs_are_named(transport, fn, words, verts):
    op = torch_loss(fn, transport)
    with pytest.raises(BridgeError, match=words):
        op.loss_and_grad(verts, make_draws())


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_writing_into_the_inputs_is_an_error(transport, verts):
    def fn(v, draws, grad_out=None):
        v.add_(1)
        return toy(v, draws, grad_out)

    with pytest.raises(BridgeError, match="wrote into"):
        torch_loss(FunctionCritic(fn, toy.metric_names), transport).loss_and_grad(verts, make_draws())
