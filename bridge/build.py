"""The torch side of a run, put together by one function from plain values: `build`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
import torch
from jax import Array
from jaxtyping import Float, Int, UInt8

from bridge.critic import Batching, Critic
from bridge.distill.critic import CriticSettings, Term, VertexCritic
from bridge.distill.latents import LatentCritic, decoded, first_latents
from bridge.distill.objectives import Guidance
from bridge.distill.pictures import PictureCritic, distances
from bridge.distill.prompts import Prompts, embed_prompts
from bridge.distill.retry import CarefulCritic
from bridge.distill.sample import ClipSampler
from bridge.errors import BridgeError
from bridge.exchange import to_torch
from bridge.op import TorchLoss, torch_loss
from bridge.priors import Prior, PriorSpec, Setup, load_prior
from bridge.priors.spec import Compile
from bridge.priors.tiny_vae import TinyGradient, with_tiny_vae
from bridge.render.choice import choose, picture_seconds
from bridge.render.mesh import Mesh, make_mesh

__all__ = ["Guidance", "ImageRequest", "Request", "TorchSide", "build"]

Drawn = tuple[Int[np.ndarray, "T 3"], Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3"]]
"""A body to draw: its triangles, its vertices' colours (sRGB in [0, 1]), and where they are at rest (metres)."""

Sentences = Sequence[Sequence[str]]
"""(M, 4): what is said of each motion as seen from the front, its left, the back and its right."""


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """An image prior that judges a few frames of each clip beside the video prior."""

    prior: str
    path: str
    frames: int  # of each clip, at most the clip's
    size: int | None  # height and width of its pictures; None: the prior's
    guidance: Guidance
    weight: float  # of its loss beside the video prior's


@dataclasses.dataclass(frozen=True)
class Request:
    """What a run wants of the torch side. Angles in radians, lengths in metres; None: the prior's own."""

    device: str  # "cpu" or "cuda", as `bridge.configure.configure` returned it
    prior: str
    prior_path: str
    sentences: Sentences
    guidance: Guidance
    target: tuple[float, float, float]  # the point that every camera looks at
    negative: str = ""  # what guidance leads away from; empty: the empty prompt
    sources: Sentences | None = None  # what the videos look like so far, for the objective `source`
    latent: bool = False  # whether latents are judged, not vertices
    image: ImageRequest | None = None
    # the clip and its camera
    frames: int | None = None
    fps: float | None = None
    height: int | None = None
    width: int | None = None
    distance: float | None = None
    fov: float | None = None
    background: tuple[float, float, float] | None = None
    supersample: int = 2
    renderer: str = "auto"
    antialias: str = "edge"
    # how it is computed
    dtype: str = "auto"  # float16 on a GPU, else float32
    prior_batch: int = 16
    encode_chunk: int = 0
    scale_latents: bool = True
    low_memory: bool = False
    retry: bool = False  # when memory is full, try again with half as much at once
    compile: Compile = "off"
    tiny_vae: str = ""
    transport: str = "staged"


@dataclasses.dataclass(frozen=True)
class ImageClip:
    """What an image prior sees of each clip."""

    size: int  # height and width, pixels
    latent_shape: tuple[int, int, int, int]  # (C, n, h, w) of n frames


