"""The whole training step on a GPU: nothing through the host, both transports alike, and what the CPU gives."""

import jax
import numpy as np
import pytest
import torch

from bridge.critic import Batching, FunctionCritic
from bridge.distill.critic import CriticSettings, VertexCritic
from bridge.distill.prompts import embed_prompts
from bridge.exchange import ACCOUNT
from bridge.op import TRANSPORTS
from bridge.priors import Setup, load_prior
from bridge.render.mesh import make_mesh
from md_jax.config import Config
from tests.bridge.distill.test_critic import PROMPTS, Draws, F, M, N, octahedron
from tests.bridge.priors import tiny_priors

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda():
    if not torch.cuda.is_available() or jax.default_backend() != "gpu":
        pytest.skip("needs a CUDA device in both frameworks (and MD_JAX_TEST_GPU=1, or the suite keeps JAX on the CPU)")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def start(transport):
    """A step function of the main job on the shipped prior, and a state that it has warmed up on."""
    from md_jax.fit.train import init_state, make_step
    from md_jax.run.build import make_job

    config = Config(steps=20, num_motions=2, device="cuda", dtype="float32", transport=transport, renderer="warp")
    job = make_job(config)
    step = make_step(config, job.problem, job.op)
    return step, init_state(config, job.params)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_step_waits_for_nothing_and_copies_nothing_through_the_host(transport):
    """By the profiler's trace, by torch (which raises where it would synchronise) and by the exchange's count."""
    step, state = start(transport)
    for _ in range(3):
        state, report = step(state)
    jax.block_until_ready((state, report))
    torch.cuda.synchronize()
    ACCOUNT.reset()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            for _ in range(3):
                state, report = step(state)
            jax.block_until_ready((state, report))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    names = [event.name for event in profile.events()]
    assert names, "the profiler saw nothing"
    assert not [name for name in names if "Memcpy" in name and ("HtoD" in name or "DtoH" in name)]
    assert ACCOUNT.calls == 3 and ACCOUNT.copied == 0


def test_both_transports_take_the_same_steps():
    """Up to the order in which atomics add."""
    losses = {}
    for transport in TRANSPORTS:
        step, state = start(transport)
        for _ in range(5):
            state, report = step(state)
        losses[transport] = np.asarray(report.terms["loss_sds"])
    np.testing.assert_allclose(losses["jit"], losses["staged"], rtol=1e-2)


def test_skinning_on_cuda_is_not_rounded_to_tf32():
    """JAX's default there would be: half a millimetre."""
    from md_jax.body import lbs
    from md_jax.body.model import load_body

    pose = np.random.default_rng(0).normal(scale=0.3, size=(4, 21, 3)).astype(np.float32)
    found = []
    for platform in ("cpu", "cuda"):
        with jax.default_device(jax.devices(platform)[0]):
            found.append(np.asarray(lbs.pose(lbs.bake(load_body()), pose)))
    np.testing.assert_allclose(found[1], found[0], atol=1e-5)


def judge(device, folder, dtype="float32", setup=None):
    """Loss and gradient of a critic on a device, for draws and vertices that are the same on each."""
    corners, faces = octahedron()
    generator = torch.Generator().manual_seed(0)
    verts = corners + 0.1 * torch.randn(M, F, 6, 3, generator=generator)
    colors = torch.rand(6, 3, generator=generator)
    draws = Draws(
        azimuth=torch.tensor([0.3, 3.4, 1.7, 4.8]),
        elevation=torch.full((N,), 0.2),
        t=torch.tensor([0.3, 0.5, 0.7, 0.9]),
        noise=torch.randn(N, 4, F, 16, 16, generator=generator),
    )
    prior = load_prior("modelscope", folder, device, dtype)
    if setup:
        prior.configure(setup)
    settings = CriticSettings(32, 32, 3.0, 0.8, (0.0, 0.0, 0.0), (0.9, 0.9, 0.9), supersample=2)
    critic = VertexCritic(prior, embed_prompts(prior, PROMPTS), make_mesh(faces, colors, device), settings)
    for _ in range(4 if setup else 1):  # a CUDA graph is warmed up, recorded and replayed
        loss, grad, _ = critic(verts.to(device), Draws(*(x.to(device) for x in draws)))
    return loss.cpu(), grad.cpu()


@pytest.fixture
def folder(tmp_path):
    return str(tiny_priors.video_folder(tmp_path))


@pytest.mark.parametrize(
    ("dtype", "setup", "close"),
    [
        ("float32", None, 1e-3),
        ("float16", None, 3e-2),
        ("float32", Setup(channels_last=True), 1e-3),
        ("float32", Setup(low_memory=True), 1e-3),
        ("float32", Setup(compile="on"), 1e-3),
        ("float32", Setup(compile="graphs"), 1e-3),
        ("float16", Setup(channels_last=True, compile="graphs"), 3e-2),
    ],
    ids=["float32", "float16", "channels_last", "low_memory", "compile", "graphs", "all of it"],
)
def test_the_critic_on_cuda_says_what_it_does_on_the_cpu(folder, dtype, setup, close):
    loss, grad = judge("cpu", folder)
    other, other_grad = judge("cuda", folder, dtype, setup)
    torch.testing.assert_close(other, loss, rtol=close, atol=0)
    for a, b in zip(grad, other_grad, strict=True):
        assert torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0) > 0.99


def test_running_out_of_memory_for_real_is_survived(folder):
    """A cap on torch's share of the card that a whole clip does not fit in and a part of it does."""
    from bridge.distill.retry import CarefulCritic

    tried = []

    def make(batching):
        tried.append(batching.prior_batch)

        def judge(verts, draws, grad_out):
            torch.empty(batching.prior_batch << 30, dtype=torch.uint8, device="cuda")
            return verts.sum(dim=(1, 2, 3)), verts.clone(), {}

        return FunctionCritic(judge)

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + 1.5 * 2**30) / total))
    try:
        draws = Draws(*(torch.zeros(4, device="cuda") for _ in range(4)))
        with pytest.warns(UserWarning, match="prior_batch"):
            CarefulCritic(make, Batching(4), retry=True)(torch.ones(2, 3, 4, 3, device="cuda"), draws)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert tried == [4, 2, 1]
