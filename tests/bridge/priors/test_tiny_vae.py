"""A tiny VAE in the gradient: its own autograd, the cosine that is told, and what it cannot stand in for."""

import gc
import weakref

import pytest
import torch

from bridge.priors import PriorError, load_prior
from bridge.priors.tiny_vae import with_tiny_vae
from tests.bridge.priors import tiny_priors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_priors.video_folder(tmp_path_factory.mktemp("video")))


@pytest.fixture
def clip(folder):
    g = torch.Generator().manual_seed(0)
    return torch.rand(2, 3, 3, 16, 16, generator=g), torch.randn(2, 4, 3, 8, 8, generator=g)


def test_the_gradient_is_the_tiny_ones_and_the_rest_the_priors(folder, clip, tmp_path):
    from diffusers import AutoencoderTiny

    video, g = clip
    plain = load_prior("modelscope", folder)
    prior = with_tiny_vae(plain, str(tiny_priors.tiny_vae_folder(tmp_path / "tiny")))
    torch.testing.assert_close(prior.encode(video), plain.encode(video))
    tiny = AutoencoderTiny.from_pretrained(tmp_path / "tiny")
    leaf = video.clone().requires_grad_()
    total = 0.0
    for frame in range(3):
        total = total + (tiny.encode(2 * leaf[:, :, frame] - 1).latents * g[:, :, frame]).sum()
    (expected,) = torch.autograd.grad(total, leaf)
    for chunk in (0, 1, 2):
        torch.testing.assert_close(prior.encode_vjp(video, g, chunk), expected, rtol=1e-4, atol=1e-6)
    z, pull = prior.encode_and_vjp(video)
    torch.testing.assert_close(z, plain.encode(video))
    torch.testing.assert_close(pull(g), expected, rtol=1e-4, atol=1e-6)
    exact = plain.encode_vjp(video, g)
    cosine = (expected * exact).sum() / expected.norm() / exact.norm()
    assert prior.cosine == pytest.approx(float(cosine), abs=1e-5)


def test_what_does_not_fit_is_refused(folder, tmp_path):
    prior = load_prior("modelscope", folder)
    with pytest.raises(PriorError, match="there is no such folder"):
        with_tiny_vae(prior, str(tmp_path / "gone"))
    with pytest.raises(PriorError, match="4 channels for 8x8 pixels, and prior 'modelscope' 4 for 2x2"):
        with_tiny_vae(prior, str(tiny_priors.tiny_vae_folder(tmp_path / "deep", blocks=4)))
    packed = load_prior("embedded", str(tiny_priors.packed_folder(tmp_path / "p")))
    with pytest.raises(PriorError, match="'embedded' has no VAE"):
        with_tiny_vae(packed, str(tmp_path / "deep"))


def test_the_text_encoder_is_freed_after_embedding(folder):
    prior = load_prior("modelscope", folder)
    encoder = weakref.ref(prior._text_encoder)
    prior.embed(["a person is walking"])
    gc.collect()
    assert encoder() is None


def test_peak_memory_grows_with_what_is_held():
    import numpy as np

    from bridge.diagnose import peak_memory

    before = peak_memory()["host"]
    held = np.ones(40_000_000)  # 305 MiB
    assert before > 50 and peak_memory()["host"] >= before
    assert peak_memory()["host"] > held.nbytes / 2**20
