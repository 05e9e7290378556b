"""bridge.op on a GPU: shared memory, order of the streams, lifetime, nothing through the host."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bridge.critic import FunctionCritic
from bridge.exchange import ACCOUNT
from bridge.op import TRANSPORTS, torch_loss

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _fresh_account():
    ACCOUNT.reset()


@pytest.fixture
def cuda():
    if not torch.cuda.is_available() or jax.default_backend() != "gpu":
        pytest.skip("needs a CUDA device in both frameworks (and MD_JAX_TEST_GPU=1, or the suite keeps JAX on the CPU)")
    return torch.device("cuda", 0)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_cuda_long_run_matches_jax(cuda, transport):
    """Large arrays, slow kernels on both sides, nobody waits: a lost dependency or reused memory changes the result."""
    n, size = 1024, (1, 4, 100_000, 3)
    matrix = torch.eye(n, device=cuda)

    def fn(v, draws, grad_out=None):
        work = matrix
        for _ in range(20):
            work = work @ matrix
        grad = torch.mul(v, work[0, 0], out=torch.empty_like(v) if grad_out is None else grad_out)
        torch.full_like(v, -1e9)  # overwrites what was freed too early
        return v.square().flatten(1).sum(dim=1) / 2, grad, {}

    op = torch_loss(FunctionCritic(fn), transport)
    eye = jnp.eye(n)

    @jax.jit
    def slow(params):
        return params * jax.lax.fori_loop(0, 20, lambda _, b: b @ eye, eye)[0, 0]

    @jax.jit
    def whole(params):
        return params - 0.01 * op.loss_and_grad(slow(params), ())[1]

    step = jax.jit(lambda p, g: p - 0.01 * g)
    params = jax.device_put(jnp.ones(size), jax.devices()[0])
    for _ in range(100):
        params = whole(params) if transport == "jit" else step(params, op.loss_and_grad(slow(params), ())[1])
    np.testing.assert_allclose(params, np.full(size, 0.99**100), rtol=1e-4)
    assert ACCOUNT.copied == 0 and ACCOUNT.calls == 100


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_cuda_trace_has_no_host_transfer(cuda, transport):
    """A profiler trace of one step holds no copy between host and device."""

    def fn(v, draws, grad_out=None):
        return v.square().flatten(1).sum(dim=1) / 2, v.clone(), {}

    op = torch_loss(FunctionCritic(fn), transport)
    call = jax.jit(op.loss_and_grad) if transport == "jit" else op.loss_and_grad
    verts = jax.device_put(jnp.ones((1, 10, 10475, 3)), jax.devices()[0])
    jax.block_until_ready(call(verts, ()))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        jax.block_until_ready(call(verts, ()))
        torch.cuda.synchronize()
    names = [event.name for event in profile.events()]
    assert not [name for name in names if "Memcpy" in name and ("HtoD" in name or "DtoH" in name)]


def test_staged_results_are_torch_memory_on_the_gpu(cuda):
    """The addresses that torch saw are those of the JAX arrays, going in and coming out."""
    seen = {}

    def fn(v, draws, grad_out=None):
        loss, grad = v.square().flatten(1).sum(dim=1) / 2, v.clone()
        seen.update(verts=v.data_ptr(), draws=draws.data_ptr(), loss=loss.data_ptr(), grad=grad.data_ptr())
        return loss, grad, {}

    verts, draws = (jax.device_put(jnp.ones(shape), jax.devices()[0]) for shape in ((2, 3, 50, 3), (7,)))
    loss, grad, _ = torch_loss(FunctionCritic(fn), "staged").loss_and_grad(verts, draws)
    arrays = {"verts": verts, "draws": draws, "loss": loss, "grad": grad}
    assert seen == {name: x.unsafe_buffer_pointer() for name, x in arrays.items()}
    assert ACCOUNT.copied == 0 and ACCOUNT.aliased == sum(x.nbytes for x in arrays.values())


def test_the_jit_transport_writes_into_xlas_buffer(cuda):
    """With `grad_out` used there is no copy of the gradient, on the device either."""

    def fn(v, draws, grad_out):
        return v.square().flatten(1).sum(dim=1) / 2, torch.mul(v, 1, out=grad_out), {}

    verts = jax.device_put(jnp.full((2, 3, 50, 3), 2.0), jax.devices()[0])
    loss, grad, _ = jax.jit(torch_loss(FunctionCritic(fn), "jit").loss_and_grad)(verts, ())
    np.testing.assert_array_equal(grad, verts)
    assert ACCOUNT.copied == 0 and ACCOUNT.device_copied == loss.nbytes


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("slow_side", ["jax", "torch"])
def test_each_side_waits_for_the_others_slow_kernel(cuda, transport, slow_side):
    """A slow kernel fills what is handed over: whoever did not wait would read what was there before."""
    n, size = 4096, (1, 2, 50_000, 3)
    matrix = torch.full((n, n), 1.0 / n, device=cuda)
    ones = jax.device_put(jnp.full((n, n), 1.0 / n), jax.devices()[0])

    def fn(v, draws, grad_out=None):
        grad = torch.zeros_like(v) if grad_out is None else grad_out.zero_()
        factor = torch.ones((), device=v.device)
        if slow_side == "torch":
            work = matrix
            for _ in range(10):
                work = work @ matrix
            factor = work.sum() / n  # 1
        return (v * factor).flatten(1).sum(dim=1), grad.add_(v * factor), {}

    op = torch_loss(FunctionCritic(fn), transport)

    def make(k):
        factor = jax.lax.fori_loop(0, 10, lambda _, b: b @ ones, ones).sum() / n if slow_side == "jax" else 1.0
        return jnp.full(size, 1.0) * factor * k

    if transport == "jit":
        step = jax.jit(lambda k: op.loss_and_grad(make(k), ())[1] + 1)
    else:
        made, plus = jax.jit(make), jax.jit(lambda g: g + 1)

        def step(k):
            return plus(op.loss_and_grad(made(k), ())[1])

    for k in range(1, 21):
        np.testing.assert_allclose(step(float(k)), np.full(size, k + 1.0, np.float32), rtol=1e-3, err_msg=f"step {k}")


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_memory_in_flight_is_not_reused(cuda, transport):
    """Nobody waits for 60 steps while both allocators are asked for blocks of the very size that was handed over."""
    size = (1, 4, 100_000, 3)

    def fn(v, draws, grad_out=None):
        grad = torch.add(v, 1, out=torch.empty_like(v) if grad_out is None else grad_out)
        torch.cuda._sleep(2_000_000)  # about a millisecond in which the host runs ahead
        grad += 0 * v  # still reads what JAX handed over
        for _ in range(3):
            torch.full_like(v, float("nan"))
        return v.flatten(1).sum(dim=1), grad, {}

    op = torch_loss(FunctionCritic(fn), transport)
    half = jax.jit(lambda g: g * 0.5)
    whole = jax.jit(lambda v: op.loss_and_grad(v, ())[1] * 0.5)
    verts = jax.device_put(jnp.zeros(size), jax.devices()[0])
    for _ in range(60):
        verts = whole(verts) if transport == "jit" else half(op.loss_and_grad(verts, ())[1])
        jnp.full(size, jnp.nan)
    np.testing.assert_allclose(verts, np.ones(size, np.float32), rtol=1e-5)  # v -> (v + 1) / 2
