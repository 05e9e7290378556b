"""CogVideoX 1.0 and 1.5 (text to video, 2 and 5 billion parameters): v-prediction with zero terminal SNR."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors import schedule
from bridge.priors.hub import local_path
from bridge.priors.schedule import check_table, described
from bridge.priors.spec import PriorError, PriorSpec, Text, precision_name
from bridge.priors.transformer.base import TransformerParts, VideoTransformerPrior, load_transformer_parts
from bridge.priors.tuning import recomputed

LICENCES = ("Apache-2.0", "CogVideoX licence (see the hub page)")  # 2B, 5B


class Version(NamedTuple):
    """A generation of the model, and what its folder does not state."""

    hub_id: str
    fps: float
    together: int  # latent frames that its transformer takes together
    size: tuple[int, int] | None  # pixels of its training, where its configuration states only how far positions reach


PIPELINES = ("CogVideoXPipeline", "CogVideoXVideoToVideoPipeline")  # of the same networks
SCHEDULERS = ("CogVideoXDDIMScheduler", "CogVideoXDPMScheduler")
VERSIONS = {
    "cogvideox": Version("THUDM/CogVideoX-2b", 8.0, 1, None),
    "cogvideox15": Version("THUDM/CogVideoX1.5-5B", 16.0, 2, (768, 1360)),
}


class CogVideoXPrior(VideoTransformerPrior):
    """CogVideoX behind the Prior protocol: 2B, 5B (rotary positions), and 1.5, which takes latent frames two by two.

    Clips of 1.5 make an odd number of latents; as in its training, a copy of the first is put before them.
    """

    text_length = 226

    def __init__(
        self, spec: PriorSpec, parts: TransformerParts, device: torch.device, alphas_cumprod: Float[Tensor, "T"]
    ) -> None:
        super().__init__(spec, parts, device)
        self._alphas_cumprod = alphas_cumprod.to(device)

    def latents(self, clip: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 C f h w"]:
        """The mean times the VAE's scaling factor."""
        mean = encode_in_chunks(self._vae, clip).chunk(2, dim=1)[0]
        z = mean.float() * self._vae.config.scaling_factor
        missing = -z.shape[2] % self.spec.frame_patch
        return torch.cat([z[:, :, :1].expand(-1, -1, missing, -1, -1), z], dim=2)

    def pixels(self, z: Float[Tensor, "1 C f h w"]) -> Float[Tensor, "1 3 F H W"]:
        """The inverse of `latents`, but for what the VAE loses."""
        z = z[:, :, self.spec.frame_patch - 1 :]  # without the copy
        return self._vae.decode((z / self._vae.config.scaling_factor).to(self._vae.dtype)).sample

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(α, σ) at times t from the folder's schedule; α reaches 0."""
        return schedule.alpha_sigma_from_table(t, self._alphas_cumprod)

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """The velocity α ε - σ z."""
        return self._transformer(
            z_t.transpose(1, 2),
            encoder_hidden_states=text.hidden,
            timestep=schedule.timesteps(t, len(self._alphas_cumprod)),
            image_rotary_emb=rotary_positions(self._transformer.config, *z_t.shape[2:], device=z_t.device),
        ).sample.transpose(1, 2)


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> CogVideoXPrior:
    """CogVideoX 1.0 or 1.5 (Yang et al. 2024).

    See `bridge.priors.spec.Loader`.
    """
    version = VERSIONS[name]
    folder = local_path(path, name, dtype, version.hub_id)
    parts = load_transformer_parts(
        folder, device, dtype, transformer="CogVideoXTransformer3DModel", vae="AutoencoderKLCogVideoX",
        text_encoder="T5EncoderModel", pipelines=PIPELINES,
    )  # fmt: skip
    vae, model = parts.vae.config, parts.transformer.config
    together = model.patch_size_t or 1
    # pictures alone are scaled by an inverted factor, which 1.0 has none of
    inverted = vae.invert_scale_latents and together == 1
    if model.in_channels != vae.latent_channels or model.ofs_embed_dim or together != version.together or inverted:
        generation = "1.5" if version.together > 1 else "1.0"
        raise PriorError(
            f"{folder}: the transformer takes {model.in_channels} latent channels in patches of {together} latent"
            f" frames, the VAE makes {vae.latent_channels}: it is no CogVideoX {generation} for text to video."
        )
    stride = 2 ** (len(vae.block_out_channels) - 1)
    height, width = version.size or (model.sample_height * stride, model.sample_width * stride)
    spec = PriorSpec(
        name=name,
        kind="video",
        prediction="v",
        frames=model.sample_frames,
        fps=version.fps,
        height=height,
        width=width,
        latent_channels=vae.latent_channels,
        pixel_stride=stride,
        patch_size=model.patch_size,
        frame_stride=int(vae.temporal_compression_ratio),
        frame_patch=version.together,
        frame_offset=1,
        pads_frames=True,
        dtype=precision_name(dtype),
        licence=LICENCES[model.use_rotary_positional_embeddings],
        origin=str(folder),
    )
    return CogVideoXPrior(spec, parts, device, alphas_cumprod(parts.schedule, folder))


