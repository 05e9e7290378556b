"""What the tests of several UNet families compare with a pipeline's own parts, to 1e-5."""

import torch

from bridge.distill import objectives as distill


def close(found, expected):
    """Equal to 1e-5."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def same_call(prior, texts, z, step, raw):
    """A call of the pipeline's network: z (2, ...) the latents twice, raw (2, ...) what came of them under the negative
    prompt and the prompt. Returns the prior's time and what it predicts of them."""
    t = step.reshape(1) / 1000
    found = prior.predict(z[:1], t, texts)
    close(found[0], raw[1:])
    close(found[1], raw[:1])
    return t, found


def same_estimate(prior, t, table, z, found, scale, final):
    """The last step of DDIM ends in its estimate of the sample, under the noise of the pipeline's own `table` entry."""
    alpha, sigma = table.sqrt()[None], (1 - table).sqrt()[None]
    close(prior.alpha_sigma(t)[0], alpha)
    close(prior.alpha_sigma(t)[1], sigma)
    close(distill.to_sample(distill.cfg(*found, scale), z[:1], alpha, sigma, prior.spec.prediction), final)


def same_encoding(prior, vae, frames, size):
    """Latents of a random video and the gradient pulled back through them; returns the latents."""
    g = torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, frames, size, size, generator=g)
    leaf = video.clone().requires_grad_()
    pictures = 2 * leaf[0].transpose(0, 1) - 1
    expected = (vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor).transpose(0, 1)[None]
    z = prior.encode(video)
    close(z, expected.detach())
    cotangent = torch.randn(z.shape, generator=g)
    (gradient,) = torch.autograd.grad(expected, leaf, cotangent)
    scale = gradient.abs().max()
    close(prior.encode_vjp(video, cotangent, 2) / scale, gradient / scale)
    return z
