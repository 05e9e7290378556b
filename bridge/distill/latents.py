"""Latent mode: a video is rendered once and then optimised itself, as latents (Janson et al. 2024, the ablation)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.critic import Judgement, Stopwatch
from bridge.distill import objectives as distill
from bridge.distill.critic import ClipDraws, CriticSettings, distill_latents, film, means_over_views
from bridge.distill.prompts import Prompts
from bridge.errors import BridgeError
from bridge.priors.spec import Prior
from bridge.render.mesh import Mesh

METRICS = ("t", "latent_grad_norm", "guidance_rms")
BLANK = 1e-6  # pictures whose values differ by less show one colour


class LatentCritic:
    """Judges the latents (M, C, f, h, w) of M videos (a `bridge.critic.Critic`): no body, no camera but in the text."""

    metric_names = METRICS

    def __init__(self, prior: Prior, prompts: Prompts, guidance: distill.Guidance, prior_batch: int = 16) -> None:
        """Put a critic together; `prior_batch` is the number of videos judged at once."""
        self._prior, self._prompts, self._guidance, self._batch = prior, prompts, guidance, prior_batch
        self.parts = Stopwatch(prompts.row.device)

    def __call__(
        self, z: Float[Tensor, "M C f h w"], draws: ClipDraws, grad_out: Float[Tensor, "M C f h w"] | None = None
    ) -> Judgement:
        """(loss (M,), gradient like z, metrics {name: (M,)}); see `bridge.critic.Critic`."""
        views = len(draws.azimuth) // len(z)
        motions = torch.arange(len(draws.azimuth), device=z.device) // views
        grad = torch.zeros_like(z) if grad_out is None else grad_out.zero_()
        of_clips: list[dict[str, Tensor]] = []
        for part in torch.arange(len(motions), device=z.device).split(self._batch):
            motion = motions[part]
            with self.parts("predict"):
                texts = self._prompts.of_clips(motion, draws.azimuth[part], distill.TEXTS[self._guidance.objective])
                g, metrics = distill_latents(
                    self._prior, z.detach()[motion], draws.t[part], draws.noise[part], texts, self._guidance
                )
            grad.index_add_(0, motion, g, alpha=1 / views)
            of_clips.append({"loss": 0.5 * g.flatten(1).square().sum(dim=1), **metrics})
        means = means_over_views(of_clips, len(z))
        return means.pop("loss"), grad, means


@torch.no_grad()
def first_latents(
    prior: Prior,
    verts: Float[Tensor, "M F V 3"],
    azimuth: Float[Tensor, "M"],
    elevation: Float[Tensor, "M"],
    mesh: Mesh,
    settings: CriticSettings,
) -> Float[Tensor, "M C f h w"]:
    """The latents of M clips, each filmed by one camera (radians).

    Raises:
        BridgeError: a clip shows nothing: latents of an empty picture would be optimised.
    """
    pictures = film(verts, azimuth, elevation, mesh, settings, settings.height, settings.width)
    flat = pictures.flatten(1)
    if bool((flat.amax(dim=1) - flat.amin(dim=1) < BLANK).any()) or not bool(flat.isfinite().all()):
        raise BridgeError(
            "the body is not in the first picture, which is blank: give another --distance, --fov or --elevation (or"
            " leave them out: the prior has its own)."
        )
    return prior.encode(pictures.movedim(-1, 1)).contiguous()


@torch.no_grad()
def decoded(prior: Prior, z: Float[Tensor, "M C f h w"], frames: int) -> Float[Tensor, "M F H W 3"]:
    """The videos of latents in [0, 1], one at a time; what a prior has filled up beyond `frames` is cut off."""
    videos = [prior.decode(one[None])[0, :, :frames].movedim(0, -1) for one in z]
    return torch.stack(videos).cpu()