def encode_in_chunks(vae: Any, clip: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 c f h w"]:
    """The encoder's output for a clip of 4k + 1 frames: the mean above the logarithm of the variance.

    Eight frames at a time, as AutoencoderKLCogVideoX does it: the first chunk takes what the others leave, and each
    sees what the convolutions kept of the one before. For a gradient only these remains are stored, and a chunk is
    computed again when its turn comes.
    """
    batch, frames = vae.num_sample_frames_batch_size, clip.shape[2]
    first = frames if frames < batch else batch + frames % batch
    kept: dict[str, Any] | None = None
    encoded = []
    for chunk in clip.split([first] + [batch] * ((frames - first) // batch), dim=2):
        encode = functools.partial(recomputed, vae.encoder) if torch.is_grad_enabled() else vae.encoder
        out, kept = encode(chunk, conv_cache=kept)
        encoded.append(out)
    z = torch.cat(encoded, dim=2)
    return z if vae.quant_conv is None else vae.quant_conv(z)


def alphas_cumprod(schedule: dict[str, Any], folder: Path) -> Float[Tensor, "T"]:
    """ᾱ of the training schedule: shifted in SNR, then brought to zero at its end.

    Raises:
        PriorError: the scheduler is not CogVideoX's, its model predicts something else than v, or its numbers are
            those of no schedule.
    """
    from diffusers import CogVideoXDDIMScheduler

    known = schedule.get("_class_name") in SCHEDULERS
    if not known or schedule.get("prediction_type") != "v_prediction" or "snr_shift_scale" not in schedule:
        raise PriorError(
            f"{folder / 'scheduler'} describes {schedule.get('_class_name')} with prediction_type"
            f" {schedule.get('prediction_type')!r}: expected v_prediction and snr_shift_scale, as CogVideoX has them."
        )
    with described(folder / "scheduler"):
        scheduler: Any = CogVideoXDDIMScheduler.from_config(schedule)
        return check_table(scheduler.alphas_cumprod.double().clamp(min=0))


def rotary_positions(config: Any, frames: int, height: int, width: int, *, device: torch.device) -> Any:
    """(cosines, sines) of the places of latents for models with rotary positions, else None, as CogVideoXPipeline."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    if not config.use_rotary_positional_embeddings:
        return None
    grid = (height // config.patch_size, width // config.patch_size)
    if config.patch_size_t:
        return get_3d_rotary_pos_embed(
            embed_dim=config.attention_head_dim,
            crops_coords=None,
            grid_size=grid,
            temporal_size=-(-frames // config.patch_size_t),
            grid_type="slice",
            max_size=(config.sample_height // config.patch_size, config.sample_width // config.patch_size),
            device=device,
        )
    native = (config.sample_width // config.patch_size, config.sample_height // config.patch_size)
    return get_3d_rotary_pos_embed(
        embed_dim=config.attention_head_dim,
        crops_coords=get_resize_crop_region_for_grid(grid, *native),
        grid_size=grid,
        temporal_size=frames,
        device=device,
    )
