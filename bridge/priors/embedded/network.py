"""The shipped prior's UNet in plain PyTorch: diffusers' UNet2DConditionModel in the one structure that it ships in.

diffusers and transformers take several seconds to import, more than half of a start. This and `text` are the same
networks, with the same names of weights (`tests/bridge/priors/test_embedded.py` compares the numbers); a folder of
another structure is left to the libraries (`fits`).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

# What the networks below are made for: entries of the configs that have no other value.
UNET = {
    "_class_name": "UNet2DConditionModel", "act_fn": "silu", "addition_embed_type": "text", "attention_type": "default",
    "center_input_sample": False, "class_embed_type": None, "conv_in_kernel": 3, "conv_out_kernel": 3,
    "cross_attention_norm": None, "downsample_padding": 1, "dual_cross_attention": False, "encoder_hid_dim": None,
    "encoder_hid_dim_type": None, "flip_sin_to_cos": True, "freq_shift": 0, "layers_per_block": 1,
    "mid_block_scale_factor": 1, "mid_block_type": "UNetMidBlock2DCrossAttn", "num_attention_heads": None,
    "resnet_out_scale_factor": 1.0, "resnet_skip_time_act": False, "resnet_time_scale_shift": "scale_shift",
    "time_cond_proj_dim": None, "time_embedding_act_fn": None, "time_embedding_dim": None,
    "time_embedding_type": "positional", "timestep_post_act": None, "transformer_layers_per_block": 1,
    "upcast_attention": False, "use_linear_projection": False,
}  # fmt: skip
TEXT = {"model_type": "clip_text_model", "hidden_act": "quick_gelu"}
SCHEDULE = {"beta_schedule": "squaredcos_cap_v2", "trained_betas": None, "rescale_betas_zero_snr": False}


class Denoised(NamedTuple):
    """As diffusers' output."""

    sample: Float[Tensor, "N C h w"]


def fits(unet: dict[str, Any], text: dict[str, Any], schedule: dict[str, Any]) -> bool:
    """Whether these configs describe the networks below, and nothing beyond them."""
    kinds = ({*unet.get("down_block_types", [])}, {*unet.get("up_block_types", [])})
    plain = kinds == ({"DownBlock2D"}, {"UpBlock2D"})
    known = ((UNET, unet), (TEXT, text), (SCHEDULE, schedule))
    return plain and all(config.get(key) == value for wanted, config in known for key, value in wanted.items())


