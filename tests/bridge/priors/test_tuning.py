"""bridge.priors.tuning: every way to run a prior gives the same numbers; half precision bears gradients of any size."""

import pytest
import torch

from bridge.priors import PriorError, load_prior
from bridge.priors.base import pull_back
from bridge.priors.tuning import Tuning, tune
from tests.bridge.priors import tiny_priors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_priors.video_folder(tmp_path_factory.mktemp("prior")))


def outputs(prior):
    """What a step asks of a prior: latents, two predictions, a pulled-back gradient."""
    g = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 3, 16, 16, generator=g)
    z = prior.encode(video)
    noise = torch.randn(z.shape, generator=g)
    conditioning = prior.embed(["a person is walking"], "still")
    texts = conditioning.pair(torch.tensor([0, 0]))
    return (z, *prior.predict(noise, torch.tensor([0.2, 0.7]), texts), prior.encode_vjp(video, noise, chunk=2))


@pytest.mark.parametrize(
    "tuning",
    [Tuning(channels_last=True), Tuning(compile="graphs"), Tuning(sparing=True)],
    ids=["channels_last", "graphs", "sparing"],
)
def test_the_numbers_stay(folder, tuning):
    expected = outputs(load_prior("modelscope", folder))
    prior = load_prior("modelscope", folder)
    tune(prior, tuning, backend="eager")
    for value, other in zip(expected, outputs(prior), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


def test_what_is_tuned(folder):
    prior = load_prior("modelscope", folder)
    tune(prior, Tuning(channels_last=True, sparing=True))
    weights = [m.weight for m in prior._vae.modules() if isinstance(m, torch.nn.Conv2d) and m.weight.shape[1] > 1]
    assert weights and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert prior.sparing and prior._vae.encoder.gradient_checkpointing
    with pytest.raises(PriorError, match="off, on or graphs, got 'always'"):
        tune(prior, Tuning(compile="always"))


def test_attention_is_torchs_fused_one(folder):
    """SDPA; the processors that build the attention matrix would take memory of the square of the tokens."""
    prior = load_prior("modelscope", folder)
    kinds = {type(p).__name__ for n in (prior._unet, prior._vae) for p in n.attn_processors.values()}
    assert kinds == {"AttnProcessor2_0"}


def test_encoding_once_is_encoding_twice(folder):
    prior = load_prior("modelscope", folder)
    video = torch.rand(1, 3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        z, vjp = prior.encode_and_vjp(video)
    assert torch.equal(z, prior.encode(video)) and not z.requires_grad
    g = torch.randn(z.shape, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(vjp(g), prior.encode_vjp(video, g))


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e7])
def test_half_precision_bears_gradients_of_any_size(folder, size):
    video = torch.rand(2, 3, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    exact, half = (load_prior("modelscope", folder, dtype=dtype) for dtype in ("float32", "float16"))
    g = size * torch.randn(exact.encode(video).shape, generator=torch.Generator().manual_seed(2))
    g[1] *= 1e-3  # each clip by itself
    for a, b in zip(exact.encode_vjp(video, g), half.encode_vjp(video, g), strict=True):
        assert (a - b).norm() < 0.02 * a.norm()


def test_scaling_is_exact_in_float32():
    leaf = torch.linspace(-1, 1, 50).reshape(1, 50).requires_grad_()
    z = leaf.sin() * 3
    g = 1e5 * torch.randn(1, 50, generator=torch.Generator().manual_seed(0))
    (expected,) = torch.autograd.grad(z, leaf, g, retain_graph=True)
    assert torch.equal(pull_back(z, leaf, g), expected)


def test_no_gradient_and_bad_gradients_pass():
    leaf = torch.ones(2, 3, requires_grad=True)
    g = torch.tensor([[0.0, 0.0, 0.0], [torch.nan, 1.0, 1.0]])
    result = pull_back(leaf * 2, leaf, g)
    assert torch.equal(result[0], torch.zeros(3)) and result[1].isnan().any()
