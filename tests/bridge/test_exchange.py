"""bridge.exchange: the same address on both sides, or a typed error that says what to do."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from bridge.errors import BridgeError
from bridge.exchange import ACCOUNT, ZeroCopyError, to_jax, to_torch

SHARED_DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "bfloat16", "float32", "complex64",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh_account():
    ACCOUNT.reset()


def _aligned(*shape, dtype=torch.float32):
    tensor = torch.ones(shape).to(dtype)
    assert tensor.data_ptr() % 64 == 0
    return tensor


@pytest.mark.parametrize("dtype", SHARED_DTYPES)
@pytest.mark.parametrize("shape", [(), (5,), (2, 3, 4), (0, 3)])
def test_shares_memory_both_ways(dtype, shape):
    x = jnp.ones(shape, dtype)
    tensor = to_torch(x)
    assert tensor.shape == shape and str(tensor.dtype) == f"torch.{dtype}"
    assert x.size == 0 or tensor.data_ptr() == x.unsafe_buffer_pointer()

    tensor = _aligned(*shape, dtype=getattr(torch, dtype))
    y = to_jax(tensor)
    assert y.shape == shape and y.dtype == dtype
    assert y.size == 0 or y.unsafe_buffer_pointer() == tensor.data_ptr()
    np.testing.assert_array_equal(np.asarray(y, np.complex64), np.ones(shape, np.complex64))
    assert ACCOUNT.aliased == x.nbytes + y.nbytes and ACCOUNT.copied == 0


def test_round_trip_is_the_same_address():
    x = jnp.arange(12.0).reshape(3, 4)
    assert to_jax(to_torch(x)).unsafe_buffer_pointer() == x.unsafe_buffer_pointer()


def test_requires_grad_is_detached():
    tensor = torch.ones(4, requires_grad=True)
    assert to_jax(tensor).unsafe_buffer_pointer() == tensor.data_ptr()


def test_inference_mode_of_the_caller_does_not_reach_the_tensor():
    with torch.inference_mode():
        assert not to_torch(jnp.ones(3)).is_inference()
        y = to_jax(torch.ones(3))
    np.testing.assert_array_equal(y, np.ones(3))


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: _aligned(4, 3).t(), "contiguous"),
        (lambda: _aligned(4, 8)[:, ::2], "contiguous"),
        (lambda: _aligned(4, 1).expand(4, 3), "contiguous"),
        (lambda: _aligned(65)[1:], "clone"),
        (lambda: _aligned(4, dtype=torch.int64), "int32"),
        (lambda: _aligned(4, dtype=torch.float64), "float32"),
        (lambda: _aligned(4, dtype=torch.complex64).conj(), "resolve_conj"),
        (lambda: _aligned(4, 3).to_sparse(), "to_dense"),
        (lambda: np.ones(3), "ndarray"),
        (lambda: torch.ones(3, device="meta"), "meta"),
    ],
)
def test_refuses_what_jax_would_copy(make, advice):
    with pytest.raises(ZeroCopyError, match=advice):
        to_jax(make())
    assert ACCOUNT.copied == 0 and ACCOUNT.aliased == 0


def test_x64_shares_wide_types():
    with jax.enable_x64(True):
        tensor = torch.arange(4)
        assert to_jax(tensor).unsafe_buffer_pointer() == tensor.data_ptr()


def _deleted():
    x = jnp.ones(3) + 1
    x.delete()
    return x


@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: np.ones(3), "jax.Array"),
        (lambda: torch.ones(3), "jax.Array"),
        (lambda: jax.random.key(0), "key_data"),
        (_deleted, "donated"),
        (lambda: jnp.ones(4, jnp.int4), "int4"),
    ],
)
def test_refuses_what_torch_cannot_share(make, advice):
    with pytest.raises(ZeroCopyError, match=advice):
        to_torch(make())


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad])
def test_refuses_tracers(transform):
    with pytest.raises(ZeroCopyError, match="tracer"):
        transform(lambda x: to_torch(x))(jnp.ones(3))


def test_error_is_one_a_caller_can_show():
    assert issubclass(ZeroCopyError, BridgeError) and issubclass(BridgeError, ValueError)


def test_waits_for_a_slow_producer():
    slow = jax.jit(lambda a: jax.lax.fori_loop(0, 30, lambda _, b: jnp.tanh(b @ a), a).sum(keepdims=True))
    a = jnp.eye(300) * 0.5
    expected = np.asarray(slow(a))
    for _ in range(5):
        assert float(to_torch(slow(a))) == float(expected[0, 0])


def test_memory_outlives_the_other_frameworks_handle():
    x = jnp.arange(1000.0) + 1
    tensor = to_torch(x)
    y = to_jax(torch.arange(1000.0) + 1)
    del x
    gc.collect()
    for _ in range(20):  # would reuse freed memory
        jnp.zeros(1000).block_until_ready()
        torch.zeros(1000)
    np.testing.assert_array_equal(tensor.numpy(), np.arange(1000.0) + 1)
    np.testing.assert_array_equal(y, np.arange(1000.0) + 1)


def test_donating_leaves_the_other_side_whole():
    x = jnp.zeros(4096) + 5
    tensor = to_torch(x)
    jax.jit(lambda a: a * 0, donate_argnums=0)(x).block_until_ready()
    assert bool((tensor == 5).all())


def test_snapshot_is_independent():
    before = ACCOUNT.snapshot()
    to_torch(jnp.ones(8))
    assert before.aliased == 0 and ACCOUNT.aliased == 32


# --- GPU


@pytest.fixture
def cuda():
    if not torch.cuda.is_available() or jax.default_backend() != "gpu":
        pytest.skip("needs a CUDA device in both frameworks (and MD_JAX_TEST_GPU=1, or the suite keeps JAX on the CPU)")
    return torch.device("cuda", 0)


@pytest.mark.gpu
class TestCuda:
    def test_shares_memory_both_ways(self, cuda):
        x = jax.device_put(jnp.arange(1000.0), jax.devices("cuda")[0])
        tensor = to_torch(x)
        assert tensor.device.type == "cuda" and tensor.data_ptr() == x.unsafe_buffer_pointer()
        tensor = torch.arange(1000.0, device=cuda)
        assert to_jax(tensor).unsafe_buffer_pointer() == tensor.data_ptr()
        assert ACCOUNT.copied == 0 and ACCOUNT.aliased == 8000

    @pytest.mark.parametrize("side_stream", [False, True])
    def test_streams_wait_for_slow_producers(self, cuda, side_stream):
        """A slow kernel fills the array just before it is handed over, on each side in turn."""
        n = 2048
        slow_jax = jax.jit(lambda a, k: jax.lax.fori_loop(0, 40, lambda _, b: b @ a, a) * 0 + k)
        eye = jax.device_put(jnp.eye(n), jax.devices("cuda")[0])
        eye_torch = torch.eye(n, device=cuda)
        stream = torch.cuda.Stream() if side_stream else torch.cuda.current_stream()
        for k in range(20):
            with torch.cuda.stream(stream):
                seen = to_torch(slow_jax(eye, float(k)))
                result = seen + 0
                work = eye_torch
                for _ in range(40):
                    work = work @ eye_torch
                handed = to_jax(work * 0 + result)
                total = jnp.sum(handed == k)
            assert int(total) == n * n, k

    def test_kept_tensors_survive_reuse(self, cuda):
        """Two steps of tensors are held, as bridge.op does, while both allocators are kept busy."""
        n = 1 << 22
        add = jax.jit(lambda a: jax.lax.fori_loop(0, 20, lambda _, b: b + 1, a))
        x, ring = jax.device_put(jnp.zeros(n), jax.devices("cuda")[0]), []
        for step in range(50):
            tensor = to_torch(x)
            out = tensor + 1
            ring = [*ring[-1:], (tensor, out)]
            x = add(to_jax(out))
            torch.full((n,), -1e9, device=cuda)  # overwrites what was freed too early
            jnp.full(n, -1e9)
            if step % 10 == 9:
                assert float(jnp.max(jnp.abs(x - 21 * (step + 1)))) == 0
