"""The frozen half of a training step: vertices and draws in, loss and dL/dvertices out.

camera → render → encode → z_t → predict → residual g → encodeᵀ → renderᵀ. The loss of a motion is ½‖z - stop(z - g)‖²,
summed over the latents and averaged over its views, so g is its gradient in the latents (DreamFusion's trick). An image
prior judges a few frames of each clip in the same way, and its loss is added.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.critic import DEFAULT, Batching, Judgement, Stopwatch
from bridge.distill import objectives as distill
from bridge.distill.prompts import Prompts
from bridge.errors import BridgeError
from bridge.priors.base import vjp
from bridge.priors.spec import Prior, Text
from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import Mesh

METRICS = ("t", "latent_grad_norm", "guidance_rms", "vertex_grad_norm")
# With an image term the loss is the sum of two, and both are reported.
IMAGE_METRICS = ("loss_sds", "loss_image", "image_t", "image_latent_grad_norm", "image_guidance_rms")


class ClipDraws(Protocol):
    """The draws that a critic reads, N = M·views clips each; clip n belongs to motion n // views."""

    azimuth: Float[Tensor, "N"]  # radians
    elevation: Float[Tensor, "N"]  # radians
    t: Float[Tensor, "N"]  # diffusion times in (0, 1)
    noise: Float[Tensor, "N C f h w"]  # standard normal
    # where motions are longer than a clip, the first frame of each clip and the row of its sentence, else None:
    start: Int[Tensor, "N"] | None
    sentence: Int[Tensor, "N"] | None
    # read where there is an image term:
    frames: Int[Tensor, "N n"]  # frames that the image prior sees
    image_t: Float[Tensor, "N"]  # diffusion times in (0, 1)
    image_noise: Float[Tensor, "N C n h w"]  # standard normal


@dataclasses.dataclass(frozen=True)
class CriticSettings:
    """How clips are filmed and judged. Angles in radians, lengths in metres."""

    height: int
    width: int
    distance: float
    fov: float
    target: tuple[float, float, float]  # the point that every camera looks at
    background: tuple[float, float, float]
    cameras: tuple[float, ...] = (0.0,)  # azimuths of a clip's cameras from its first one, radians
    supersample: int = 2
    guidance: distill.Guidance = dataclasses.field(default_factory=distill.Guidance)
    antialias: str = "edge"  # see bridge.render.render
    renderer: str = "warp"  # its backend


@dataclasses.dataclass(frozen=True)
class Term:
    """A prior that judges clips, or an image prior that judges a few frames of each, filmed in its own size."""

    prior: Prior
    prompts: Prompts
    height: int
    width: int
    guidance: distill.Guidance
    weight: float = 1.0  # of an image prior's loss beside the video prior's


