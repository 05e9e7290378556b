"""What the VAEs of today's video models share: frames that depend on those before them, and frame counts of a rule.

A clip is therefore encoded whole, one clip at a time; gradient checkpointing takes the place of chunks of frames, which
would be wrong here.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from bridge.priors.base import pull_back

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
