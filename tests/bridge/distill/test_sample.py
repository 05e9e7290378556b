"""Sampling: DDIM against diffusers' own, against the ODE's closed form, and whole clips of a tiny prior."""

import math

import pytest
import torch

from bridge.distill.prompts import embed_prompts
from bridge.distill.sample import ClipSampler, ddim, over_windows, times_of
from bridge.priors import Setup, load_prior
from tests.bridge.priors import tiny_priors


@pytest.mark.parametrize("clipped", [False, True])
def test_ddim_is_diffusers(clipped):
    from diffusers import DDIMScheduler

    scheduler = DDIMScheduler(prediction_type="sample", clip_sample=clipped, set_alpha_to_one=True)
    scheduler.set_timesteps(20)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((2, 3, 4, 5), generator=generator, dtype=torch.float64)

    def network(z, step):
        return 1.5 * torch.tanh(z.roll(1, dims=-1) + step / 500)

    z = noise
    for step in scheduler.timesteps.tolist():
        z = scheduler.step(network(z, step), step, z, use_clipped_model_output=clipped).prev_sample

    def denoise(z, t):
        guess = network(z, round(1000 * t))
        return guess.clamp(-1, 1) if clipped else guess

    def alpha_sigma(t):
        abar = scheduler.alphas_cumprod[round(1000 * t)].double().item()
        return abar**0.5, (1 - abar) ** 0.5

    ours = ddim(denoise, alpha_sigma, noise, [step / 1000 for step in scheduler.timesteps.tolist()])
    torch.testing.assert_close(ours, z, rtol=1e-5, atol=1e-5)


def test_many_steps_follow_the_ode():
    """Data N(0, s²): the flow scales the noise by s, for z_t = α z + σ ε has variance α² s² + σ² all along."""
    spread, noise = 0.3, torch.randn(50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def alpha_sigma(t):
        return math.cos(math.pi / 2 * t), math.sin(math.pi / 2 * t)

    def denoise(z, t):
        alpha, sigma = alpha_sigma(t)
        return alpha * spread**2 / (alpha**2 * spread**2 + sigma**2) * z

    def error(steps):
        times = torch.linspace(0.999, 0.001, steps, dtype=torch.float64).tolist()
        return float((ddim(denoise, alpha_sigma, noise, times) - spread * noise).abs().max())

    assert error(2000) < 0.005 and error(2000) < error(200) / 5


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    prior = load_prior("embedded", str(tiny_priors.packed_folder(tmp_path_factory.mktemp("prior"))), "cpu", "float32")
    prior.configure(Setup())
    return ClipSampler(prior, embed_prompts(prior, [["a person is walking"] * 4, ["a person is washing a window"] * 4]))


def test_a_clip_depends_on_its_own_noise_and_sentence_alone(sampler):
    noise = torch.randn((2, *sampler.prior.spec.latent_shape), generator=torch.Generator().manual_seed(2))
    azimuth = torch.tensor([0.1, 1.3])
    both = sampler(azimuth, noise, 4, 3.0, 4)
    assert both.shape == (2, 4, 16, 16, 3) and both.min() >= 0 and both.max() <= 1
    torch.testing.assert_close(sampler(azimuth[:1], noise[:1], 4, 3.0, 4), both[:1], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(sampler(azimuth, noise.flip(0), 4, 3.0, 4), both, atol=1e-3)
    assert sampler(azimuth, noise, 2, 1.0, 3).shape[1] == 3


def test_the_guidance_scale_is_that_of_classifier_free_guidance(sampler):
    """At scale 1 the empty prompt has no say: it is not even asked."""
    noise = torch.randn((2, *sampler.prior.spec.latent_shape), generator=torch.Generator().manual_seed(3))
    azimuth, one = torch.tensor([0.1, 1.3]), 1 + 1e-7
    torch.testing.assert_close(
        sampler(azimuth, noise, 3, 1.0, 4), sampler(azimuth, noise, 3, one, 4), rtol=1e-4, atol=1e-4
    )
    assert not torch.equal(sampler(azimuth, noise, 3, 1.0, 4), sampler(azimuth, noise, 3, 9.0, 4))


@pytest.mark.parametrize("starts", [[0, 1, 2, 3], [0, 3], [0, 2, 5]])
def test_a_long_clip_is_the_mean_of_its_windows(starts):
    """Against loops over frames; the last ones go round."""
    draw, frames, length = torch.Generator().manual_seed(4), 7, 4
    z = torch.randn(1, 2, frames, 1, 3, generator=draw)

    def denoise(clips, t):  # of a frame it says what depends on the window, too
        return t * clips + clips.mean(2, keepdim=True) * torch.arange(1.0, 5.0)[:, None, None]

    total, weight = torch.zeros_like(z), torch.zeros(frames)
    for start in starts:
        inside = [(start + i) % frames for i in range(length)]
        said = denoise(z[:, :, inside], 0.4)
        for i, frame in enumerate(inside):
            total[:, :, frame] += (1, 2, 2, 1)[i] * said[:, :, i]
            weight[frame] += (1, 2, 2, 1)[i]
    found = over_windows(denoise, torch.tensor(starts), length)(z, 0.4)
    torch.testing.assert_close(found, total / weight[:, None, None])


def test_a_long_clip_of_one_window_is_a_clip(sampler):
    noise = torch.randn((2, *sampler.prior.spec.latent_shape), generator=torch.Generator().manual_seed(2))
    azimuth, starts = torch.tensor([0.1, 1.3]), torch.zeros(3).long()
    clip = sampler(azimuth, noise, 4, 3.0, 4)
    torch.testing.assert_close(sampler.long(azimuth, noise, 4, 3.0, starts, torch.tensor([[0] * 3, [1] * 3])), clip)
    other = sampler.long(azimuth, noise, 4, 3.0, starts, torch.ones(2, 3).long())
    torch.testing.assert_close(other[1], clip[1])
    assert not torch.allclose(other[0], clip[0], atol=1e-3)


def test_times_fall_evenly():
    assert times_of(3) == pytest.approx([0.98, 0.5, 0.02])
