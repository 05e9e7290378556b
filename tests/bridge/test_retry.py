"""bridge.retry: a full GPU names the flags that help, or does less at once with the same result."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch

from bridge.distill.critic import TeacherSettings, embed_prompts, make_teacher
from bridge.priors import load_prior
from bridge.render.mesh import make_mesh
from bridge.retry import OutOfMemory, halved, sparing
from tests.bridge.distill.test_critic import PROMPTS, Draws, F, M, N, octahedron
from tests.bridge.priors import tiny_priors

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 11.90 GiB of which 1 MiB is free"


@dataclasses.dataclass(frozen=True)
class Amounts:
    prior_batch: int = 16
    encode_chunk: int = 0


def maker(fits):
    """make(settings) -> a teacher that runs out of memory unless fits(settings); made.tried lists the settings."""

    def make(settings):
        def teacher(verts, draws, grad_out=None):
            make.tried.append((settings.prior_batch, settings.encode_chunk))
            grad = torch.zeros_like(verts) if grad_out is None else grad_out
            grad += 1  # half done
            if not fits(settings):
                raise torch.OutOfMemoryError(FULL)
            return verts.sum(dim=(1, 2, 3)), grad.fill_(2.0), {}

        teacher.metric_names, teacher.parts = (), object()
        return teacher

    make.tried = []
    return make


VERTS = torch.ones(2, 6, 5, 3)
CLIPS = SimpleNamespace(azimuth=torch.zeros(4))


def test_halves_clips_then_frames_until_it_fits():
    make = maker(lambda s: s.encode_chunk == 1)
    teacher = sparing(make, Amounts(), retry=True)
    place = torch.full_like(VERTS, 7.0)
    with pytest.warns(UserWarning, match=r"Tried to allocate 2.00 GiB\): going on with --prior_batch=2 \(was 16\)"):
        loss, grad, _ = teacher(VERTS, CLIPS, place)
    assert make.tried == [(16, 0), (2, 0), (1, 0), (1, 3), (1, 1)]
    assert grad is place and torch.equal(grad, torch.full_like(VERTS, 2.0)) and loss.shape == (2,)
    make.tried.clear()
    teacher(VERTS, CLIPS)  # what fitted is kept
    assert make.tried == [(1, 1)]


def test_names_the_flags_where_it_may_not_retry_or_nothing_is_left():
    for retry, tries in ((False, 1), (True, 5)):
        make = maker(lambda s: False)
        teacher = sparing(make, Amounts(), retry)
        with pytest.raises(OutOfMemory, match=r"2\.00 GiB.*--low_vram.*--oom=retry.*--prior_batch=1"):
            if retry:
                with pytest.warns(UserWarning):
                    teacher(VERTS, CLIPS)
            else:
                teacher(VERTS, CLIPS)
        assert len(make.tried) == tries


def test_other_errors_pass():
    def make(settings):
        def teacher(verts, draws, grad_out=None):
            raise RuntimeError("something else")

        teacher.metric_names, teacher.parts = (), None
        return teacher

    with pytest.raises(RuntimeError, match="something else"):
        sparing(make, Amounts(), retry=True)(VERTS, CLIPS)


def test_halving_ends():
    assert halved(Amounts(16, 0), clips=4, frames=10) == Amounts(2, 0)
    assert halved(Amounts(1, 0), clips=4, frames=10) == Amounts(1, 5)
    assert halved(Amounts(1, 5), clips=4, frames=10) == Amounts(1, 2)
    assert halved(Amounts(1, 1), clips=4, frames=10) is None


def test_a_real_teacher_gives_the_same_step_in_smaller_pieces(tmp_path):
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
    settings = TeacherSettings(16, 16, 3.0, 0.8, (0.0, 0.0, 0.0), (0.9, 0.9, 0.9), supersample=1)

    def make(settings):
        teacher = make_teacher(prior, prompts, mesh, settings)

        def limited(verts, draws, grad_out=None):
            result = teacher(verts, draws, grad_out)
            if settings.prior_batch > 1 or settings.encode_chunk != 2:
                raise torch.OutOfMemoryError(FULL)
            return result

        limited.metric_names, limited.parts = teacher.metric_names, teacher.parts
        return limited

    expected = make_teacher(prior, prompts, mesh, settings)(verts, draws)
    with pytest.warns(UserWarning):
        found = sparing(make, settings, retry=True)(verts, draws)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_prior_that_does_not_fit_at_all(monkeypatch):
    from bridge.priors import LOADERS, PriorError

    def load(path, device, dtype):
        raise torch.OutOfMemoryError(FULL)

    monkeypatch.setitem(LOADERS, "modelscope", load)
    with pytest.raises(PriorError, match=r"'modelscope' alone does not fit.*2\.00 GiB.*--dtype=float16"):
        load_prior("modelscope", "x", "cpu")
