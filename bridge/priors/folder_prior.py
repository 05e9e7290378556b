"""A Prior made of a diffusers folder: a 2D or 3D UNet, a CLIP text encoder and, where there is one, a per-frame VAE."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from bridge import distill
from bridge.priors.diffusers_folder import Parts
from bridge.priors.spec import Conditioning, PriorError, PriorSpec, Text


class FolderPrior:
    """The Prior protocol over the parts of a diffusers folder; see `bridge.priors.spec.Prior`."""

    def __init__(self, spec: PriorSpec, parts: Parts, device: torch.device) -> None:
        self.spec = spec
        self._unet = parts.unet
        self._vae = parts.vae
        self._tokenizer = parts.tokenizer
        self._text_encoder = parts.text_encoder
        self._alphas_cumprod = parts.alphas_cumprod.to(device)
        self._vocabulary = parts.vocabulary
        self._moments: dict[str, int] = parts.settings.get("moments", {})
        self._packing = int(parts.settings.get("frame_packing", 0))
        self._device = device
        self.sparing = False  # one text and one frame at a time (bridge.priors.tuning)

    # --- text ---------------------------------------------------------------------------------------------------

    def check_prompt(self, prompt: str) -> None:
        """Raise PriorError where a prior of closed vocabulary knows no action in `prompt`."""
        if self._vocabulary and not known_actions(prompt, self._vocabulary):
            known = [_spoken(action, phrases) for action, phrases in self._vocabulary.items()]
            raise PriorError(
                f"prior '{self.spec.name}' knows no action in the prompt {prompt!r}. It knows: {', '.join(known)}."
            )

    def with_moment(self, prompt: str, draw: int) -> str:
        """The prompt with one of its action's moments, as `draw` (any whole number) picks it.

        A prior may know an action by its moments ("moment 3 of 7"), each of which is near one way to move. A prompt
        that names one itself, or an action without any, is left as it is.
        """
        named = known_actions(prompt, self._vocabulary)
        if not named or re.search(r"\bmoment \d", prompt):
            return prompt
        action = max(named, key=lambda name: longest_phrase(prompt, self._vocabulary[name]))
        count = self._moments.get(action, 0)
        return f"{prompt.rstrip(' .,')}, moment {draw % count + 1} of {count}" if count > 1 else prompt

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], negative: str = "") -> Conditioning:
        """Embed all prompts of a run, once; the text encoder is freed afterwards (see `Prior.embed`)."""
        if self._text_encoder is None:
            raise PriorError("the text encoder has been freed: embed every prompt of a run in one call.")
        for prompt in filter(None, prompts):  # the empty prompt names no action and needs none
            self.check_prompt(prompt)
        tokens = self._tokenizer(
            [*prompts, negative],
            padding="max_length",
            truncation=True,
            max_length=min(self._tokenizer.model_max_length, self._text_encoder.config.max_position_embeddings),
            return_tensors="pt",
        )
        hidden = self._text_encoder(tokens.input_ids.to(self._device)).last_hidden_state.float()
        self._text_encoder = None
        return Conditioning(Text(hidden[:-1]), Text(hidden[-1:]))

    # --- pixels and latents -------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N C f h w"]:
        """Latents of a video in [0, 1] (see `Prior.encode`)."""
        if self.sparing:
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
        frames = z.transpose(1, 2).flatten(0, 1)
        if self._vae is not None:
            frames = self._vae.decode((frames / self._vae.config.scaling_factor).to(self._vae.dtype)).sample.float()
        return (frames / 2 + 0.5).clamp(0, 1).unflatten(0, (len(z), -1)).transpose(1, 2)

    def _encode(self, video: Tensor) -> Tensor:
        frames = video.transpose(1, 2).flatten(0, 1)
        if self.spec.fixed_size and frames.shape[-2:] != (self.spec.height, self.spec.width):
            size = (self.spec.height, self.spec.width)
            frames = functional.interpolate(frames, size, mode="bilinear", antialias=True)
        frames = 2 * frames - 1
        if self._vae is not None:
            encoded = self._vae.encode(frames.to(self._vae.dtype))
            mean = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
            frames = mean.float() * self._vae.config.scaling_factor
        return frames.unflatten(0, (len(video), -1)).transpose(1, 2)

    # --- diffusion ----------------------------------------------------------------------------------------------

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(α, σ) at times t, from the folder's schedule."""
        return distill.alpha_sigma_from_table(t, self._alphas_cumprod)

    @torch.no_grad()
    def predict(
        self, z_t: Float[Tensor, "N C f h w"], t: Float[Tensor, "N"], texts: Sequence[Text]
    ) -> tuple[Float[Tensor, "N C f h w"], ...]:
        """Raw output under each of `texts`, as one batch (see `Prior.predict`)."""
        if self.sparing and len(texts) > 1:
            return tuple(FolderPrior.predict(self, z_t, t, (text,))[0] for text in texts)  # subclasses call this one
        n, times = len(z_t), distill.timesteps(t, len(self._alphas_cumprod))
        inputs = pack_frames(z_t, self._packing) if self._packing else z_t
        inputs = torch.cat([inputs] * len(texts)).to(self._unet.dtype)
        hidden = torch.cat([text.hidden for text in texts]).to(self._unet.dtype)
        raw = self._unet(inputs, times.repeat(len(texts)), hidden).sample.float()
        raw = unpack_frames(raw, self._packing, z_t.shape[1]) if self._packing else raw
        return raw.split(n)


