"""VideoCrafter's UNets, as a UNet3DConditionModel and what makes them differ from it.

VideoCrafter 2 is a UNet3DConditionModel plus a small network that embeds the frame rate. VideoCrafter 1 has no temporal
convolutions, and its temporal attention adds learned embeddings of the distance between two frames to keys and values.
"""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bridge.priors.spec import PriorError
from bridge.priors.weights.headers import CPU
from bridge.priors.weights.state_dicts import load_weights, read_safetensors

WEIGHTS = "diffusion_pytorch_model.safetensors"
SETTINGS = "videocrafter.json"  # beside config.json: an Additions


@dataclasses.dataclass(frozen=True)
class Additions:
    """What a VideoCrafter UNet has, or lacks, beside the UNet3DConditionModel of its config."""

    relative_positions: int = 0  # largest distance in frames that has an embedding of its own; 0: none at all
    temporal_convolutions: bool = True
    fps_embedding: bool = False


class RelativePositionAttention(nn.Module):
    """An attention processor of diffusers: self-attention over frames that knows how far apart two frames are.

    Source: Shaw et al. 2018, "Self-attention with relative position representations", eqs. 3 and 4.
    """

    def __init__(self, distance: int, head_dim: int) -> None:
        super().__init__()
        self.distance = distance
        self.keys = nn.Parameter(torch.zeros(2 * distance + 1, head_dim))
        self.values = nn.Parameter(torch.zeros(2 * distance + 1, head_dim))

    def forward(self, attn: Any, hidden_states: Float[Tensor, "B F D"], *_: Any, **__: Any) -> Float[Tensor, "B F D"]:
        """Attention of every frame to every frame, at each of B places."""
        query, key, value = (
            project(hidden_states).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        frame = torch.arange(hidden_states.shape[1], device=hidden_states.device)
        offset = (frame[None, :] - frame[:, None]).clamp(-self.distance, self.distance) + self.distance
        logits = query @ key.transpose(-1, -2) + torch.einsum("bhid,ijd->bhij", query, self.keys[offset])
        weights = (logits * attn.scale).softmax(dim=-1)
        mixed = weights @ value + torch.einsum("bhij,ijd->bhid", weights, self.values[offset])
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


class Unchanged(nn.Module):
    """Stands where diffusers has a temporal convolution and VideoCrafter 1 has none."""

    def forward(self, hidden_states: Tensor, num_frames: int = 1) -> Tensor:
        """`hidden_states`."""
        return hidden_states


class FpsEmbedding(nn.Module):
    """Embeds a frame rate as time is embedded; a constant of the run, so it becomes part of a bias (`fold_fps`)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, width)
        self.linear_2 = nn.Linear(width, width)
        self.time_bias = nn.Parameter(torch.zeros(width))  # time_embedding.linear_2.bias without any frame rate

    def forward(self, fps: float) -> Float[Tensor, "D"]:
        """The embedding of `fps`, in float32."""
        half = self.linear_1.in_features // 2
        steps = torch.arange(half, dtype=torch.float32, device=self.linear_1.weight.device)
        angles = fps * torch.exp(-math.log(10000.0) * steps / half)
        hidden = torch.cat([angles.cos(), angles.sin()])
        hidden = nn.functional.silu(
            nn.functional.linear(hidden, self.linear_1.weight.float(), self.linear_1.bias.float())
        )
        return nn.functional.linear(hidden, self.linear_2.weight.float(), self.linear_2.bias.float())


def make_unet(config: dict[str, Any], additions: Additions) -> nn.Module:
    """A UNet without weights (on the meta device), of diffusers' `config` and these additions."""
    from diffusers import UNet3DConditionModel

    with torch.device("meta"):
        unet = UNet3DConditionModel.from_config(config)
        blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
        if not additions.temporal_convolutions:
            for block in blocks:
                block.temp_convs = nn.ModuleList(Unchanged() for _ in block.temp_convs)
        if additions.relative_positions:
            for temporal in _temporal_attentions(unet, blocks):
                for layer in temporal.transformer_blocks:
                    for attention in (layer.attn1, layer.attn2):
                        head_dim = attention.to_q.out_features // attention.heads
                        attention.set_processor(RelativePositionAttention(additions.relative_positions, head_dim))
        if additions.fps_embedding:
            unet.fps_embedding = FpsEmbedding(config["block_out_channels"][0], 4 * config["block_out_channels"][0])
    return unet


@torch.no_grad()
def fold_fps(unet: Any, fps: float) -> None:
    """Condition a UNet on a frame rate: its embedding moves into the bias of the time embedding.

    Exact, since both embeddings are summed before anything else reads them.
    """
    bias = unet.time_embedding.linear_2.bias
    bias.copy_((unet.fps_embedding.time_bias.float() + unet.fps_embedding(fps)).to(bias.dtype))


def save_unet(unet: Any, additions: Additions, folder: Path, shards: str = "20GB") -> None:
    """Write a UNet so that `read_unet` reads it; without relative positions, diffusers itself can read it too."""
    import json

    unet.save_pretrained(folder, max_shard_size=shards)
    (folder / SETTINGS).write_text(json.dumps(dataclasses.asdict(additions), indent=2) + "\n", encoding="utf-8")


def read_unet(folder: Path, dtype: torch.dtype, device: torch.device = CPU) -> Any:
    """The UNet in a folder that `save_unet` has written; on the meta device its names and shapes alone.

    Raises:
        PriorError: a file is missing, damaged, or does not fit the others.
    """
    from safetensors import SafetensorError

    from bridge.priors.weights.find import read_json

    config, settings = read_json(folder / "config.json"), read_json(folder / SETTINGS)
    try:
        unet = make_unet(config, Additions(**settings))
        weights = read_safetensors(folder / WEIGHTS, device.type)
    except (OSError, SafetensorError, TypeError, ValueError, KeyError) as error:
        raise PriorError(
            f"{folder} cannot be read as a VideoCrafter UNet ({error}): convert the checkpoint again."
        ) from error
    return load_weights(unet, weights, dtype, str(folder))


def _temporal_attentions(unet: Any, blocks: list[Any]) -> list[Any]:
    return [unet.transformer_in, *(layer for block in blocks for layer in getattr(block, "temp_attentions", ()))]
