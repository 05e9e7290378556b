"""bridge.distill.retry: a full GPU names the flags that help, or does less at once with the same result."""

from types import SimpleNamespace

import pytest
import torch

from bridge.critic import Batching, FunctionCritic
from bridge.distill.critic import METRICS, CriticSettings, VertexCritic
from bridge.distill.prompts import embed_prompts
from bridge.distill.retry import CarefulCritic, halved
from bridge.errors import OutOfMemory
from bridge.priors import load_prior
from bridge.render.mesh import make_mesh
from tests.bridge.distill.test_critic import PROMPTS, Draws, F, M, N, octahedron
from tests.bridge.priors import tiny_priors

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.90 GiB of which 1 MiB is free"


def maker(fits):
    """make(batching) -> a critic that runs out of memory unless fits(batching); make.tried lists what was tried."""

    def make(batching):
        def judge(verts, draws, grad_out):
            make.tried.append((batching.prior_batch, batching.encode_chunk))
            grad = torch.zeros_like(verts) if grad_out is None else grad_out
            grad += 1  # half done
            if not fits(batching):
                raise torch.OutOfMemoryError(FULL)
            return verts.sum(dim=(1, 2, 3)), grad.fill_(2.0), {}

        return FunctionCritic(judge)

    make.tried = []
    return make


VERTS = torch.ones(2, 6, 5, 3)
CLIPS = SimpleNamespace(azimuth=torch.zeros(4))


def test_halves_clips_then_frames_until_it_fits():
    make = maker(lambda b: b.encode_chunk == 1)
    critic = CarefulCritic(make, Batching(), retry=True)
    place = torch.full_like(VERTS, 7.0)
    with pytest.warns(UserWarning, match=r"Tried to allocate 2.00 GiB\): going on with --prior_batch=2 \(was 16\)"):
        loss, grad, _ = critic(VERTS, CLIPS, place)
    assert make.tried == [(16, 0), (2, 0), (1, 0), (1, 3), (1, 1)]
    assert grad is place and torch.equal(grad, torch.full_like(VERTS, 2.0)) and loss.shape == (2,)
    make.tried.clear()
    critic(VERTS, CLIPS)  # what fitted is kept
    assert make.tried == [(1, 1)]


def test_names_the_flags_where_it_may_not_retry_or_nothing_is_left():
    for retry, tries in ((False, 1), (True, 5)):
        make = maker(lambda b: False)
        critic = CarefulCritic(make, Batching(), retry)
        with pytest.raises(OutOfMemory, match=r"2\.00 GiB.*--low_vram.*--oom=retry.*--prior_batch=1"):
            if retry:
                with pytest.warns(UserWarning):
                    critic(VERTS, CLIPS)
            else:
                critic(VERTS, CLIPS)
        assert len(make.tried) == tries


def test_other_errors_pass():
    def make(batching):
        def judge(verts, draws, grad_out):
            raise RuntimeError("something else")

        return FunctionCritic(judge)

    with pytest.raises(RuntimeError, match="something else"):
        CarefulCritic(make, Batching(), retry=True)(VERTS, CLIPS)


def test_halving_ends():
    assert halved(Batching(16, 0), clips=4, frames=10) == Batching(2, 0)
    assert halved(Batching(1, 0), clips=4, frames=10) == Batching(1, 5)
    assert halved(Batching(1, 5), clips=4, frames=10) == Batching(1, 2)
    assert halved(Batching(1, 1), clips=4, frames=10) is None


def test_a_real_critic_gives_the_same_step_in_smaller_pieces(tmp_path):
    corners, faces = octahedron()
    generator = torch.Generator().manual_seed(0)
    verts = corners + 0.1 * torch.randn(M, F, 6, 3, generator=generator)
    mesh = make_mesh(faces, torch.rand(6, 3, generator=generator))
    prior = load_prior("modelscope", str(tiny_priors.video_folder(tmp_path)))
    prompts = embed_prompts(prior, PROMPTS)
    draws = Draws(
        azimuth=torch.tensor([0.3, 3.4, 1.7, 4.8]),
        elevation=torch.full((N,), 0.2),
        t=torch.tensor([0.3, 0.5, 0.7, 0.9]),
        noise=torch.randn(N, 4, F, 8, 8, generator=generator),
    )
    settings = CriticSettings(16, 16, 3.0, 0.8, (0.0, 0.0, 0.0), (0.9, 0.9, 0.9), supersample=1)

    def make(batching):
        critic = VertexCritic(prior, prompts, mesh, settings, batching=batching)

        def limited(verts, draws, grad_out):
            result = critic(verts, draws, grad_out)
            if batching.prior_batch > 1 or batching.encode_chunk != 2:
                raise torch.OutOfMemoryError(FULL)
            return result

        return FunctionCritic(limited, critic.metric_names)

    expected = VertexCritic(prior, prompts, mesh, settings)(verts, draws)
    careful = CarefulCritic(make, Batching(), retry=True)
    assert careful.metric_names == METRICS
    with pytest.warns(UserWarning):
        found = careful(verts, draws)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_prior_that_does_not_fit_at_all(monkeypatch):
    from bridge.priors import LOADERS, PriorError

    def load(name, path, device, dtype):
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setitem(LOADERS, "modelscope", load)
    with pytest.raises(PriorError, match=r"'modelscope' alone does not fit.*2\.00 GiB.*--dtype=float16"):
        load_prior("modelscope", "x", "cpu")
