"""bridge.op: the torch loss as a JAX function, by both transports: same numbers, one call, no copies, no recompiles."""

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bridge.errors import BridgeError
from bridge.exchange import ACCOUNT, ZeroCopyError
from bridge.op import TRANSPORTS, torch_loss

torch.set_num_threads(1)

M, F, V = 2, 3, 50


class Draws(NamedTuple):
    t: object
    noise: object
    frames: object  # int, or None


def toy(verts, draws, grad_out=None):
    """Autograd inside, a weighted sine; integer and missing draws are part of the game."""
    leaf = verts.detach().requires_grad_()
    scale = 1.0 if draws.frames is None else 1.0 + draws.frames.float().sum()
    loss = ((leaf * draws.noise).sin() * draws.t[:, None, None, None]).sum(dim=(1, 2, 3)) * scale
    (grad,) = torch.autograd.grad(loss.sum(), leaf)
    if grad_out is not None:
        grad = grad_out.copy_(grad)
    return loss.detach(), grad, {"t": draws.t + 0, "mean": verts.mean(dim=(1, 2, 3))}


toy.metric_names = ("t", "mean")


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


@pytest.fixture
def verts():
    return jnp.asarray(np.random.default_rng(9).normal(size=(M, F, V, 3)), jnp.float32)


@pytest.fixture(autouse=True)
def _fresh_account():
    ACCOUNT.reset()


@pytest.fixture
def compiles():
    """A list that grows by one at every compilation."""
    events = []

    def listen(name, duration, **kwargs):
        if name == "/jax/core/compile/backend_compile_duration":
            events.append(name)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    jax.monitoring.unregister_event_duration_listener(listen)


# --- values and gradients


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("frames", [True, False])
def test_loss_gradient_and_metrics_match_jax(transport, frames, verts):
    draws, op = make_draws(frames=frames), torch_loss(toy, transport)
    cotangent = jnp.array([2.0, -3.0])  # per motion
    (loss, metrics), pullback = jax.vjp(lambda v: op(v, draws), verts)
    zeros = jax.tree.map(jnp.zeros_like, metrics)
    (grad,) = pullback((cotangent, zeros))
    expected, expected_pullback = jax.vjp(lambda v: toy_in_jax(v, draws), verts)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    np.testing.assert_allclose(grad, expected_pullback(cotangent)[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["mean"], verts.mean(axis=(1, 2, 3)), atol=1e-6)
    np.testing.assert_array_equal(metrics["t"], draws.t)
    assert ACCOUNT.calls == 1 and ACCOUNT.copied == 0


def test_both_transports_give_the_same_bits(verts):
    draws = make_draws()
    staged, jitted = torch_loss(toy, "staged"), torch_loss(toy, "jit")

    def value_and_grad(op, v, d):
        return jax.value_and_grad(lambda v: op(v, d)[0].sum())(v)

    results = [
        jax.tree.leaves(staged.loss_and_grad(verts, draws)),
        jax.tree.leaves(jitted.loss_and_grad(verts, draws)),
        jax.tree.leaves(jax.jit(jitted.loss_and_grad)(verts, draws)),
    ]
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)
    eager = value_and_grad(staged, verts, draws)
    compiled = jax.jit(lambda v, d: value_and_grad(jitted, v, d))(verts, draws)
    np.testing.assert_array_equal(eager[1], compiled[1])
    np.testing.assert_array_equal(eager[1], results[0][1])


def test_draws_carry_no_gradient(verts):
    draws, op = make_draws(frames=False), torch_loss(toy, "staged")
    grads = jax.grad(lambda d: op(verts, d)[0].sum())(draws)
    assert all(not np.any(g) for g in jax.tree.leaves(grads))


def test_any_leading_shape(verts):
    """Latents (M, C, f, h, w) go through as well."""

    def fn(z, draws, grad_out=None):
        return z.square().flatten(1).sum(dim=1) / 2, z.clone(), {}

    z = verts.reshape(M, 3, F, 10, 5)
    for transport in TRANSPORTS:
        op = torch_loss(fn, transport)
        grad = jax.grad(lambda z, op=op: op(z, ())[0].sum())(z)
        np.testing.assert_array_equal(grad, z)


def test_in_scan_each_step_calls_torch_once(verts):
    draws, op = make_draws(), torch_loss(toy, "jit")

    def body(v, _):
        loss, grad, _ = op.loss_and_grad(v, draws)
        return v - 1e-3 * grad, loss

    _, losses = jax.jit(lambda v: jax.lax.scan(body, v, None, length=4))(verts)
    assert losses.shape == (4, M) and ACCOUNT.calls == 4


