"""A Prior made of a diffusers folder with a video transformer, a causal 3D VAE and a T5 text encoder.

`bridge.priors.transformer.wan`, `.cogvideox` and `.ltx` say what differs between the families.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.base import FrozenPrior, pull_back
from bridge.priors.folder import check_parts, check_vocabulary, class_name_of, read_index
from bridge.priors.spec import PriorError, PriorSpec, Text
from bridge.priors.transformer.t5_text import embed_texts, read_tokenizer
from bridge.priors.tuning import recomputed
from bridge.priors.weights.find import read_json
from bridge.priors.weights.networks import frozen, read_network

PARTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclasses.dataclass
class TransformerParts:
    """The components of a folder, on their device, frozen and in evaluation mode."""

    transformer: Any
    vae: Any
    tokenizer: Any
    text_encoder: Any
    schedule: dict[str, Any]  # scheduler_config.json
    index: dict[str, Any]  # model_index.json


def load_transformer_parts(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    *,
    transformer: str,
    vae: str,
    text_encoder: str,
    vae_dtype: torch.dtype | None = None,
    meanings: Sequence[str] = (),
    pipelines: Sequence[str] = (),
) -> TransformerParts:
    """Load every component of `folder`; nothing is downloaded and nothing is unpickled.

    Args:
        folder: a diffusers folder.
        device, dtype: where the networks go, and the precision of their weights; on the meta device nothing but the
            files' headers is read.
        transformer, vae, text_encoder: the classes that the family consists of.
        vae_dtype: the VAE's own precision, where that is another.
        meanings: entries of model_index.json that the family understands (`bridge.priors.folder.MEANINGS`).
        pipelines: those that model_index.json may name, where it names one; none: any.

    Raises:
        PriorError: the folder or a component is missing, damaged, or of another class; the parts do not fit together.
    """
    index = read_index(folder)
    names = {"transformer": transformer, "vae": vae, "text_encoder": text_encoder}
    for part, name in names.items():
        class_name_of(folder, index, part, (name,))
    if pipelines and index.get("_class_name") not in (None, *pipelines):
        raise PriorError(
            f"{folder / 'model_index.json'} is a {index['_class_name']}'s: expected {' or '.join(pipelines)}."
        )
    check_parts(folder, index, PARTS, meanings)
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    tokenizer = read_tokenizer(folder / "tokenizer")
    networks = {}
    for part, name in names.items():
        precision = vae_dtype if part == "vae" and vae_dtype is not None else dtype
        networks[part] = frozen(read_network(folder, part, name, precision, device), device)
    check_vocabulary(folder, tokenizer.get_vocab_size(), networks["text_encoder"])
    width = networks["text_encoder"].config.d_model
    config = networks["transformer"].config
    expected = next(config[key] for key in ("text_dim", "text_embed_dim", "caption_channels") if key in config)
    if width != expected:
        raise PriorError(
            f"{folder}: the transformer reads text of width {expected}, the text encoder writes {width}; they do not"
            " belong together."
        )
    return TransformerParts(**networks, tokenizer=tokenizer, schedule=schedule, index=index)


class VideoTransformerPrior(FrozenPrior):
    """The Prior protocol but for `alpha_sigma`; see `bridge.priors.spec.Prior`. The families fill in the rest."""

    text_length: int  # tokens a prompt
    text_masked = False  # whether the text encoder leaves the filling out of its attention

    def __init__(self, spec: PriorSpec, parts: TransformerParts, device: torch.device) -> None:
        super().__init__(spec, parts.transformer, parts.vae, parts.text_encoder)
        self._transformer = parts.transformer
        self._vae = parts.vae
        self._tokenizer = parts.tokenizer
        self._device = device
        if self._vae._supports_gradient_checkpointing:
            self._vae.enable_gradient_checkpointing(recomputed)

    def _read(self, texts: Sequence[str]) -> Text:
        cleaned = [self.clean(text) for text in texts]
        found = embed_texts(self._tokenizer, self._text_encoder, cleaned, self.text_length, masked=self.text_masked)
        return self.text_of(*found)

    def clean(self, text: str) -> str:
        """What the family's own pipeline does to a prompt before it is cut into tokens."""
        return text

    def text_of(self, hidden: Float[Tensor, "P L D"], mask: Tensor) -> Text:
        """What the family's transformer is given of the text encoder's output."""
        return Text(hidden)

    def encode(self, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N C f h w"]:
        """Latents of a video in [0, 1] (see `Prior.encode`)."""
        return encode_clips(self._encode, video)

    def encode_and_vjp(
        self, video: Float[Tensor, "N 3 F H W"]
    ) -> tuple[Float[Tensor, "N C f h w"], Callable[[Float[Tensor, "N C f h w"]], Float[Tensor, "N 3 F H W"]]]:
        """(`encode`(video), g -> `encode_vjp`(video, g)), with one pass less than the two."""
        return encode_clips_and_vjp(self._encode, video)

    def encode_vjp(
        self, video: Float[Tensor, "N 3 F H W"], g: Float[Tensor, "N C f h w"], chunk: int = 0
    ) -> Float[Tensor, "N 3 F H W"]:
        """g·∂encode/∂video, a whole clip at a time: `chunk` is not used, as frames depend on those before them."""
        return encode_clips_vjp(self._encode, video, g)

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "N C f h w"]) -> Float[Tensor, "N 3 F H W"]:
        """The video in [0, 1] of latents z (see `Prior.decode`); frames that `encode` has added come back as well."""
        video = torch.cat([self.pixels(clip) for clip in z.split(1)])
        return (video.float() / 2 + 0.5).clamp(0, 1)

    def _encode(self, clip: Tensor) -> Tensor:
        frames = self.spec.padded_frames(clip.shape[2])
        return self.latents((2 * pad_frames(clip, frames) - 1).to(self._vae.dtype))

    @abc.abstractmethod
    def latents(self, clip: Float[Tensor, "1 3 F H W"]) -> Float[Tensor, "1 C f h w"]:
        """The posterior's mean of a clip in [-1, 1], normalised, float32."""

    @abc.abstractmethod
    def pixels(self, z: Float[Tensor, "1 C f h w"]) -> Float[Tensor, "1 3 F H W"]:
        """The clip in [-1, 1] of normalised latents."""


