"""bridge.priors.tuning: every way to run a prior gives the same numbers; half precision bears gradients of any size."""

import pytest
import torch

from bridge.priors import PriorError, Setup, load_prior
from bridge.priors.base import pull_back
from bridge.priors.spec import Text
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
    "setup",
    [
        Setup(channels_last=True),
        pytest.param(Setup(compile="graphs", compile_backend="eager"), marks=pytest.mark.slow),
        Setup(low_memory=True),
    ],
    ids=["channels_last", "graphs", "low_memory"],
)
def test_the_numbers_stay(folder, setup):
    expected = outputs(load_prior("modelscope", folder))
    prior = load_prior("modelscope", folder)
    prior.configure(setup)
    for value, other in zip(expected, outputs(prior), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5)


def test_what_is_tuned(folder):
    prior = load_prior("modelscope", folder)
    prior.configure(Setup(channels_last=True, low_memory=True))
    weights = [m.weight for m in prior._vae.modules() if isinstance(m, torch.nn.Conv2d) and m.weight.shape[1] > 1]
    assert weights and all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)
    assert prior._vae.encoder.gradient_checkpointing
    with pytest.raises(PriorError, match="off, on or graphs, got 'always'"):
        prior.configure(Setup(compile="always"))


def test_low_memory_is_one_frame_and_one_text_at_a_time(folder):
    prior = load_prior("modelscope", folder)
    batches = {"encoder": [], "unet": []}
    for name, network in (("encoder", prior._vae.encoder), ("unet", prior._unet)):
        network.register_forward_pre_hook(lambda module, inputs, name=name: batches[name].append(len(inputs[0])))
    for setup, encoder, unet in ((Setup(), [6], [4]), (Setup(low_memory=True), [2, 2, 2], [2, 2])):
        prior.configure(setup)
        z = prior.encode(torch.rand(2, 3, 3, 16, 16))
        text = Text(torch.zeros(2, 5, prior._unet.config.cross_attention_dim))
        prior.predict(z, torch.tensor([0.2, 0.7]), (text, text))
        assert (batches["encoder"], batches["unet"]) == (encoder, unet)
        batches["encoder"].clear(), batches["unet"].clear()


def test_what_a_prior_cannot_do_is_said(folder):
    prior = load_prior("modelscope", folder)
    assert prior.configure(Setup(frames=4, height=32, width=16, fps=8.0)) == ()
    assert prior.configure(Setup(fps=10.0)) == (
        "--fps=10: prior 'modelscope' takes no frame rate; its own videos have 8",
    )
    with pytest.raises(PriorError, match="noscale_arr is for VideoCrafter, and prior 'modelscope'"):
        prior.configure(Setup(scale_latents=False))
    with pytest.raises(PriorError, match="heights and widths that 2 divides, got 17x16"):
        prior.configure(Setup(height=17, width=16))


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