def test_equal_or_unused_calls_in_a_jit_still_reach_torch(verts):
    """Merging equal calls or dropping unused ones would make a step's number of torch calls depend on the compiler."""
    draws, op = make_draws(), torch_loss(toy, "jit")
    jax.block_until_ready(jax.jit(lambda v: op(v, draws)[0] + op(v, draws)[0])(verts))
    assert ACCOUNT.calls == 2
    jax.block_until_ready(jax.jit(lambda v: (op(v, draws), v + 1)[1])(verts))
    jax.effects_barrier()
    assert ACCOUNT.calls == 3


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_draws_may_be_any_tree_of_any_dtype(transport, verts):
    draws = {
        "half": [jnp.full((M,), 2.0, jnp.bfloat16), jnp.full((M,), 3.0, jnp.float16)],
        "flag": (jnp.array([True, False]), None),
        "seed": jnp.uint32(7),
        "none": jnp.zeros((0, 3)),
    }

    def fn(v, d, grad_out=None):
        assert d["flag"][1] is None and d["none"].shape == (0, 3) and d["seed"].dtype == torch.uint32
        loss = d["half"][0].float() * d["half"][1].float() + d["flag"][0].float() * int(d["seed"])
        return loss, v.clone(), {}

    op = torch_loss(fn, transport)
    loss, grad, _ = op.loss_and_grad(verts, draws)
    np.testing.assert_array_equal(loss, [13.0, 6.0])
    np.testing.assert_array_equal(grad, verts)
    np.testing.assert_array_equal(jax.grad(lambda v: op(v, draws)[0].sum())(verts), verts)
    assert ACCOUNT.copied == 0


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_threads_take_turns_in_torch(transport, verts):
    busy, draws = threading.Lock(), make_draws()

    def fn(v, d, grad_out=None):
        assert busy.acquire(blocking=False), "two torch calls at once"
        try:
            threading.Event().wait(0.002)
            return toy(v, d, grad_out)
        finally:
            busy.release()

    fn.metric_names = toy.metric_names
    op = torch_loss(fn, transport)
    expected = op.loss_and_grad(verts, draws)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: op.loss_and_grad(verts, draws), range(16)))
    for result in results:
        np.testing.assert_array_equal(result[1], expected[1])
    assert ACCOUNT.calls == 17


# --- zero copy


def test_staged_results_are_torch_memory(verts):
    kept = {}

    def fn(v, draws, grad_out=None):
        loss, grad, metrics = toy(v, draws)
        kept.update(verts=v.data_ptr(), loss=loss.data_ptr(), grad=grad.data_ptr(), t=metrics["t"].data_ptr())
        return loss, grad, metrics

    fn.metric_names = toy.metric_names
    draws = make_draws()
    loss, grad, metrics = torch_loss(fn, "staged").loss_and_grad(verts, draws)
    pointers = {"verts": verts, "loss": loss, "grad": grad, "t": metrics["t"]}
    assert kept == {name: x.unsafe_buffer_pointer() for name, x in pointers.items()}
    every = [verts, grad, loss, *metrics.values(), *draws]
    assert (ACCOUNT.aliased, ACCOUNT.copied, ACCOUNT.device_copied) == (sum(x.nbytes for x in every), 0, 0)


@pytest.mark.parametrize("in_place", [True, False])
def test_jit_counts_copies_on_the_device_apart(in_place, verts):
    def fn(v, draws, grad_out):
        return toy(v, draws, grad_out if in_place else None)

    fn.metric_names = toy.metric_names
    loss, grad, metrics = jax.jit(torch_loss(fn, "jit").loss_and_grad)(verts, make_draws())
    small = sum(x.nbytes for x in (loss, *metrics.values()))
    assert ACCOUNT.copied == 0 and ACCOUNT.device_copied == small + (0 if in_place else grad.nbytes)