# --- VAEs whose frames depend on those before them: a clip is encoded whole, one clip at a time; gradient checkpointing
# takes the place of chunks of frames, which would be wrong here ---

Encode = Callable[[Tensor], Tensor]


def pad_frames(video: Float[Tensor, "N C F H W"], frames: int) -> Float[Tensor, "N C G H W"]:
    """The clip with its last frame repeated up to `frames`; the gradient of the copies adds to that of the last."""
    missing = frames - video.shape[2]
    if missing <= 0:
        return video
    return torch.cat([video, video[:, :, -1:].expand(-1, -1, missing, -1, -1)], dim=2)


def encode_clips(encode: Encode, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N C f h w"]:
    """`encode` of each clip alone, without a gradient."""
    with torch.no_grad():
        return torch.cat([encode(clip) for clip in video.split(1)])


def encode_clips_and_vjp(
    encode: Encode, video: Float[Tensor, "N 3 F H W"]
) -> tuple[Float[Tensor, "N C f h w"], Callable[[Float[Tensor, "N C f h w"]], Float[Tensor, "N 3 F H W"]]]:
    """(latents, g -> g·∂latents/∂video), clip by clip; in between, what the checkpoints store is kept."""
    leaves = [clip.detach().requires_grad_() for clip in video.split(1)]
    with torch.enable_grad():
        encoded = [encode(leaf) for leaf in leaves]

    def vjp(g: Tensor) -> Tensor:
        return torch.cat([pull_back(z, leaf, part) for z, leaf, part in zip(encoded, leaves, g.split(1), strict=True)])

    return torch.cat([z.detach() for z in encoded]), vjp


def encode_clips_vjp(
    encode: Encode, video: Float[Tensor, "N 3 F H W"], g: Float[Tensor, "N C f h w"]
) -> Float[Tensor, "N 3 F H W"]:
    """g·∂latents/∂video, one clip's activations at a time."""
    return torch.cat(
        [encode_clips_and_vjp(encode, clip)[1](part) for clip, part in zip(video.split(1), g.split(1), strict=True)]
    )
