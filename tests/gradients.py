"""Finite differences of what priors do to pictures."""

import torch


def check_gradient_of_every_frame(prior, frames=3, size=32):
    """`encode_vjp` in chunks against differences of `encode` along one random direction a frame."""
    g = torch.Generator().manual_seed(0)
    prior._vae.double()  # differences of float32 would drown in rounding
    video = torch.rand(1, 3, frames, size, size, generator=g)
    cotangent = torch.randn(prior.encode(video).shape, generator=g)
    gradient = prior.encode_vjp(video, cotangent, chunk=2)
    for frame in range(frames):
        direction = torch.zeros_like(video)
        direction[:, :, frame] = torch.randn(1, 3, size, size, generator=g)
        ahead, behind = (prior.encode(video + s * 1e-3 * direction).double() for s in (1, -1))
        numeric = ((ahead - behind) * cotangent).sum() / 2e-3
        exact = (gradient * direction).sum()
        assert abs(numeric - exact) < 1e-2 * gradient[:, :, frame].norm(), f"frame {frame}: {numeric}, {exact}"
    prior._vae.float()
