"""Wan 2.1 (text to video, 1.3 billion parameters) and Wan 2.2 TI2V (5 billion): flow prediction, a causal VAE.

Both VAEs take four frames at a time; that of Wan 2.2 TI2V first folds 2x2 pixels into channels, and its transformer is
given a time for each of its patches, all the same where no picture is given. Wan 2.2 A14B, of two transformers, is
refused.
"""

from __future__ import annotations

import dataclasses
import html
from typing import Any, TypeVar

import ftfy
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.hub import local_path
from bridge.priors.spec import PriorError, PriorSpec, Text, precision_name
from bridge.priors.transformer import flow
from bridge.priors.transformer.base import TransformerParts, VideoTransformerPrior, load_transformer_parts
from bridge.priors.tuning import recomputed

LICENCES = {"wan21": "Apache-2.0", "wan22": "Apache-2.0", "skyreels2": "its own (Skywork; see the hub page)"}
STRIDE = 4  # frames that the VAE takes at a time, behind the first


@dataclasses.dataclass(frozen=True)
class Version:
    """What a version of Wan was trained on, and whether it is the one with a time for each patch."""

    hub_id: str
    frames: int
    fps: float
    height: int
    width: int
    expanded: bool
    pipelines: tuple[str, ...]
    transformer: str = "WanTransformer3DModel"


# of the same networks; another pipeline may mean other ones (WanDMDPipeline: distilled to a few steps)
TEXT, PICTURE = ("WanPipeline", "WanVideoToVideoPipeline"), "WanImageToVideoPipeline"
VERSIONS = {
    "wan21": Version("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", 81, 16.0, 480, 832, False, TEXT),
    "wan22": Version("Wan-AI/Wan2.2-TI2V-5B-Diffusers", 121, 24.0, 704, 1280, True, (*TEXT, PICTURE)),
    "skyreels2": Version(
        "Skywork/SkyReels-V2-DF-1.3B-540P-Diffusers", 97, 24.0, 544, 960, False, (), "SkyReelsV2Transformer3DModel"
    ),
}