def test_two_steps_are_kept_alive(verts):
    op = torch_loss(toy, "staged")
    for _ in range(5):
        op.loss_and_grad(verts, make_draws())
    assert len(op._kept) == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_training_loop_one_call_no_copies_no_recompiles(transport, compiles):
    """Parameters → jitted forward → torch → jitted backward and SGD: what a training step does, several times over."""
    op = torch_loss(toy, transport)
    rng = np.random.default_rng(3)
    basis = jnp.asarray(rng.normal(size=(7, F, V, 3)) * 0.1, jnp.float32)

    def forward(params):
        return jnp.tanh(jnp.tensordot(params, basis, axes=1))

    draw = jax.jit(draws_at)
    forward_jit = jax.jit(lambda params: jax.vjp(forward, params))
    backward_jit = jax.jit(lambda params, pullback, grad: params - 1e-4 * pullback(grad)[0])

    def staged(params, step):
        verts, pullback = forward_jit(params)
        loss, grad, _ = op.loss_and_grad(verts, draw(step))
        return backward_jit(params, pullback, grad), loss

    @jax.jit
    def whole(params, step):
        (loss, _), pullback = jax.vjp(lambda p: op(forward(p), draws_at(step)), params)
        (grad,) = pullback((jnp.ones_like(loss), {"t": jnp.zeros(M), "mean": jnp.zeros(M)}))
        return params - 1e-4 * grad, loss

    def plain(params, step):
        loss, pullback = jax.vjp(lambda p: toy_in_jax(forward(p), draws_at(step)), params)
        return params - 1e-4 * pullback(jnp.ones_like(loss))[0], loss

    step_fn = staged if transport == "staged" else whole
    # Committed from the start, as the parameters will be after a step with imported gradients.
    params = jax.device_put(jnp.asarray(rng.normal(size=(M, 7)), jnp.float32), jax.devices()[0])
    expected = params
    steps = [jnp.int32(k) for k in range(8)]
    for k in range(8):
        if k == 1:  # the first step is the warm-up
            assert compiles
            compiles.clear()
        before = ACCOUNT.snapshot()
        params, loss = step_fn(params, steps[k])
        jax.block_until_ready(params)
        assert ACCOUNT.calls == before.calls + 1 and ACCOUNT.copied == 0
        assert ACCOUNT.aliased > before.aliased + 2 * M * F * V * 3 * 4
    assert compiles == []
    for k in range(8):
        expected, expected_loss = plain(expected, steps[k])
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-4)
    np.testing.assert_allclose(params, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_eager_calls_do_not_recompile(transport, verts, compiles):
    op = torch_loss(toy, transport)
    every_draws = [make_draws(k) for k in range(4)]
    jax.block_until_ready(op.loss_and_grad(verts, every_draws[0]))
    compiles.clear()
    for draws in every_draws[1:]:
        jax.block_until_ready(op.loss_and_grad(verts, draws))
    assert compiles == []


# --- errors, interruptions, the caller's modes


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("error_type", [torch.OutOfMemoryError, ValueError, KeyboardInterrupt])
def test_the_original_error_is_raised_and_arrays_are_unharmed(transport, error_type, verts):
    faulty = True

    def fn(v, draws, grad_out=None):
        if faulty:
            raise error_type("no more memory for you")
        return toy(v, draws, grad_out)

    fn.metric_names = toy.metric_names
    op, draws, before = torch_loss(fn, transport), make_draws(), np.asarray(verts).copy()
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


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_ctrl_c_during_the_torch_call(transport, verts):
    started = threading.Event()

    def fn(v, draws, grad_out=None):
        started.set()
        for _ in range(2000):  # 20 s unless interrupted
            threading.Event().wait(0.01)
        return toy(v, draws, grad_out)

    fn.metric_names = toy.metric_names
    op, draws = torch_loss(fn, transport), make_draws()

    def press():
        started.wait(10)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt), op.original_errors():
        jax.block_until_ready(jax.jit(op.loss_and_grad)(verts, draws) if transport == "jit" else op(verts, draws))
    presser.join()
    op.fn = toy
    np.testing.assert_allclose(op(verts, draws)[0], toy_in_jax(verts, draws), rtol=1e-4)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_the_callers_torch_mode_changes_nothing(transport, mode, verts):
    seen = []

    def fn(v, draws, grad_out=None):
        seen.append((torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu")))
        return toy(v, draws, grad_out)

    fn.metric_names = toy.metric_names
    op, draws = torch_loss(fn, transport), make_draws()
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

    fn.metric_names = toy.metric_names
    return fn


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

    fn.metric_names = toy.metric_names
    with pytest.raises(BridgeError, match="wrote into"):
        torch_loss(fn, transport).loss_and_grad(verts, make_draws())


# --- GPU


@pytest.fixture
def cuda():
    if not torch.cuda.is_available() or jax.default_backend() != "gpu":
        pytest.skip("needs a CUDA device in both frameworks (and MD_JAX_TEST_GPU=1, or the suite keeps JAX on the CPU)")
    return torch.device("cuda", 0)


@pytest.mark.gpu
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

    op = torch_loss(fn, transport)
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


@pytest.mark.gpu
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_cuda_trace_has_no_host_transfer(cuda, transport):
    """A profiler trace of one step holds no copy between host and device."""

    def fn(v, draws, grad_out=None):
        return v.square().flatten(1).sum(dim=1) / 2, v.clone(), {}

    op = torch_loss(fn, transport)
    call = jax.jit(op.loss_and_grad) if transport == "jit" else op.loss_and_grad
    verts = jax.device_put(jnp.ones((1, 10, 10475, 3)), jax.devices()[0])
    jax.block_until_ready(call(verts, ()))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        jax.block_until_ready(call(verts, ()))
        torch.cuda.synchronize()
    names = [event.name for event in profile.events()]
    assert not [name for name in names if "Memcpy" in name and ("HtoD" in name or "DtoH" in name)]
