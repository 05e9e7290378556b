"""LTX-Video (text to video, 2 billion parameters): flow prediction, a causal VAE of 8×32×32 pixels a latent."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.hub import local_path
from bridge.priors.spec import PriorError, PriorSpec, Setup, Text, precision_name
from bridge.priors.transformer import flow
from bridge.priors.transformer.base import TransformerParts, VideoTransformerPrior, load_transformer_parts
from bridge.priors.transformer.ltx_file import file_and_texts, load_single_file

HUB_ID = "Lightricks/LTX-Video"
EARLY = 0.02  # a time of little noise, for a warning
# Each version is run as the pipeline that its folder names runs it; they differ in text and in time positions.
PLAIN = ("LTXPipeline", "LTXImageToVideoPipeline")  # 0.9.0 and 0.9.1
CONDITIONED = ("LTXConditionPipeline",)  # 0.9.5 to 0.9.8; diffusers' converter has written 0.9.5 as LTXPipeline, too
NEWER_BLOCK = "LTXVideo095DownBlock3D"  # of the VAE since 0.9.5
LICENCE = "its own (LTX-Video Open Weights; see the hub page)"
FRAMES, FPS, HEIGHT, WIDTH = 161, 25.0, 512, 704


class LTXPrior(VideoTransformerPrior):
    """LTX-Video behind the Prior protocol; it is told the frame rate and the size of the clip."""

    def __init__(self, spec: PriorSpec, parts: TransformerParts, device: torch.device, folder: Path) -> None:
        super().__init__(spec, parts, device)
        newer = NEWER_BLOCK in self._vae.config.down_block_types
        self._conditioned = newer or parts.index.get("_class_name") in CONDITIONED
        self.text_length = 256 if self._conditioned else 128
        self.text_masked = self._conditioned
        self._schedule, self._folder = parts.schedule, folder
        shape = (1, -1, 1, 1, 1)
        self._mean = self._vae.latents_mean.float().reshape(shape)
        self._std = self._vae.latents_std.float().reshape(shape) / self._vae.config.scaling_factor
        self._condition_on(spec.fps)
        self._prepare_for(spec.latent_shape)

    def _condition_on(self, fps: float) -> bool:
        self._fps = fps
        return True

    def configure(self, setup: Setup) -> tuple[str, ...]:
        """Prepare for a clip (see `Prior.configure`); warns of one larger than any that the scheduler has a shift for.

        Its pipeline, and so this prior, continues the shift in line, and never sees such a clip with little noise.
        """
        ignored = super().configure(setup)
        spec = self.spec
        clip = setup.frames or spec.frames, setup.height or spec.height, setup.width or spec.width
        latents = math.prod(spec.latent_shape_of(*clip)[1:])
        most = flow.most_latents(self._schedule)
        if self._schedule.get("use_dynamic_shifting") and latents > most:
            least = float(self.alpha_sigma(torch.tensor([EARLY]))[1])
            warnings.warn(
                f"prior '{spec.name}': a clip of {latents} latents is larger than the {most} that its scheduler"
                f" states a shift of times for; continued in line, the shift is {self._shift:.1f} and t = {EARLY:g} is"
                f" already σ = {least:.2f}. Take fewer frames, or a smaller --t_min.",
                stacklevel=2,
            )
        return ignored

    def _prepare_for(self, latents: tuple[int, int, int, int]) -> None:
        self._shift = flow.shift_of(self._schedule, self._folder, math.prod(latents[1:]))

    def _places(self, frames: int, height: int, width: int, device: torch.device) -> Float[Tensor, "1 3 L"]:
        """(seconds, row, column) of each latent's first pixel, as the pipeline of versions 0.9.5 on counts them.

        The first latent holds one frame alone, so the others begin that much earlier: at 1, 9, 17, ... frames.
        """
        stride, pixels = self.spec.frame_stride, self.spec.pixel_stride
        first = (torch.arange(frames, device=device) * stride + 1 - stride).clamp(min=0).float() / self._fps
        rows, columns = (torch.arange(size, device=device).float() * pixels for size in (height, width))
        return torch.stack(torch.meshgrid(first, rows, columns, indexing="ij")).flatten(1)[None]

    def text_of(self, hidden: Float[Tensor, "P L D"], mask: Tensor) -> Text:
        """The transformer leaves out the filling; the text encoder does so from version 0.9.5 on."""
        return Text(hidden, mask)

    def latents(self, clip: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 C f h w"]:
        """(mean - latents_mean) / latents_std, times the VAE's scaling factor."""
        return (self._vae.encode(clip).latent_dist.mean.float() - self._mean) / self._std

    def pixels(self, z: Float[Tensor, "1 C f h w"]) -> Float[Tensor, "1 3 F H W"]:
        """The inverse of `latents`, but for what the VAE loses; newer decoders are told that no noise is left."""
        time = torch.zeros(1, device=z.device) if self._vae.config.timestep_conditioning else None
        time = None if time is None else time.to(self._vae.dtype)
        return self._vae.decode((z * self._std + self._mean).to(self._vae.dtype), time).sample

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(1 - σ, σ) at times t, shifted by the number of latents."""
        return flow.alpha_sigma(t, self._shift)

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """The flow ε - z; the transformer takes and gives one row a latent."""
        frames, height, width = z_t.shape[2:]
        seconds, pixels = self.spec.frame_stride / self._fps, self.spec.pixel_stride
        places: dict[str, Any] = {"rope_interpolation_scale": (seconds, pixels, pixels)}  # between neighbouring latents
        if self._conditioned:
            places = {"video_coords": self._places(frames, height, width, z_t.device).expand(len(z_t), -1, -1)}
        rows = self._transformer(
            z_t.flatten(2).transpose(1, 2),
            encoder_hidden_states=text.hidden,
            timestep=flow.timesteps(t, self._shift, self._schedule),
            encoder_attention_mask=text.mask,
            num_frames=frames,
            height=height,
            width=width,
            **places,
        ).sample
        return rows.transpose(1, 2).unflatten(2, z_t.shape[2:])


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> LTXPrior:
    """LTX-Video 2B (HaCohen et al. 2024).

    See `bridge.priors.spec.Loader`, and for one file `bridge.priors.transformer.ltx_file`.
    """
    if found := file_and_texts(path):
        folder, parts = found[0], load_single_file(*found, device, dtype)
    else:
        folder = local_path(path, name, dtype, HUB_ID)
        parts = load_transformer_parts(
            folder, device, dtype, transformer="LTXVideoTransformer3DModel", vae="AutoencoderKLLTXVideo",
            text_encoder="T5EncoderModel",
        )  # fmt: skip
    vae, model = parts.vae.config, parts.transformer.config
    kind = parts.index.get("_class_name")
    if kind not in (*PLAIN, *CONDITIONED):
        raise PriorError(
            f"{folder / 'model_index.json'} is a {kind}'s: expected {PLAIN[0]} (LTX-Video 0.9.0 and 0.9.1) or"
            f" {CONDITIONED[0]} (0.9.5 to 0.9.8)."
        )
    if model.in_channels != vae.latent_channels or (model.patch_size, model.patch_size_t) != (1, 1):
        raise PriorError(
            f"{folder}: the transformer takes {model.in_channels} latent channels in patches of"
            f" {model.patch_size_t}x{model.patch_size}x{model.patch_size}, the VAE makes {vae.latent_channels}:"
            " expected the same number, and no patches."
        )
    spec = PriorSpec(
        name=name,
        kind="video",
        prediction="flow",
        frames=FRAMES,
        fps=FPS,
        height=HEIGHT,
        width=WIDTH,
        latent_channels=vae.latent_channels,
        pixel_stride=parts.vae.spatial_compression_ratio,
        frame_stride=parts.vae.temporal_compression_ratio,
        frame_offset=1,
        pads_frames=True,
        dtype=precision_name(dtype),
        licence=LICENCE,
        origin=str(folder),
    )
    return LTXPrior(spec, parts, device, folder)
