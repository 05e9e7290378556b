"""The frozen half of a training step: vertices and draws in, loss and dL/dvertices out.

camera → render → encode → z_t → predict → residual g → encodeᵀ → renderᵀ. The loss of a motion is ½‖z - stop(z - g)‖²,
summed over the latents and averaged over its views, so g is its gradient in the latents (DreamFusion's trick).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge import distill
from bridge.camera import Camera, azimuth_range_of_prompt, view_phrase
from bridge.mesh import Mesh
from bridge.priors.spec import Prior, Text
from bridge.render import render
from bridge.stopwatch import Stopwatch

QUARTERS = 4  # view phrases go by quarters of the circle


class ClipDraws(Protocol):
    """The draws that a teacher reads, N = M·views clips each; clip n belongs to motion n // views."""

    azimuth: Any  # (N,) radians
    elevation: Any  # (N,) radians
    t: Any  # (N,) diffusion times in (0, 1)
    noise: Any  # (N, C, f, h, w) standard normal


@dataclasses.dataclass(frozen=True)
class TeacherSettings:
    """How clips are filmed and judged. Angles in radians, lengths in metres."""

    height: int
    width: int
    distance: float
    fov: float
    target: tuple[float, float, float]  # the point that every camera looks at
    background: tuple[float, float, float]
    supersample: int = 2
    guidance: distill.Guidance = dataclasses.field(default_factory=distill.Guidance)
    prior_batch: int = 16  # clips rendered and judged at once
    encode_chunk: int = 0  # frames encoded at once in the backward pass; 0 = all


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The embedded prompts of M motions, one row for each (prompt, view phrase) pair."""

    positive: Text
    negative: Text
    row: Int[Tensor, "M 4"]  # row of each motion and quarter of the circle

    def of_clips(self, motion: Int[Tensor, "N"], azimuth: Float[Tensor, "N"]) -> tuple[Text, Text]:
        """(positive, negative) text of clips of these motions, filmed from these azimuths."""
        quarter = torch.floor(azimuth / (2 * math.pi / QUARTERS) + 0.5).long() % QUARTERS
        rows = self.row[motion, quarter]
        return self.positive.rows(rows), self.negative.rows(torch.zeros_like(rows))


def embed_prompts(prior: Prior, prompts: Sequence[str], negative: str = "", view_prompts: bool = True) -> Prompts:
    """Embed the prompts of M motions once, each as it reads from every quarter of the circle.

    A prompt that names a view itself is left as it is, and so is every prompt where `view_prompts` is off.

    Args:
        prior: its text encoder is used here, and freed.
        prompts: one sentence for each motion.
        negative: what guidance leads away from; empty: the empty prompt.
        view_prompts: whether each camera's view is added to the prompt.

    Raises:
        PriorError: the prior knows no action in a prompt.
    """
    table: dict[str, int] = {}
    row = torch.zeros(len(prompts), QUARTERS, dtype=torch.long)
    for m, prompt in enumerate(prompts):
        for quarter in range(QUARTERS):
            phrase = view_phrase(quarter * 2 * math.pi / QUARTERS)
            named = not view_prompts or azimuth_range_of_prompt(prompt) is not None
            text = prompt if named else f"{prompt.rstrip(' .,')}, {phrase}"
            row[m, quarter] = table.setdefault(text, len(table))
    conditioning = prior.embed(list(table), negative)
    return Prompts(conditioning.positive, conditioning.negative, row.to(conditioning.positive.hidden.device))


def distill_latents(
    prior: Prior,
    z: Float[Tensor, "N C f h w"],
    t: Float[Tensor, "N"],
    noise: Float[Tensor, "N C f h w"],
    texts: tuple[Text, Text],
    guidance: distill.Guidance,
) -> tuple[Float[Tensor, "N C f h w"], dict[str, Float[Tensor, "N"]]]:
    """The residual g of latents z and its per-clip metrics (see METRICS)."""
    alpha, sigma = prior.alpha_sigma(t)
    z_t = distill.add_noise(z, noise, alpha, sigma)
    conditional, unconditional = prior.predict(z_t, t, texts)
    guess = distill.Guess(conditional, unconditional, z, z_t, noise, alpha, sigma, prior.spec.prediction)
    g = distill.residual(guess, guidance)
    return g, {
        "t": t,
        "latent_grad_norm": g.flatten(1).norm(dim=1),
        "guidance_rms": (conditional - unconditional).flatten(1).square().mean(dim=1).sqrt(),
    }


METRICS = ("t", "latent_grad_norm", "guidance_rms", "vertex_grad_norm")

TeacherFn = Callable[..., tuple[Tensor, Tensor, dict[str, Tensor]]]


def make_teacher(prior: Prior, prompts: Prompts, mesh: Mesh, settings: TeacherSettings) -> TeacherFn:
    """The torch function behind `bridge.op.torch_loss`.

    Args:
        prior: a frozen prior.
        prompts: the embedded sentences of the M motions (`embed_prompts`).
        mesh: the body's triangles and colours, on the prior's device.
        settings: camera, picture and guidance.

    Returns:
        fn(verts (M, F, V, 3), draws, grad_out=None) -> (loss (M,), gradient (M, F, V, 3), metrics {name: (M,)}), with
        the attributes `metric_names` and `parts` (a `Stopwatch`); the gradient is written into `grad_out` where that
        is given.
    """
    device = mesh.device
    target = torch.tensor(settings.target, device=device)
    parts = Stopwatch()

    def one_batch(
        verts: Float[Tensor, "M F V 3"], motion: Int[Tensor, "n"], azimuth: Tensor, elevation: Tensor, t: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # fmt: skip
        """Loss (n,), gradient (n, F, V, 3) and metrics of n clips."""
        frames = verts.shape[1]
        camera = Camera(
            azimuth=azimuth.repeat_interleave(frames),  # one camera a clip
            elevation=elevation.repeat_interleave(frames),
            distance=settings.distance,
            fov_y=settings.fov,
            target=target,
        )
        with parts("render"), torch.enable_grad():
            leaf = verts[motion].flatten(0, 1).requires_grad_()
            pictures = render(
                leaf, camera, mesh, settings.height, settings.width, settings.supersample, settings.background
            )
        video = pictures.detach().unflatten(0, (-1, frames)).permute(0, 4, 1, 2, 3)
        with parts("encode"):
            z = prior.encode(video)
        with parts("predict"):
            g, metrics = distill_latents(prior, z, t, noise, prompts.of_clips(motion, azimuth), settings.guidance)
        with parts("encode"):
            g_video = prior.encode_vjp(video, g, settings.encode_chunk)
        with parts("render_backward"):
            g_pictures = g_video.permute(0, 2, 3, 4, 1).flatten(0, 1)
            (grad,) = torch.autograd.grad(pictures, leaf, g_pictures)
        return 0.5 * g.flatten(1).square().sum(dim=1), grad.unflatten(0, (-1, frames)), metrics

    def teacher(
        verts: Float[Tensor, "M F V 3"], draws: ClipDraws, grad_out: Float[Tensor, "M F V 3"] | None = None
    ) -> tuple[Float[Tensor, "M"], Float[Tensor, "M F V 3"], dict[str, Float[Tensor, "M"]]]:
        motions, clips = len(verts), len(draws.azimuth)
        views = clips // motions
        motion = torch.arange(clips, device=device) // views
        grad = torch.zeros_like(verts) if grad_out is None else grad_out.zero_()
        per_clip: list[dict[str, Tensor]] = []
        for part in torch.arange(clips, device=device).split(settings.prior_batch):
            loss, clip_grad, metrics = one_batch(
                verts.detach(), motion[part], draws.azimuth[part], draws.elevation[part], draws.t[part],
                draws.noise[part],
            )  # fmt: skip
            grad.index_add_(0, motion[part], clip_grad, alpha=1 / views)
            per_clip.append({"loss": loss, **metrics})
        means = {
            name: torch.cat([m[name] for m in per_clip]).float().unflatten(0, (motions, views)).mean(dim=1)
            for name in per_clip[0]
        }
        means["vertex_grad_norm"] = grad.flatten(1).norm(dim=1)
        return means.pop("loss"), grad, {name: means[name] for name in METRICS}

    teacher.metric_names = METRICS  # type: ignore[attr-defined]
    teacher.parts = parts  # type: ignore[attr-defined]
    return teacher
