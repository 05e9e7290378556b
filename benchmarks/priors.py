"""Priors that exist to be timed: one without a network, and full-size ModelScope with random weights.

`register` adds them to `bridge.priors.LOADERS`, so that a benchmark's job is put together like any other.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors import LOADERS, Conditioning, PriorError, PriorSpec, Setup, Text, load_prior
from bridge.priors.base import FolderPrior
from bridge.priors.folder import Parts
from bridge.priors.unet.text_to_video import NATIVE
from bridge.recipes import BORROWED

NULL, RANDOM_MODELSCOPE = "null", "random-modelscope"
# ali-vilab/text-to-video-ms-1.7b; what its config.json says besides is UNet3DConditionModel's default.
MODELSCOPE_UNET: dict[str, Any] = {"sample_size": 32}
MODELSCOPE_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "scaling_factor": 0.18215,
}
TOKENS = 77
MODELSCOPE = PriorSpec(
    name=RANDOM_MODELSCOPE,
    kind="video",
    prediction="eps",
    frames=NATIVE["modelscope"][0],
    fps=8.0,
    height=NATIVE["modelscope"][1],
    width=NATIVE["modelscope"][2],
    latent_channels=4,
    pixel_stride=8,
    licence="none: random weights",
    origin="benchmarks/priors.py",
)


class NullPrior:
    """The Prior protocol without a network: latents are pixels and the sample guessed is 0.

    With --distillation=sds --guidance_scale=1 the residual is w(t)·(α/σ)·z, the gradient of a quadratic.
    """

    def __init__(self, spec: PriorSpec, device: torch.device) -> None:
        """A prior of the clip and the camera of `spec`."""
        self.spec = dataclasses.replace(
            spec, name=NULL, prediction="sample", latent_channels=3, pixel_stride=1, frame_stride=1, frame_offset=0,
            fixed_frames=False, fixed_size=False, actions=(),
        )  # fmt: skip
        self._device = device

    def configure(self, setup: Setup) -> tuple[str, ...]:
        """Nothing to prepare; takes clips of any size."""
        return ()

    def embed(self, prompts: Sequence[str], negative: str = "") -> Conditioning:
        """One number a prompt."""
        return Conditioning(*(Text(torch.zeros(n, 1, 1, device=self._device)) for n in (len(prompts), 1)))

    def encode(self, video: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N 3 F H W"]:
        """Pixels in [-1, 1]."""
        return 2 * video - 1

    def encode_vjp(
        self, video: Float[Tensor, "N 3 F H W"], g: Float[Tensor, "N 3 F H W"], chunk: int = 0
    ) -> Float[Tensor, "N 3 F H W"]:
        """2 g."""
        return 2 * g

    def encode_and_vjp(self, video: Float[Tensor, "N 3 F H W"]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """(`encode`(video), g -> 2 g)."""
        return self.encode(video), lambda g: 2 * g

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """cos and sin of a quarter turn."""
        return torch.cos(t * torch.pi / 2), torch.sin(t * torch.pi / 2)

    def predict(
        self, z_t: Float[Tensor, "N 3 F H W"], t: Float[Tensor, "N"], texts: Sequence[Text]
    ) -> tuple[Float[Tensor, "N 3 F H W"], ...]:
        """Zero."""
        return tuple(torch.zeros_like(z_t) for _ in texts)

    def decode(self, z: Float[Tensor, "N 3 F H W"]) -> Float[Tensor, "N 3 F H W"]:
        """The inverse of `encode`."""
        return (z + 1) / 2

    def poses(self, z: Float[Tensor, "N 3 F H W"]) -> None:
        """It cannot tell."""


class RandomText(FolderPrior):
    """A FolderPrior that needs no text encoder: each prompt is noise of the right shape."""

    def embed(self, prompts: Sequence[str], negative: str = "") -> Conditioning:
        """Standard normal rows."""
        width = self._unet.config.cross_attention_dim
        rows = torch.randn(len(prompts) + 1, TOKENS, width, generator=torch.Generator().manual_seed(0))
        hidden = rows.to(self._device)
        return Conditioning(Text(hidden[:-1]), Text(hidden[-1:]))


def random_modelscope(
    device: torch.device, dtype: torch.dtype, unet: dict[str, Any] | None = None, vae: dict[str, Any] | None = None
) -> RandomText:
    """ModelScope's networks with random weights; `unet` and `vae` change their sizes (for tests)."""
    from diffusers import AutoencoderKL, UNet3DConditionModel

    torch.manual_seed(0)
    with torch.device(device):
        networks: tuple[Any, Any] = (
            UNet3DConditionModel(**{**MODELSCOPE_UNET, **(unet or {})}),
            AutoencoderKL(**{**MODELSCOPE_VAE, **(vae or {})}),
        )
    for network in networks:
        torch.nn.Module.to(network, dtype).requires_grad_(False).eval()  # diffusers' own has a warning about nothing
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    parts = Parts(
        unet=networks[0], vae=networks[1], tokenizer=None, text_encoder=None,
        alphas_cumprod=torch.cumprod(1 - betas, dim=0), prediction="eps", settings={}, actions=(),
    )  # fmt: skip
    return RandomText(dataclasses.replace(MODELSCOPE, dtype=str(dtype).removeprefix("torch.")), parts, device)


def register(size_of: str = "embedded") -> None:
    """Make --prior=null (of the clip of the prior `size_of`) and --prior=random-modelscope known to `load_prior`."""
    LOADERS[RANDOM_MODELSCOPE] = lambda name, path, device, dtype: _random_on_gpu(device, dtype)
    LOADERS[NULL] = lambda name, path, device, dtype: NullPrior(spec_of(size_of), device)
    BORROWED.update({RANDOM_MODELSCOPE: "modelscope", NULL: "embedded"})


def _random_on_gpu(device: torch.device, dtype: torch.dtype) -> RandomText:
    if device.type != "cuda":
        raise PriorError(
            "full-size ModelScope (1.4 billion parameters at 256x256 pixels) is timed on a GPU alone: on a CPU a single"
            " step takes minutes and tens of GB. Use --prior=embedded here."
        )
    return random_modelscope(device, dtype)


@functools.cache
def spec_of(name: str) -> PriorSpec:
    """The facts of a prior that a benchmark can run."""
    return MODELSCOPE if name == RANDOM_MODELSCOPE else load_prior(name).spec
