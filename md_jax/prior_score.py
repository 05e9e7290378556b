"""What a video prior itself says of motions: the denoising loss of their renders under each prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from md_jax import lbs, measures
from md_jax.errors import UserError

TIMES = (0.2, 0.35, 0.5, 0.65, 0.8)
VIEWS = 4  # front, left, back and right
NOISE_SEED = 0


def prompt_losses(
    body_pose: Float[np.ndarray, "M F 21 3"],
    prompts: Sequence[str],
    *,
    name: str = "embedded",
    path: str = "",
    batch: int = 16,
) -> Float[np.ndarray, "M P"]:
    """Mean squared error of the predicted clean latents of each motion's renders under each prompt.

    The same cameras, times and noise serve every motion and prompt: rows compare prompts, columns motions.
    Each camera's view is added to the prompt, as in a run.

    Args:
        body_pose: motions at the prior's rate and frame count; the root is not turned.
        prompts: sentences that the prior knows.
        name, path: the prior, as in --prior and --prior_path.
        batch: clips given to the prior at once.

    Raises:
        UserError: the motions do not have the prior's frame count.
        bridge.errors.BridgeError: the prior cannot be loaded or does not know a prompt.
    """
    import torch

    from bridge import distill
    from bridge.camera import Camera
    from bridge.configure import configure
    from bridge.mesh import make_mesh
    from bridge.priors import load_prior
    from bridge.render import render
    from bridge.teacher import embed_prompts
    from md_jax.job import body_centre

    device = configure("auto")
    prior = load_prior(name, path, device, "float16" if device == "cuda" else "float32")
    spec, frames = prior.spec, body_pose.shape[1]
    if spec.fixed_frames and frames != spec.frames:
        raise UserError(f"prior {name!r} takes {spec.frames} frames, the motions have {frames}.")
    embedded = embed_prompts(prior, prompts)
    body, baked = measures.free_body()
    mesh = make_mesh(body.triangles, body.vertex_colors, device)
    azimuth = (torch.arange(VIEWS, device=device) * (2 * math.pi / VIEWS)).repeat_interleave(frames)
    generator = torch.Generator().manual_seed(NOISE_SEED)
    shape = spec.latent_shape_of(frames, spec.height, spec.width)
    noise = torch.randn((len(TIMES), VIEWS, *shape), generator=generator).to(device)
    losses = np.zeros((len(body_pose), len(prompts)))
    for m, pose in enumerate(body_pose):
        vertices = torch.from_numpy(np.array(lbs.pose(baked, pose))).to(device).repeat(VIEWS, 1, 1)
        camera = Camera(
            azimuth=azimuth,
            elevation=torch.full_like(azimuth, sum(spec.elevation) / 2),
            distance=spec.distance,
            fov_y=spec.fov,
            target=torch.tensor(body_centre(body), device=device),
        )
        with torch.no_grad():
            pictures = render(vertices, camera, mesh, spec.height, spec.width, 2, spec.background)
            z = prior.encode(pictures.unflatten(0, (VIEWS, frames)).permute(0, 4, 1, 2, 3))
        cells = [(k, v) for k in range(len(TIMES)) for v in range(VIEWS)]
        for first in range(0, len(cells), batch):
            k, v = torch.tensor(cells[first : first + batch], device=device).T
            t = torch.tensor(TIMES, device=device)[k]
            alpha, sigma = prior.alpha_sigma(t)
            z_t = distill.add_noise(z[v], noise[k, v], alpha, sigma)
            for p in range(len(prompts)):
                text, _ = embedded.of_clips(torch.full_like(v, p), azimuth[::frames][v])
                (raw,) = prior.predict(z_t, t, [text])
                guess = distill.to_sample(raw, z_t, alpha, sigma, spec.prediction)
                losses[m, p] += (guess - z[v]).square().flatten(1).mean(dim=1).sum().item()
    return losses / (len(TIMES) * VIEWS)