def alphas_cumprod(schedule: dict[str, Any]) -> Float[Tensor, "T"]:
    """ᾱ of the cosine schedule (Nichol and Dhariwal 2021), as diffusers rounds it; float64."""
    steps = int(schedule["num_train_timesteps"])

    def bar(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    betas = [min(1 - bar((step + 1) / steps) / bar(step / steps), 0.999) for step in range(steps)]
    return torch.cumprod(1.0 - torch.tensor(betas, dtype=torch.float32), dim=0).double()


# --- the UNet ---------------------------------------------------------------------------------------------------


class Unet(nn.Module):
    """A 2D UNet with cross-attention in its middle; the whole text and the time modulate every block."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        widths, groups, eps = config["block_out_channels"], config["norm_num_groups"], config["norm_eps"]
        heads, text = config["attention_head_dim"], config["cross_attention_dim"]  # diffusers' name for their number
        time = 4 * widths[0]

        def block(inside: int, outside: int) -> Block:
            return Block(inside, outside, time, groups, eps)

        self.config = config
        self.rates = widths[0] // 2
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.time_embedding = Layers(linear_1=nn.Linear(widths[0], time), linear_2=nn.Linear(time, time))
        self.add_embedding = WholeText(text, time, config["addition_embed_type_num_heads"])
        down, up = list[Layers](), list[Layers]()
        skips, width = [widths[0]], widths[0]
        for level, wide in enumerate(widths):
            stage = Layers(resnets=nn.ModuleList([block(width, wide)]))
            skips.append(wide)
            if level < len(widths) - 1:
                stage.downsamplers = nn.ModuleList([Sampler(wide, 2)])
                skips.append(wide)
            down.append(stage)
            width = wide
        self.mid_block = Layers(
            resnets=nn.ModuleList([block(width, width), block(width, width)]),
            attentions=nn.ModuleList([Attending(width, heads, text, groups)]),
        )
        for level, wide in enumerate(reversed(widths)):
            stage = Layers(resnets=nn.ModuleList())
            for _ in range(2):
                stage.resnets.append(block(width + skips.pop(), wide))
                width = wide
            if level < len(widths) - 1:
                stage.upsamplers = nn.ModuleList([Sampler(wide, 1)])
            up.append(stage)
        self.down_blocks, self.up_blocks = nn.ModuleList(down), nn.ModuleList(up)
        self.conv_norm_out = nn.GroupNorm(groups, width, eps)
        self.conv_out = nn.Conv2d(width, config["out_channels"], 3, padding=1)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.conv_in.weight.dtype

    def forward(
        self, sample: Float[Tensor, "N C h w"], timestep: Float[Tensor, "N"], hidden: Float[Tensor, "N L D"]
    ) -> Denoised:
        """What the schedule's `prediction_type` says, of noised samples at timesteps under texts."""
        emb = self.time_embedding.linear_1(self._waves(timestep).to(sample.dtype))
        emb = self.time_embedding.linear_2(functional.silu(emb)) + self.add_embedding(hidden)
        emb = functional.silu(emb)  # every block begins with it
        x = self.conv_in(sample)
        skips = [x]
        for stage in _stages(self.down_blocks):
            x = stage.resnets[0](x, emb)
            skips.append(x)
            if "downsamplers" in stage:
                x = stage.downsamplers[0](x)
                skips.append(x)
        x = self.mid_block.resnets[0](x, emb)
        x = self.mid_block.attentions[0](x, hidden)
        x = self.mid_block.resnets[1](x, emb)
        for stage in _stages(self.up_blocks):
            for resnet in stage.resnets:
                x = resnet(torch.cat([x, skips.pop()], dim=1), emb)
            if "upsamplers" in stage:
                x = stage.upsamplers[0](functional.interpolate(x, scale_factor=2.0, mode="nearest"))
        return Denoised(self.conv_out(functional.silu(self.conv_norm_out(x))))

    def _waves(self, timestep: Float[Tensor, "N"]) -> Float[Tensor, "N D"]:
        count = torch.arange(self.rates, dtype=torch.float32, device=timestep.device)
        rates = torch.exp(-math.log(10000) * count / self.rates)
        angles = timestep[:, None].float() * rates
        return torch.cat([angles.cos(), angles.sin()], dim=-1)


class Layers(nn.Module):
    """Named layers without a forward pass of their own; each has some of these."""

    resnets: nn.ModuleList
    attentions: nn.ModuleList
    downsamplers: nn.ModuleList
    upsamplers: nn.ModuleList
    layers: nn.ModuleList
    net: nn.ModuleList
    linear_1: nn.Linear
    linear_2: nn.Linear
    q_proj: nn.Linear
    k_proj: nn.Linear
    v_proj: nn.Linear
    out_proj: nn.Linear
    fc1: nn.Linear
    fc2: nn.Linear
    positional_embedding: nn.Parameter
    token_embedding: nn.Embedding
    position_embedding: nn.Embedding

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)

    def __contains__(self, name: str) -> bool:
        return name in self._modules


def _stages(blocks: nn.ModuleList) -> list[Layers]:
    return [stage for stage in blocks if isinstance(stage, Layers)]


class Sampler(nn.Module):
    """The convolution that follows a change of size, or makes it."""

    def __init__(self, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=stride, padding=1)

    def forward(self, x: Float[Tensor, "N C h w"]) -> Float[Tensor, "N C H W"]:
        return self.conv(x)