@dataclasses.dataclass(frozen=True)
class TorchSide:
    """The torch side of a run, as the JAX side sees it."""

    guided: TorchLoss
    unguided: TorchLoss  # the prior without the sentence
    spec: PriorSpec  # of the video prior
    frames: int
    height: int  # pixels
    width: int
    fps: float
    renderer: str
    latent_shape: tuple[int, int, int, int]  # (C, f, h, w) of a clip
    image: ImageClip | None  # None: there is no image prior
    ignored: tuple[str, ...]  # what of the request is without effect: one line each, for the user
    prior: Prior
    mesh: Mesh
    settings: CriticSettings
    sampler: ClipSampler
    pictures: TorchLoss  # of vertices and `bridge.distill.pictures.ClipTargets`

    def sample(
        self,
        azimuth: Float[Array, "M"],
        noise: Float[Array, "M C f h w"],
        steps: int,
        scale: float,
        windows: tuple[Int[np.ndarray, "n"], Int[np.ndarray, "M n"]] | None = None,
    ) -> Float[Array, "M F H W 3"]:
        """A clip of each motion from the prior, in [0, 1] (`bridge.distill.sample.ClipSampler`); of longer motions by
        `windows`: first frames and sentences of those that the prior sees."""
        drawn = to_torch(azimuth), to_torch(noise), steps, scale
        if windows is None:
            video = self.sampler(*drawn, self.frames)
        else:
            video = self.sampler.long(*drawn, *(torch.from_numpy(each).to(drawn[1].device) for each in windows))
        return jnp.asarray(video.cpu().numpy())

    def read(
        self, video: Float[Array, "M F H W 3"]
    ) -> tuple[Float[np.ndarray, "M F 22 3 3"], Float[np.ndarray, "M F"]] | None:
        """The poses that clips show, as the prior reads them (`bridge.priors.spec.ShownPoses`); None: it cannot."""
        found = self.prior.poses(self.prior.encode(to_torch(video).movedim(-1, 1)))
        return None if found is None else (found.rotations.cpu().numpy(), found.height.cpu().numpy())

    def distances(
        self,
        verts: Float[Array, "K V 3"],
        video: Float[Array, "F H W 3"],
        azimuth: Float[Array, ""],
        elevation: Float[Array, ""],
        blur: float,
    ) -> Float[np.ndarray, "F K"]:
        """How far each frame of a clip is from the render of each pose (`bridge.distill.pictures.distances`)."""
        posed, clip, around, above = map(to_torch, (verts, video, azimuth, elevation))
        return distances(posed, clip, around, above, self.mesh, self.settings, blur).cpu().numpy()

    def first_latents(
        self, verts: Float[Array, "M F V 3"], azimuth: Float[Array, "M"], elevation: Float[Array, "M"]
    ) -> Float[Array, "M C f h w"]:
        """The latents of M clips, each filmed by one camera (radians)."""
        z = first_latents(self.prior, to_torch(verts), to_torch(azimuth), to_torch(elevation), self.mesh, self.settings)
        return jnp.asarray(z.cpu().numpy())

    def decode(self, z: Float[Array, "M C f h w"]) -> UInt8[np.ndarray, "M F H W 3"]:
        """The videos of latents, by the prior's decoder."""
        video = decoded(self.prior, to_torch(jnp.asarray(z)), self.frames)
        return (255 * video.numpy()).round().astype(np.uint8)

    def tiny_vae_cosine(self) -> float | None:
        """Cosine between the first gradient through the tiny VAE and the one through the VAE itself, in the pixels.

        None: there is no tiny VAE, or no gradient has been taken.
        """
        return self.prior.cosine if isinstance(self.prior, TinyGradient) else None


