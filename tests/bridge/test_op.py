"""bridge.op: the torch loss as a JAX function, by both transports: same numbers, one call, no copies, no recompiles."""

import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bridge.critic import FunctionCritic
from bridge.exchange import ACCOUNT
from bridge.op import TRANSPORTS, torch_loss
from tests.bridge.op_toys import F, M, V, draws_at, make_draws, make_verts, toy, toy_in_jax


@pytest.fixture
def verts():
    return make_verts()


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
        op = torch_loss(FunctionCritic(fn), transport)
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

    op = torch_loss(FunctionCritic(fn), transport)
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

    op = torch_loss(FunctionCritic(fn, toy.metric_names), transport)
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

    draws = make_draws()
    loss, grad, metrics = torch_loss(FunctionCritic(fn, toy.metric_names), "staged").loss_and_grad(verts, draws)
    pointers = {"verts": verts, "loss": loss, "grad": grad, "t": metrics["t"]}
    assert kept == {name: x.unsafe_buffer_pointer() for name, x in pointers.items()}
    every = [verts, grad, loss, *metrics.values(), *draws]
    assert (ACCOUNT.aliased, ACCOUNT.copied, ACCOUNT.device_copied) == (sum(x.nbytes for x in every), 0, 0)


@pytest.mark.parametrize("in_place", [True, False])
def test_jit_counts_copies_on_the_device_apart(in_place, verts):
    def fn(v, draws, grad_out):
        return toy(v, draws, grad_out if in_place else None)

    loss, grad, metrics = jax.jit(torch_loss(FunctionCritic(fn, toy.metric_names), "jit").loss_and_grad)(
        verts, make_draws()
    )
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