class Block(nn.Module):
    """Two convolutions with a shortcut; the embedding scales and shifts in between. `emb` comes activated."""

    def __init__(self, inside: int, outside: int, time: int, groups: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, inside, eps)
        self.conv1 = nn.Conv2d(inside, outside, 3, padding=1)
        self.time_emb_proj = nn.Linear(time, 2 * outside)
        self.norm2 = nn.GroupNorm(groups, outside, eps)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else None

    def forward(self, x: Float[Tensor, "N C h w"], emb: Float[Tensor, "N E"]) -> Float[Tensor, "N c h w"]:
        y = self.conv1(functional.silu(self.norm1(x)))
        scale, shift = self.time_emb_proj(emb)[:, :, None, None].chunk(2, dim=1)
        y = self.conv2(functional.silu(self.norm2(y) * (1 + scale) + shift))
        return (x if self.conv_shortcut is None else self.conv_shortcut(x)) + y


class Attending(nn.Module):
    """Pixels attend to each other, then to the words, then pass a gated layer."""

    def __init__(self, width: int, heads: int, text: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, 1e-6)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, text)])
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Float[Tensor, "N C h w"], hidden: Float[Tensor, "N L D"]) -> Float[Tensor, "N C h w"]:
        tokens = self.proj_in(self.norm(x)).flatten(2).transpose(1, 2)
        tokens = self.transformer_blocks[0](tokens, hidden)
        return self.proj_out(tokens.transpose(1, 2).unflatten(2, x.shape[2:]).contiguous()) + x


class TransformerBlock(nn.Module):
    def __init__(self, width: int, heads: int, text: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn1, self.attn2 = Attention(width, width, heads), Attention(width, text, heads)
        self.ff = Layers(net=nn.ModuleList([Gated(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)]))

    def forward(self, x: Float[Tensor, "N T C"], hidden: Float[Tensor, "N L D"]) -> Float[Tensor, "N T C"]:
        y = self.norm1(x)
        x = self.attn1(y, y) + x
        x = self.attn2(self.norm2(x), hidden) + x
        y = self.norm3(x)
        for layer in self.ff.net:
            y = layer(y)
        return y + x


class Gated(nn.Module):
    """A linear layer times another one's GELU."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inside, 2 * outside)

    def forward(self, x: Float[Tensor, "N T C"]) -> Float[Tensor, "N T c"]:
        values, gate = self.proj(x).chunk(2, dim=-1)
        return values * functional.gelu(gate)


class Attention(nn.Module):
    def __init__(self, width: int, seen: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k, self.to_v = nn.Linear(seen, width, bias=False), nn.Linear(seen, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Float[Tensor, "N T C"], seen: Float[Tensor, "N L D"]) -> Float[Tensor, "N T C"]:
        return self.to_out[0](attend(self.to_q(x), self.to_k(seen), self.to_v(seen), self.heads))


class WholeText(nn.Module):
    """One vector for a text: its mean token attends to its tokens."""

    def __init__(self, width: int, time: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.pool = Layers(**{name: nn.Linear(width, width) for name in ("k_proj", "q_proj", "v_proj")})
        self.pool.register_parameter("positional_embedding", nn.Parameter(torch.zeros(1, width)))
        self.proj, self.norm2 = nn.Linear(width, time), nn.LayerNorm(time)
        self.heads = heads

    def forward(self, hidden: Float[Tensor, "N L D"]) -> Float[Tensor, "N E"]:
        pool = self.pool
        x = self.norm1(hidden)
        mean = x.mean(dim=1, keepdim=True) + pool.positional_embedding
        x = torch.cat([mean, x], dim=1)
        pooled = attend(pool.q_proj(mean), pool.k_proj(x), pool.v_proj(x), self.heads)
        return self.norm2(self.proj(pooled[:, 0]))


def attend(
    q: Float[Tensor, "N T C"], k: Float[Tensor, "N L C"], v: Float[Tensor, "N L C"], heads: int, causal: bool = False
) -> Float[Tensor, "N T C"]:
    """Attention of several heads."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return functional.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)