def pull_back(z: Tensor, leaf: Tensor, g: Tensor) -> Tensor:
    """g·∂z/∂leaf, where g may be of any size although the network in between computes in half precision.

    Half precision ends at 65504 and thins out below 6e-5, so each clip's g goes in with entries up to 1: scaled by a
    power of two, which changes nothing else.
    """
    largest = g.abs().amax(dim=tuple(range(1, g.ndim)), keepdim=True)
    scale = torch.exp2(largest.clamp(min=1e-30).log2().ceil())
    return torch.autograd.grad(z, leaf, g / scale)[0] * scale


def known_actions(prompt: str, vocabulary: dict[str, list[str]]) -> list[str]:
    """The actions of which a word or phrase stands in the prompt: whole words in any case, articles left out."""
    plain = _plain(prompt)
    return [action for action, phrases in vocabulary.items() if any(_plain(phrase) in plain for phrase in phrases)]


def longest_phrase(prompt: str, phrases: Sequence[str]) -> int:
    """How long the longest of the phrases is that stand in the prompt ("walking backward" over "walking")."""
    return max((len(_plain(phrase)) for phrase in phrases if _plain(phrase) in _plain(prompt)), default=0)


def _spoken(action: str, phrases: list[str]) -> str:
    """How people say an action: its name, or the phrase with an article ("washing a window"; synonyms have none)."""
    name = action.replace("_", " ")
    return next((phrase for phrase in phrases if " a " in phrase), name if name in phrases else phrases[0])


def _plain(text: str) -> str:
    words = re.findall(r"[a-z0-9']+", text.lower())
    return f" {' '.join(word for word in words if word not in ('a', 'an', 'the'))} "


def pack_frames(video: Float[Tensor, "N C F H W"], packing: int) -> Float[Tensor, "N c h w"]:
    """Frames as channels, each `packing`×`packing` block of pixels a channel group: c = C·F·packing²."""
    return functional.pixel_unshuffle(video.flatten(1, 2), packing)


def unpack_frames(packed: Float[Tensor, "N c h w"], packing: int, channels: int) -> Float[Tensor, "N C F H W"]:
    """The inverse of `pack_frames`."""
    return functional.pixel_shuffle(packed, packing).unflatten(1, (channels, -1))
