"""Latent mode: a video is rendered once and then optimised itself, as latents (Janson et al. 2024, the ablation)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.distill import objectives as distill
from bridge.distill.critic import ClipDraws, TeacherFn, TeacherSettings, distill_latents, film, per_motion
from bridge.distill.prompts import Prompts
from bridge.priors.spec import Prior
from bridge.profile import Stopwatch
from bridge.render.mesh import Mesh

METRICS = ("t", "latent_grad_norm", "guidance_rms")


@torch.no_grad()
def first_latents(
    prior: Prior,
    verts: Float[Tensor, "M F V 3"],
    azimuth: Float[Tensor, "M"],
    elevation: Float[Tensor, "M"],
    mesh: Mesh,
    settings: TeacherSettings,
) -> Float[Tensor, "M C f h w"]:
    """The latents of M clips, each filmed by one camera (radians)."""
    pictures = film(verts, azimuth, elevation, mesh, settings, settings.height, settings.width)
    return prior.encode(pictures.movedim(-1, 1)).contiguous()


def make_latent_teacher(prior: Prior, prompts: Prompts, guidance: distill.Guidance, prior_batch: int = 16) -> TeacherFn:
    """As `make_teacher`, for videos that are optimised themselves, as latents: no body, no camera but in the words.

    Returns:
        fn(z (M, C, f, h, w), draws, grad_out=None) -> (loss (M,), gradient like z, metrics {name: (M,)}).
    """
    parts = Stopwatch(prompts.row.device)

    def teacher(
        z: Float[Tensor, "M C f h w"], draws: ClipDraws, grad_out: Float[Tensor, "M C f h w"] | None = None
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M C f h w"], dict[str, Float[Tensor, "M"]]]:
        views = len(draws.azimuth) // len(z)
        motions = torch.arange(len(draws.azimuth), device=z.device) // views
        grad = torch.zeros_like(z) if grad_out is None else grad_out.zero_()
        per_clip: list[dict[str, Tensor]] = []
        for part in torch.arange(len(motions), device=z.device).split(prior_batch):
            motion = motions[part]
            with parts("predict"):
                texts = prompts.of_clips(motion, draws.azimuth[part], distill.TEXTS[guidance.objective])
                g, metrics = distill_latents(
                    prior, z.detach()[motion], draws.t[part], draws.noise[part], texts, guidance
                )
            grad.index_add_(0, motion, g, alpha=1 / views)
            per_clip.append({"loss": 0.5 * g.flatten(1).square().sum(dim=1), **metrics})
        means = per_motion(per_clip, len(z))
        return means.pop("loss"), grad, means

    teacher.metric_names = METRICS  # type: ignore[attr-defined]
    teacher.parts = parts  # type: ignore[attr-defined]
    return teacher


@torch.no_grad()
def decoded(prior: Prior, z: Float[Tensor, "M C f h w"], frames: int) -> Float[Tensor, "M F H W 3"]:
    """The videos of latents in [0, 1], one at a time; what a prior has filled up beyond `frames` is cut off."""
    videos = [prior.decode(one[None])[0, :, :frames].movedim(0, -1) for one in z]
    return torch.stack(videos).cpu()