def build(request: Request, drawn: Callable[[float], Drawn]) -> TorchSide:
    """Load, check and connect everything in torch.

    Args:
        request: what is wanted.
        drawn: the body to draw in pictures of so many samples a metre at the body's distance; called once. "auto" times
            the renderers on it.

    Raises:
        BridgeError: something cannot be found, loaded, or done as asked; the message says what to do.
    """
    device = request.device
    dtype = request.dtype if request.dtype != "auto" else "float16" if device == "cuda" else "float32"
    prior = load_prior(request.prior, request.prior_path, device, dtype)
    spec = prior.spec
    if spec.kind != "video":
        raise BridgeError(
            f"--prior={request.prior} makes pictures, not videos: choose a video prior, e.g. --prior=embedded."
        )
    frames, fps = request.frames or spec.frames, request.fps or spec.fps
    height, width = request.height or spec.height, request.width or spec.width
    setup = Setup(
        scale_latents=request.scale_latents,
        channels_last=device == "cuda",
        compile=request.compile,
        low_memory=request.low_memory,
    )
    ignored = prior.configure(dataclasses.replace(setup, frames=frames, height=height, width=width, fps=fps))
    if request.encode_chunk and spec.frame_stride > 1:
        ignored += (f"--encode_chunk={request.encode_chunk}: prior '{spec.name}' encodes a whole clip at a time",)
    if request.tiny_vae:
        prior = with_tiny_vae(prior, request.tiny_vae, device)
    prompts = embed_prompts(prior, request.sentences, request.negative, request.sources)

    distance, fov = request.distance or spec.distance, request.fov or spec.fov
    triangles, colors, vertices = drawn(height * request.supersample / (2 * distance * math.tan(fov / 2)))
    mesh = make_mesh(triangles, colors, device)
    settings = CriticSettings(
        height=height,
        width=width,
        distance=distance,
        fov=fov,
        target=request.target,
        background=request.background or spec.background,
        cameras=spec.cameras,
        supersample=request.supersample,
        guidance=request.guidance,
        antialias=request.antialias,
        renderer=_renderer(request, mesh, np.asarray(vertices), height, width),
    )
    image = _image_term(request, frames, dtype, dataclasses.replace(setup, scale_latents=True))
    image_clip = None
    if request.image is not None and image is not None:
        shape = image.prior.spec.latent_shape_of(request.image.frames, image.height, image.width)
        image_clip = ImageClip(image.height, shape)

    def loss(objective: str) -> TorchLoss:
        return torch_loss(_critic(request, objective, prior, prompts, mesh, settings, image), request.transport)

    return TorchSide(
        guided=loss(request.guidance.objective),
        unguided=loss("unguided"),
        spec=spec,
        frames=frames,
        height=height,
        width=width,
        fps=fps,
        renderer=settings.renderer,
        latent_shape=spec.latent_shape_of(frames, height, width),
        image=image_clip,
        ignored=ignored,
        prior=prior,
        mesh=mesh,
        settings=settings,
        sampler=ClipSampler(prior, prompts, request.prior_batch),
        pictures=torch_loss(PictureCritic(mesh, settings), "staged"),
    )


def _renderer(request: Request, mesh: Mesh, vertices: np.ndarray, height: int, width: int) -> str:
    """The rasteriser of the run; "auto" times those that are there on this body and picture."""

    def seconds(backend: str) -> float:
        return picture_seconds(backend, mesh, vertices, height, width, request.supersample)

    return choose(request.renderer, request.antialias, request.device, seconds)


def _image_term(request: Request, frames: int, dtype: str, setup: Setup) -> Term | None:
    wanted = request.image
    if wanted is None:
        return None
    if wanted.frames > frames:
        raise BridgeError(f"--image_frames must be at most the clip's {frames} frames, got {wanted.frames}.")
    prior = load_prior(wanted.prior, wanted.path, request.device, dtype)
    size = wanted.size or prior.spec.height
    prior.configure(dataclasses.replace(setup, frames=wanted.frames, height=size, width=size))
    prompts = embed_prompts(prior, request.sentences, request.negative, request.sources)
    return Term(prior, prompts, size, size, wanted.guidance, wanted.weight)


def _critic(
    request: Request,
    objective: str,
    prior: Prior,
    prompts: Prompts,
    mesh: Mesh,
    settings: CriticSettings,
    image: Term | None,
) -> Critic:
    """What judges a step by an objective of `bridge.distill.objectives`."""
    guidance = dataclasses.replace(settings.guidance, objective=objective)
    filmed = dataclasses.replace(settings, guidance=guidance)
    if image is not None:
        image = dataclasses.replace(image, guidance=dataclasses.replace(image.guidance, objective=objective))

    def make(batching: Batching) -> Critic:
        if request.latent:
            return LatentCritic(prior, prompts, guidance, batching.prior_batch)
        return VertexCritic(prior, prompts, mesh, filmed, image, batching)

    batching = Batching(request.prior_batch, request.encode_chunk)
    if request.low_memory:
        batching = Batching(1, request.encode_chunk or 1)
    return CarefulCritic(make, batching, request.retry)
