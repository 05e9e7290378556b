"""SkyReels-V2 (text to video, 1.3 billion parameters): Wan's VAE, text and times, and a transformer of its own.

The 1.3B model is trained with a time for each latent frame ("diffusion forcing"). It is asked with one time for all,
as its pipeline does without asynchronous steps. It may be told one of two frame rates: 16, or any other.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.spec import PriorError, PriorSpec, Text
from bridge.priors.transformer import flow
from bridge.priors.transformer.base import TransformerParts
from bridge.priors.transformer.wan import WanPrior, load_as

FORCING = "SkyReelsV2DiffusionForcingPipeline"
PIPELINES = ("SkyReelsV2Pipeline", FORCING)


class SkyReelsPrior(WanPrior):
    """SkyReels-V2 behind the Prior protocol."""

    def __init__(self, spec: PriorSpec, parts: TransformerParts, device: torch.device, shift: float) -> None:
        kind = parts.index.get("_class_name")
        if kind not in PIPELINES:
            raise PriorError(f"{spec.origin}/model_index.json is a {kind}'s: expected {' or '.join(PIPELINES)}.")
        self._forcing = kind == FORCING
        if parts.transformer.config.inject_sample_info and not self._forcing:
            raise PriorError(
                f"{spec.origin}: its transformer is told frame rates (inject_sample_info), which {kind} does not do:"
                f" expected {FORCING} in model_index.json."
            )
        super().__init__(spec, parts, device, shift)
        self._condition_on(spec.fps)

    def _condition_on(self, fps: float) -> bool:
        self._rate = 0 if fps == 16 else 1
        return bool(self._forcing and self._transformer.config.inject_sample_info)

    def output(self, z_t: Float[Tensor, "B C f h w"], t: Float[Tensor, "B"], text: Text) -> Float[Tensor, "B C f h w"]:
        """The flow ε - z."""
        steps = flow.timesteps(t, self._shift, self._schedule)
        if not self._forcing:
            return self._transformer(z_t, timestep=steps, encoder_hidden_states=text.hidden).sample
        # one clip at a time: of several, its rates and times are added in different orders
        return torch.cat([
            self._transformer(
                clip, timestep=step.expand(1, z_t.shape[2]), encoder_hidden_states=hidden,
                enable_diffusion_forcing=True, fps=[self._rate],
            ).sample
            for clip, step, hidden in zip(z_t.split(1), steps.split(1), text.hidden.split(1), strict=True)
        ])  # fmt: skip


def load(name: str, path: str, device: torch.device, dtype: torch.dtype) -> SkyReelsPrior:
    """SkyReels-V2 (Chen et al. 2025).

    See `bridge.priors.spec.Loader`.
    """
    return load_as(SkyReelsPrior, name, path, device, dtype)
