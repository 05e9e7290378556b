"""What a prior says of finished motions: the denoising loss of their renders under each prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.distill import objectives as distill
from bridge.distill.critic import CriticSettings, film
from bridge.distill.prompts import embed_prompts
from bridge.priors import Prior
from bridge.render.mesh import Mesh

TIMES = (0.2, 0.35, 0.5, 0.65, 0.8)
VIEWS = 4  # front, left, back and right
NOISE_SEED = 0


@torch.no_grad()
def prompt_losses(
    prior: Prior,
    mesh: Mesh,
    vertices: Float[Tensor, "M F V 3"],
    prompts: Sequence[Sequence[str]],
    target: tuple[float, float, float],
    batch: int = 16,
) -> Float[Tensor, "M P"]:
    """Mean squared error of the predicted clean latents of each motion's renders under each prompt.

    The same cameras, times and noise serve every motion and prompt: rows compare prompts, columns motions.

    Args:
        prior: a video prior; its text encoder is used here, and freed.
        mesh: the body's triangles and colours, on the device of the vertices.
        vertices: motions at the prior's rate and frame count, metres.
        prompts: (P, 4), each sentence as it reads from the front, the left, the back and the right.
        target: the point that every camera looks at.
        batch: clips given to the prior at once.

    Raises:
        PriorError: the prior does not take such a clip.
    """
    spec, device, frames = prior.spec, vertices.device, vertices.shape[1]
    shape = spec.latent_shape_of(frames, spec.height, spec.width)
    embedded = embed_prompts(prior, prompts)
    azimuth = torch.arange(VIEWS, device=device) * (2 * math.pi / VIEWS)
    elevation = torch.full_like(azimuth, sum(spec.elevation) / 2)
    settings = CriticSettings(
        height=spec.height,
        width=spec.width,
        distance=spec.distance,
        fov=spec.fov,
        target=target,
        background=spec.background,
        cameras=spec.cameras,
    )
    generator = torch.Generator().manual_seed(NOISE_SEED)
    noise = torch.randn((len(TIMES), VIEWS, *shape), generator=generator).to(device)
    cells = torch.cartesian_prod(torch.arange(len(TIMES)), torch.arange(VIEWS)).to(device)
    losses = torch.zeros(len(vertices), len(prompts))
    for m, clip in enumerate(vertices):
        clips = clip.expand(VIEWS, *clip.shape)
        pictures = film(clips, azimuth, elevation, mesh, settings, spec.height, spec.width)
        z = prior.encode(pictures.movedim(-1, 1))
        for part in cells.split(batch):
            k, v = part.T
            t = torch.tensor(TIMES, device=device)[k]
            alpha, sigma = prior.alpha_sigma(t)
            z_t = distill.add_noise(z[v], noise[k, v], alpha, sigma)
            for p in range(len(prompts)):
                text = embedded.of_clips(torch.full_like(v, p), azimuth[v])[0]
                (raw,) = prior.predict(z_t, t, [text])
                guess = distill.to_sample(raw, z_t, alpha, sigma, spec.prediction)
                losses[m, p] += (guess - z[v]).square().flatten(1).mean(dim=1).sum().item()
    return losses / len(cells)
