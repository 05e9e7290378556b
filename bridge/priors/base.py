"""What the families of priors share, and a Prior made of a diffusers folder with a UNet.

The latter has a 2D or 3D UNet, a CLIP text encoder and, where there is one, a VAE that encodes frame by frame.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Sequence
from typing import Any

import ftfy
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from bridge.priors import schedule
from bridge.priors.folder import Parts
from bridge.priors.spec import Conditioning, PriorError, PriorSpec, Setup, ShownPoses, Text
from bridge.priors.tuning import tune


class FrozenPrior(abc.ABC):
    """The part of the Prior protocol that is the same for all families: `configure`, `embed` and `predict`.

    See `bridge.priors.spec.Prior`. A family says how it reads texts (`_read`) and what its network makes of noised
    latents (`output`).
    """

    def __init__(self, spec: PriorSpec, denoiser: Any, vae: Any | None, text_encoder: Any) -> None:
        self.spec = spec
        self._low_memory = False  # one text, and where frames are independent one frame, at a time
        self._networks = denoiser, vae
        self._text_encoder = text_encoder  # None: freed

    def configure(self, setup: Setup) -> tuple[str, ...]:
        """Prepare for clips of this size and rate, and for this way to run (see `Prior.configure`)."""
        spec = self.spec
        fps = spec.fps if setup.fps is None else setup.fps
        frames, height, width = setup.frames or spec.frames, setup.height or spec.height, setup.width or spec.width
        latents = spec.latent_shape_of(frames, height, width)
        if not 0 < fps < math.inf:
            raise PriorError(f"the frame rate must be a number above 0, got {fps}.")
        tune(*self._networks, setup)
        self._low_memory = setup.low_memory
        self._prepare_for(latents)
        self._scale_latents(setup.scale_latents)
        if not self._condition_on(fps) and fps != spec.fps:
            return (f"--fps={fps:g}: prior '{spec.name}' takes no frame rate; its own videos have {spec.fps:g}",)
        return ()

    def _prepare_for(self, latents: tuple[int, int, int, int]) -> None:  # noqa: B027  most families do nothing
        """Shift the times t as is right for clips of these latents (C, f, h, w), in families that do so."""

    def _scale_latents(self, on: bool) -> None:
        """Use the factor s_t of the latents that VideoCrafter is trained with, or leave it out."""
        if not on:
            raise PriorError(f"--noscale_arr is for VideoCrafter, and prior '{self.spec.name}' scales no latents.")

    def _condition_on(self, fps: float) -> bool:
        """Tell the model the frame rate of the clips; returns whether it takes one."""
        return False

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], negative: str = "") -> Conditioning:
        """Embed all prompts of a run, once; the text encoder is freed afterwards (see `Prior.embed`)."""
        if self._text_encoder is None:
            raise PriorError("the text encoder has been freed: embed every prompt of a run in one call.")
        text = self._read([*prompts, negative])
        self._text_encoder = None
        rows = torch.arange(len(prompts) + 1, device=text.hidden.device)
        return Conditioning(text.rows(rows[:-1]), text.rows(rows[-1:]))

    @torch.no_grad()
    def predict(
        self, z_t: Float[Tensor, "N C f h w"], t: Float[Tensor, "N"], texts: Sequence[Text]
    ) -> tuple[Float[Tensor, "N C f h w"], ...]:
        """Raw output under each of `texts`, as one batch (see `Prior.predict`)."""
        if self._low_memory and len(texts) > 1:
            return tuple(self.predict(z_t, t, (text,))[0] for text in texts)
        dtype = self._networks[0].dtype
        masks = [text.mask for text in texts if text.mask is not None]
        text = Text(torch.cat([text.hidden for text in texts]).to(dtype), torch.cat(masks) if masks else None)
        raw = self.output(torch.cat([z_t] * len(texts)).to(dtype), t.repeat(len(texts)), text)
        return raw.float().split(len(z_t))

    def poses(self, z: Float[Tensor, "N C f h w"]) -> ShownPoses | None:
        """The poses that latents show (see `Prior.poses`): most priors cannot tell."""
        return None

    @abc.abstractmethod
    def _read(self, texts: Sequence[str]) -> Text:
        """What the family's denoiser is given of texts, by its text encoder."""

    @abc.abstractmethod
    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """What the denoiser says of noised latents at times t in (0, 1); latents and text are in its own precision."""


