"""VideoCrafter 1 and 2, from the original model.ckpt or from a diffusers folder (tools/convert_videocrafter.py).

Both noise latents their own way: z_t = s_t √ᾱ z + √(1-ᾱ) ε, where s falls from 1 to its end over the first 400 steps
(`scale_arr` in the original). The 512-pixel VideoCrafter 1 does not (s = 1), and is not told a frame rate either.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors import schedule
from bridge.priors.base import FolderPrior
from bridge.priors.folder import Parts, check_vocabulary, load_parts
from bridge.priors.hub import local_path
from bridge.priors.spec import PriorError, PriorSpec, precision_name
from bridge.priors.unet.text_to_video import latents_of
from bridge.priors.videocrafter.checkpoint import BETA_END, BETA_START, STEPS, Checkpoint, load_checkpoint
from bridge.priors.videocrafter.clip_text import OpenClipTokenizer
from bridge.priors.videocrafter.unet import SETTINGS, Additions, fold_fps, read_unet
from bridge.priors.weights.find import read_json
from bridge.priors.weights.networks import frozen

HUB_IDS = {"videocrafter1": "VideoCrafter/Text2Video-512", "videocrafter2": "VideoCrafter/VideoCrafter2"}
LICENCE = "Apache-2.0 on its hub page; its repository says personal, research and non-commercial use only"
FPS = 8.0  # of the clip and of the conditioning; the original inference conditions on 28
SCALE_STEPS = 400
CHECKPOINTS = (".ckpt", ".pth", ".pt", ".safetensors")


class VideoCrafterPrior(FolderPrior):
    """A FolderPrior that may be told its frame rate, and whose latents shrink while they are noised."""

    def __init__(
        self, spec: PriorSpec, parts: Parts, device: torch.device, scale: Float[Tensor, "T"], takes_fps: bool
    ) -> None:
        super().__init__(spec, parts, device)
        self._scale = scale.double().to(device)
        self._scaled = True
        self._takes_fps = takes_fps
        self._condition_on(spec.fps)

    def _condition_on(self, fps: float) -> bool:
        if self._takes_fps:  # the 512-pixel VideoCrafter 1, and folders that other programs have written, do not
            fold_fps(self._unet, fps)
        return self._takes_fps

    def _scale_latents(self, on: bool) -> None:
        self._scaled = on

    def alpha_sigma(self, t: Float[Tensor, "N"]) -> tuple[Float[Tensor, "N"], Float[Tensor, "N"]]:
        """(s_t √ᾱ, √(1-ᾱ)) at times t: α² + σ² < 1 where s_t < 1."""
        alpha, sigma = super().alpha_sigma(t)
        if not self._scaled:
            return alpha, sigma
        step = schedule.timesteps(t.double(), len(self._scale))
        low = step.floor().long().clamp(max=len(self._scale) - 2)
        return alpha * torch.lerp(self._scale[low], self._scale[low + 1], step - low).to(alpha.dtype), sigma


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> VideoCrafterPrior:
    """VideoCrafter 1 (Chen et al. 2023), 512 or 1024 pixels wide, or VideoCrafter 2 (Chen et al. 2024).

    See `bridge.priors.spec.Loader`.
    """
    where = local_path(path, name, dtype, HUB_IDS[name])
    if where.is_dir() and not (where / "model_index.json").exists():
        files = sorted(file for file in where.iterdir() if file.suffix in CHECKPOINTS)
        if len(files) != 1:
            raise PriorError(
                f"{where} is no diffusers folder (no model_index.json) and holds {len(files)} checkpoints: expected"
                " one model.ckpt."
            )
        where = files[0]
    if where.is_dir():
        parts, additions, scale = _read_folder(where, device, dtype)
    else:
        checkpoint = load_checkpoint(where, dtype, device)
        parts, additions, scale = parts_of(checkpoint, device), checkpoint.additions, checkpoint.scale
    _check_kind(name, additions, where)
    channels, stride = latents_of(parts, where, name)
    wide = name == "videocrafter1" and additions.fps_embedding  # only the 1024-pixel one is told its frame rate
    spec = PriorSpec(
        name=name,
        kind="video",
        prediction=parts.prediction,  # type: ignore[arg-type]
        frames=16,
        fps=FPS,
        height=576 if wide else 320,
        width=1024 if wide else 512,
        latent_channels=channels,
        pixel_stride=stride,
        dtype=precision_name(dtype),
        licence=LICENCE,
        origin=str(where),
    )
    if scale is not None and len(scale) < len(parts.alphas_cumprod):
        raise PriorError(f"{where}: scale_arr has {len(scale)} entries, expected {len(parts.alphas_cumprod)}.")
    if scale is None:
        scale = scale_table(scale_end(name, additions), len(parts.alphas_cumprod))
    return VideoCrafterPrior(spec, parts, device, scale[: len(parts.alphas_cumprod)], additions.fps_embedding)


def parts_of(checkpoint: Checkpoint, device: torch.device) -> Parts:
    """The parts of a checkpoint on their device, with the tokenizer and schedule that it was trained with."""
    for network in (checkpoint.unet, checkpoint.vae, checkpoint.text_encoder):
        frozen(network, device)
    return Parts(
        unet=checkpoint.unet,
        vae=checkpoint.vae,
        tokenizer=OpenClipTokenizer(),
        text_encoder=checkpoint.text_encoder,
        alphas_cumprod=alphas_cumprod(),
        prediction="eps",
        settings={},
        actions=(),
    )


def alphas_cumprod() -> Float[Tensor, "T"]:
    """ᾱ of the training schedule: betas linear in their square root."""
    betas = torch.linspace(BETA_START**0.5, BETA_END**0.5, STEPS, dtype=torch.float64).square()
    return (1 - betas).cumprod(dim=0)


def scale_end(name: str, additions: Additions) -> float:
    """What the latents' factor s_t ends at in the published configurations."""
    if name == "videocrafter2":
        return 0.7
    return 0.3 if additions.fps_embedding else 1.0


def scale_table(end: float, steps: int) -> Float[Tensor, "T"]:
    """s_t: linear from 1 to `end` over the first 400 steps, then constant."""
    falling = torch.linspace(1.0, end, SCALE_STEPS, dtype=torch.float64)
    return torch.cat([falling, torch.full((max(steps - SCALE_STEPS, 0),), end, dtype=torch.float64)])[:steps]


def _read_folder(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Parts, Additions, Tensor | None]:
    """A folder of tools/convert_videocrafter.py, or an ordinary one, which has its frame rate in its weights."""
    settings = read_json(folder / "unet" / SETTINGS, optional=True)
    reader = functools.partial(read_unet, device=device)
    parts = load_parts(folder, device, dtype, reader if settings else None)
    parts.tokenizer = OpenClipTokenizer()  # the folder's own pads otherwise than the model was trained with
    check_vocabulary(folder, parts.tokenizer.size, parts.text_encoder)
    end = parts.settings.get("latent_scale_end")
    scale = None if end is None else scale_table(float(end), len(parts.alphas_cumprod))
    return parts, Additions(**settings), scale


def _check_kind(name: str, additions: Additions, where: Any) -> None:
    found = "videocrafter1" if additions.relative_positions else "videocrafter2"
    if found != name:
        have = "has" if additions.relative_positions else "has no"
        raise PriorError(f"{where} {have} relative positions over frames: load it with --prior={found}, not {name}.")