class WanPrior(VideoTransformerPrior):
    """Wan behind the Prior protocol; its VAE is in float32, as its authors advise."""

    text_length = 512
    text_masked = True

    def __init__(self, spec: PriorSpec, parts: TransformerParts, device: torch.device, shift: float) -> None:
        super().__init__(spec, parts, device)
        self._schedule, self._shift = parts.schedule, shift
        self._expanded = bool(parts.index.get("expand_timesteps"))
        shape = (1, -1, 1, 1, 1)
        self._mean = torch.tensor(self._vae.config.latents_mean, device=device).reshape(shape)
        self._std = torch.tensor(self._vae.config.latents_std, device=device).reshape(shape)

    def clean(self, text: str) -> str:
        """The text without curly quotes, ligatures, HTML entities and runs of spaces."""
        return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())

    def text_of(self, hidden: Float[Tensor, "P L D"], mask: Tensor) -> Text:
        """Zeros take the place of the filling; the transformer attends to them."""
        return Text(hidden * mask[..., None])

    def latents(self, clip: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 C f h w"]:
        """(mean - latents_mean) / latents_std."""
        mean = encode_in_chunks(self._vae, clip).chunk(2, dim=1)[0]
        return (mean.float() - self._mean) / self._std

    def pixels(self, z: Float[Tensor, "1 C f h w"]) -> Float[Tensor, "1 3 F H W"]:
        """The inverse of `latents`, but for what the VAE loses."""
        return self._vae.decode((z * self._std + self._mean).to(self._vae.dtype)).sample

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(1 - σ, σ) at times t, shifted as the folder's scheduler says."""
        return flow.alpha_sigma(t, self._shift)

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """The flow ε - z."""
        step = flow.timesteps(t, self._shift, self._schedule)
        if self._expanded:
            _, *patch = self._transformer.config.patch_size
            step = step[:, None].expand(-1, z_t.shape[2] * (z_t.shape[3] // patch[0]) * (z_t.shape[4] // patch[1]))
        return self._transformer(z_t, timestep=step, encoder_hidden_states=text.hidden).sample


P = TypeVar("P", bound=WanPrior)


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> WanPrior:
    """Wan 2.1 text-to-video or Wan 2.2 TI2V-5B, asked by text alone (Wan Team 2025).

    See `bridge.priors.spec.Loader`.
    """
    return load_as(WanPrior, name, path, device, dtype)


def load_as(kind: type[P], name: str, path: str, device: torch.device, dtype: torch.dtype) -> P:
    """The prior `name` of VERSIONS, of a class for its transformer.

    Raises:
        PriorError: the folder is missing, damaged, or another kind of model.
    """
    version = VERSIONS[name]
    folder = local_path(path, name, dtype, version.hub_id)
    parts = load_transformer_parts(
        folder, device, dtype, transformer=version.transformer, vae="AutoencoderKLWan",
        text_encoder="UMT5EncoderModel", vae_dtype=torch.float32,
        meanings=("expand_timesteps",) if version.expanded else (), pipelines=version.pipelines,
    )  # fmt: skip
    vae, model = parts.vae.config, parts.transformer.config
    fold = vae.get("patch_size") or 1
    if model.in_channels != vae.z_dim or (fold > 1) != version.expanded or model.image_dim:
        raise PriorError(
            f"{folder}: the transformer takes {model.in_channels} latent channels, the VAE makes {vae.z_dim}"
            f"{' in patches' * (fold > 1)}: it is no model for text to video of prior '{name}'."
        )
    if version.expanded and not parts.index.get("expand_timesteps"):
        raise PriorError(
            f"{folder / 'model_index.json'} has no expand_timesteps=true, which prior '{name}' (Wan 2.2 TI2V) needs."
        )
    spec = PriorSpec(
        name=name,
        kind="video",
        prediction="flow",
        frames=version.frames,
        fps=version.fps,
        height=version.height,
        width=version.width,
        latent_channels=vae.z_dim,
        pixel_stride=fold * 2 ** (len(vae.dim_mult) - 1),
        patch_size=model.patch_size[-1],
        frame_stride=STRIDE,
        frame_offset=1,
        pads_frames=True,
        dtype=precision_name(dtype),
        licence=LICENCES[name],
        origin=str(folder),
    )
    return kind(spec, parts, device, flow.shift_of(parts.schedule, folder))


def encode_in_chunks(vae: Any, clip: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 c f h w"]:
    """The encoder's output for a clip of 4k + 1 frames: the mean above the logarithm of the variance.

    The first frame, then four at a time, as AutoencoderKLWan does it; each chunk sees what the convolutions kept of the
    one before. For a gradient only these remains are stored, and a chunk is computed again when its turn comes.
    """
    # as many places as there are modules: more than there are convolutions
    kept: list[Tensor | None] = [None] * sum(1 for _ in vae.encoder.modules())

    def encode(frames: Tensor, *kept: Tensor | None) -> tuple[Tensor | None, ...]:
        cache = list(kept)
        return vae.encoder(frames, feat_cache=cache, feat_idx=[0]), *cache

    clip = fold_pixels(clip, vae.config.get("patch_size") or 1)
    encoded = []
    for frames in (clip[:, :, :1], *clip[:, :, 1:].split(STRIDE, dim=2)):
        if torch.is_grad_enabled():
            out, *kept = recomputed(encode, frames, *kept)
        else:
            out, *kept = encode(frames, *kept)
        encoded.append(out)
    return vae.quant_conv(torch.cat(encoded, dim=2))


def fold_pixels(clip: Float[Tensor, "N 3 F H W"], size: int) -> Float[Tensor, "N c F h w"]:
    """`size`×`size` pixels as channels, columns before rows, as AutoencoderKLWan orders them: c = 3·size²."""
    blocks = clip.unflatten(4, (-1, size)).unflatten(3, (-1, size))  # N 3 F h row w column
    return blocks.permute(0, 1, 6, 4, 2, 3, 5).flatten(1, 3)