class VertexCritic:
    """A `bridge.critic.Critic` of the vertices (M, F, V, 3) of M motions: what a prior says of their renders.

    All views see the same F frames. Of motions longer than a clip each view sees frames of its own (the draws have a
    `start`), and the vertices are (M, views·F, V, 3).
    """

    def __init__(
        self,
        prior: Prior,
        prompts: Prompts,
        mesh: Mesh,
        settings: CriticSettings,
        image: Term | None = None,
        batching: Batching = DEFAULT,
    ) -> None:
        """Put a critic together; cheap.

        Args:
            prior: a frozen prior, configured for these clips.
            prompts: the embedded sentences of the M motions (`bridge.distill.prompts.embed_prompts`).
            mesh: the body's triangles and colours, on the prior's device.
            settings: camera, picture and guidance.
            image: an image prior beside it; the draws then hold its frames, times and noise.
            batching: how much is done at once.
        """
        self._mesh, self._settings, self._batching, self._image = mesh, settings, batching, image
        self._one_camera = dataclasses.replace(settings, cameras=(0.0,))  # as pictures are filmed
        self._video = Term(prior, prompts, settings.height, settings.width, settings.guidance)
        self.parts = Stopwatch(mesh.device)
        self.metric_names = METRICS if image is None else METRICS + IMAGE_METRICS

    def __call__(
        self, verts: Float[Tensor, "M F V 3"], draws: ClipDraws, grad_out: Float[Tensor, "M F V 3"] | None = None
    ) -> Judgement:
        """(loss (M,), gradient (M, F, V, 3), metrics {name: (M,)}); see `bridge.critic.Critic`."""
        views = len(draws.azimuth) // len(verts)
        clips = torch.arange(len(draws.azimuth), device=self._mesh.device)
        verts, image = verts.detach(), self._image
        grad = torch.zeros_like(verts) if grad_out is None else grad_out.zero_()
        owner = clips // views  # where the frames of a clip lie in `frames`, and their gradient in `grads`
        sentence = owner if draws.sentence is None else draws.sentence.long()
        frames, grads = verts, grad
        if draws.start is not None:
            owner = clips
            frames, grads = (x.view(len(clips), -1, *x.shape[2:]) for x in (verts, grad))
        of_clips: list[dict[str, Tensor]] = []
        for part in clips.split(self._batching.prior_batch):
            whose, text, camera = owner[part], sentence[part], (draws.azimuth[part], draws.elevation[part])
            loss, clip_grad, metrics = self._judge(
                self._video, frames[whose], text, *camera, draws.t[part], draws.noise[part]
            )
            grads.index_add_(0, whose, clip_grad, alpha=1 / views)
            if image is not None:
                shown = (whose[:, None], draws.frames[part].long())
                image_loss, image_grad, more = self._judge(
                    image, frames[shown], text, *camera, draws.image_t[part], draws.image_noise[part]
                )
                grads.index_put_(shown, image_grad * (image.weight / views), accumulate=True)
                metrics |= {"loss_sds": loss, "loss_image": image_loss}
                metrics |= {f"image_{name}": value for name, value in more.items()}
                loss = loss + image.weight * image_loss
            of_clips.append({"loss": loss, **metrics})
        means = means_over_views(of_clips, len(verts))
        means["vertex_grad_norm"] = grad.flatten(1).norm(dim=1)
        return means.pop("loss"), grad, {name: means[name] for name in self.metric_names}

    def _judge(
        self, term: Term, clips: Float[Tensor, "n f V 3"], sentence: Int[Tensor, "n"], azimuth: Tensor,
        elevation: Tensor, t: Tensor, noise: Tensor,
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:  # fmt: skip
        """Loss (n,), gradient (n, f, V, 3) and metrics of n clips."""
        with self.parts("render"), torch.enable_grad():
            leaf = clips.requires_grad_()
            settings = self._one_camera if term is self._image else self._settings
            pictures = film(leaf, azimuth, elevation, self._mesh, settings, term.height, term.width)
        frames = pictures.detach().movedim(-1, 1)
        with self.parts("encode"):
            z, pull_back = _encode(term.prior, frames, self._batching.encode_chunk)
        with self.parts("predict"):
            texts = term.prompts.of_clips(sentence, azimuth, distill.TEXTS[term.guidance.objective])
            g, metrics = distill_latents(term.prior, z, t, noise, texts, term.guidance)
        with self.parts("encode"):
            g_frames = pull_back(g)
        with self.parts("render_backward"):
            grad = vjp(pictures, leaf, g_frames.movedim(1, -1))
        return 0.5 * g.flatten(1).square().sum(dim=1), grad, metrics


def distill_latents(
    prior: Prior,
    z: Float[Tensor, "N C f h w"],
    t: Float[Tensor, "N"],
    noise: Float[Tensor, "N C f h w"],
    texts: tuple[Text, ...],
    guidance: distill.Guidance,
) -> tuple[Float[Tensor, "N C f h w"], dict[str, Float[Tensor, "N"]]]:
    """The residual g of latents z and its per-clip metrics (see METRICS); `texts` as in `distill.TEXTS`."""
    alpha, sigma = prior.alpha_sigma(t)
    z_t = distill.add_noise(z, noise, alpha, sigma)
    raws = prior.predict(z_t, t, texts)
    conditional, unconditional = raws[0], raws[min(1, len(raws) - 1)]
    negative = raws[2] if len(raws) > 2 else None
    guess = distill.Guess(conditional, unconditional, z, z_t, noise, alpha, sigma, prior.spec.prediction, t, negative)
    g = distill.residual(guess, guidance)
    return g, {
        "t": t,
        "latent_grad_norm": g.flatten(1).norm(dim=1),
        "guidance_rms": (conditional - unconditional).flatten(1).square().mean(dim=1).sqrt(),
    }


def film(
    clips: Float[Tensor, "n f V 3"],
    azimuth: Float[Tensor, "n"],
    elevation: Float[Tensor, "n"],
    mesh: Mesh,
    settings: CriticSettings,
    height: int,
    width: int,
) -> Float[Tensor, "n f H W 3"]:
    """Pictures in [0, 1] of n clips; differentiable in the vertices.

    A clip of several cameras (`settings.cameras`) holds their pictures side by side: W is the width of all of them.

    Raises:
        BridgeError: the cameras cannot share the width.
    """
    frames, cameras = clips.shape[1], len(settings.cameras)
    if width % cameras:
        raise BridgeError(
            f"{cameras} cameras share a picture's width: expected one that {cameras} divides, got {width}."
        )
    around = (azimuth[:, None] + _on_device(settings.cameras, mesh.device)).flatten()
    camera = Camera(
        azimuth=around.repeat_interleave(frames),
        elevation=elevation.repeat_interleave(cameras * frames),
        distance=settings.distance,
        fov_y=settings.fov,
        target=_on_device(settings.target, mesh.device),
    )
    pictures = render(
        clips[:, None].expand(-1, cameras, -1, -1, -1).flatten(0, 2),  # of one camera nothing is copied
        camera,
        mesh,
        height,
        width // cameras,
        settings.supersample,
        _on_device(settings.background, mesh.device),
        antialias=settings.antialias,
        backend=settings.renderer,
    )
    return pictures.unflatten(0, (-1, cameras, frames)).movedim(1, 3).flatten(3, 4)


@functools.lru_cache
def _on_device(numbers: tuple[float, ...], device: torch.device) -> Float[Tensor, "n"]:
    """A point, a colour or angles as a tensor; made once, since a copy to a GPU waits for it."""
    return torch.tensor(numbers, device=device)


def _encode(
    prior: Prior, video: Float[Tensor, "n 3 f H W"], chunk: int
) -> tuple[Tensor, Callable[[Tensor], Float[Tensor, "n 3 f H W"]]]:
    """Latents of clips, and what pulls a gradient back from them.

    Where all frames are encoded at once, that is done once and the activations are kept; in chunks it is done anew.
    """
    if chunk == 0:
        return prior.encode_and_vjp(video)
    return prior.encode(video), lambda g: prior.encode_vjp(video, g, chunk)


def means_over_views(of_clips: Sequence[Mapping[str, Tensor]], motions: int) -> dict[str, Float[Tensor, "M"]]:
    """Means over each motion's views of what batches of clips gave."""
    return {
        name: torch.cat([batch[name] for batch in of_clips]).float().unflatten(0, (motions, -1)).mean(dim=1)
        for name in of_clips[0]
    }