class FolderPrior(FrozenPrior):
    """The Prior protocol over the parts of a diffusers folder; see `bridge.priors.spec.Prior`."""

    def __init__(self, spec: PriorSpec, parts: Parts, device: torch.device) -> None:
        super().__init__(spec, parts.unet, parts.vae, parts.text_encoder)
        self._unet = parts.unet
        self._vae = parts.vae
        self._vae_is_tiny = type(parts.vae).__name__ == "AutoencoderTiny"  # gives latents, not their distribution
        self._tokenizer = parts.tokenizer
        self._alphas_cumprod = parts.alphas_cumprod.to(device)
        self._packing = int(parts.settings.get("frame_packing", 0))
        self._device = device

    # --- text ---------------------------------------------------------------------------------------------------

    def _read(self, texts: Sequence[str]) -> Text:
        tokens = self._tokenizer(
            [ftfy.fix_text(text) for text in texts],  # as OpenAI's CLIP and open_clip do
            split_special_tokens=True,  # "<|endoftext|>" in a prompt is text
            padding="max_length",
            truncation=True,
            max_length=min(self._tokenizer.model_max_length, self._text_encoder.config.max_position_embeddings),
            return_tensors="pt",
        )
        return Text(self._text_encoder(tokens.input_ids.to(self._device)).last_hidden_state.float())

    # --- pixels and latents -------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N C f h w"]:
        """Latents of a video in [0, 1] (see `Prior.encode`)."""
        if self._low_memory:
            return torch.cat([self._encode(frame) for frame in video.split(1, dim=2)], dim=2)
        return self._encode(video)

    def encode_and_vjp(
        self, video: Float[Tensor, "N 3 F H W"]
    ) -> tuple[Float[Tensor, "N C f h w"], Callable[[Float[Tensor, "N C f h w"]], Float[Tensor, "N 3 F H W"]]]:
        """(`encode`(video), g -> `encode_vjp`(video, g)): encodes once, and keeps the activations in between."""
        with torch.enable_grad():
            leaf = video.detach().requires_grad_()
            z = self._encode(leaf)
        return z.detach(), lambda g: pull_back(z, leaf, g)

    def encode_vjp(
        self, video: Float[Tensor, "N 3 F H W"], g: Float[Tensor, "N C f h w"], chunk: int = 0
    ) -> Float[Tensor, "N 3 F H W"]:
        """g·∂encode/∂video, `chunk` frames at a time: exact, since frames are encoded one by one."""
        chunk = chunk or video.shape[2]
        parts = []
        with torch.enable_grad():
            for frames, g_frames in zip(video.split(chunk, dim=2), g.split(chunk, dim=2), strict=True):
                leaf = frames.detach().requires_grad_()
                parts.append(pull_back(self._encode(leaf), leaf, g_frames))
        return torch.cat(parts, dim=2)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "N C f h w"]) -> Float[Tensor, "N 3 F H W"]:
        """The video in [0, 1] of latents z (see `Prior.decode`)."""
        frames = self._pictures(z.transpose(1, 2).flatten(0, 1))
        return (frames / 2 + 0.5).clamp(0, 1).unflatten(0, (len(z), -1)).transpose(1, 2)

    def _encode(self, video: Tensor) -> Tensor:
        frames = video.transpose(1, 2).flatten(0, 1)
        if self.spec.fixed_size and frames.shape[-2:] != (self.spec.height, self.spec.width):
            size = (self.spec.height, self.spec.width)
            frames = functional.interpolate(frames, size, mode="bilinear", antialias=True)
        return self._latents(2 * frames - 1).unflatten(0, (len(video), -1)).transpose(1, 2)

    def _latents(self, frames: Float[Tensor, "n 3 H W"]) -> Float[Tensor, "n C h w"]:
        """Latents of frames in [-1, 1], one by one; without a VAE the frames themselves."""
        if self._vae is None:
            return frames
        encoded = self._vae.encode(frames.to(self._vae.dtype))
        mean = encoded.latents if self._vae_is_tiny else encoded.latent_dist.mean
        return mean.float() * self._vae.config.scaling_factor

    def _pictures(self, latents: Float[Tensor, "n C h w"]) -> Float[Tensor, "n 3 H W"]:
        """The inverse of `_latents`, as far as there is one."""
        if self._vae is None:
            return latents
        return self._vae.decode((latents / self._vae.config.scaling_factor).to(self._vae.dtype)).sample.float()

    # --- diffusion ----------------------------------------------------------------------------------------------

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(α, σ) at times t, from the folder's schedule."""
        return schedule.alpha_sigma_from_table(t, self._alphas_cumprod)

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """What the UNet says of noised latents (see `FrozenPrior.output`)."""
        inputs = pack_frames(z_t, self._packing, len(self.spec.cameras)) if self._packing else z_t
        raw = self._unet(inputs, schedule.timesteps(t, len(self._alphas_cumprod)), text.hidden).sample
        return unpack_frames(raw, self._packing, z_t.shape[1], len(self.spec.cameras)) if self._packing else raw


def pull_back(z: Tensor, leaf: Tensor, g: Tensor) -> Tensor:
    """g·∂z/∂leaf, where g may be of any size although the network in between computes in half precision.

    Half precision ends at 65504 and thins out below 6e-5, so each clip's g goes in with entries up to 1: scaled by a
    power of two, which changes nothing else.
    """
    largest = g.abs().amax(dim=tuple(range(1, g.ndim)), keepdim=True)
    scale = torch.exp2(largest.clamp(min=1e-30).log2().ceil())
    return vjp(z, leaf, g / scale) * scale


def vjp(output: Tensor, leaf: Tensor, cotangent: Tensor) -> Tensor:
    """cotangent·∂output/∂leaf.

    As the gradient of a sum: given the cotangent itself, `torch.autograd` imports SymPy to compare its shape, which
    takes a second of a run's start.
    """
    with torch.enable_grad():  # also where the caller wants none
        along = (output * cotangent).sum()
    return torch.autograd.grad(along, leaf)[0]


def pack_frames(video: Float[Tensor, "N C F H W"], packing: int, cameras: int = 1) -> Float[Tensor, "N c h w"]:
    """Frames as channels, each `packing`×`packing` block of pixels a channel group: c = cameras·C·F·packing².

    Pictures of several cameras, side by side in the width, are laid over each other, so that a denoiser sees what they
    show at one place of each picture together.
    """
    tiles = torch.cat(video.chunk(cameras, dim=-1), dim=1)
    return functional.pixel_unshuffle(tiles.flatten(1, 2), packing)


def unpack_frames(
    packed: Float[Tensor, "N c h w"], packing: int, channels: int, cameras: int = 1
) -> Float[Tensor, "N C F H W"]:
    """The inverse of `pack_frames`."""
    tiles = functional.pixel_shuffle(packed, packing).unflatten(1, (cameras * channels, -1))
    return torch.cat(tiles.chunk(cameras, dim=1), dim=-1)
