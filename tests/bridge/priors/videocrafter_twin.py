"""VideoCrafter's networks written out slowly, one function a piece, on weights under the checkpoint's own names.

The oracle of tests/bridge/priors/test_videocrafter.py, and what makes its checkpoints: a weight comes into being, at
random, when a function first asks for it. So running the networks once leaves a state dict of exactly the published
layout.
Shapes: N clips, F frames, C channels, P = N·F pictures, D width.
"""

import math

import torch
from torch.nn import functional as fn


class Weights(dict):
    """Tensors by name, made when first asked for: w("conv", 8, 4, 3, 3) is conv.weight, w.bias("conv", 8) conv.bias."""

    def __init__(self, seed=0, device="cpu"):
        super().__init__()
        self.generator = torch.Generator().manual_seed(seed)
        self.device = device

    def tensor(self, name, shape, scale, mean=0.0):
        if name not in self:
            if self.device == "meta":
                self[name] = torch.empty(shape, device="meta")
            else:
                self[name] = mean + scale * torch.randn(shape, generator=self.generator)
        return self[name]

    def __call__(self, name, *shape):
        return self.tensor(f"{name}.weight", shape, math.prod(shape[1:]) ** -0.5)

    def bias(self, name, width):
        return self.tensor(f"{name}.bias", (width,), 0.1)

    def scale(self, name, width):
        return self.tensor(f"{name}.weight", (width,), 0.1, mean=1.0)


def linear(w, name, x, out, bias=True):
    return fn.linear(x, w(name, out, x.shape[-1]), w.bias(name, out) if bias else None)


def conv(w, name, x, out, size=3, stride=1, padding=None):
    padding = size // 2 if padding is None else padding
    return fn.conv2d(x, w(name, out, x.shape[1], size, size), w.bias(name, out), stride, padding)


def group_norm(w, name, x, eps=1e-5):
    return fn.group_norm(x, 32, w.scale(name, x.shape[1]), w.bias(name, x.shape[1]), eps)


def layer_norm(w, name, x):
    return fn.layer_norm(x, x.shape[-1:], w.scale(name, x.shape[-1]), w.bias(name, x.shape[-1]))


# --- UNet -------------------------------------------------------------------------------------------------------------


def unet(w, z, t, text, *, version, fps=None, channels=32, head=16, distance=16, attending=3):
    """ε̂ of latents z (N, 4, F, h, w) at steps t (N,) under text (N, L, D); fps None: a model that is not told it.

    The first `attending` of the four levels have attention.
    """
    frames = z.shape[2]
    sizes = [channels, 2 * channels, 4 * channels, 4 * channels]
    options = {"version": version, "head": head, "distance": distance, "frames": frames}
    options["text"] = text.repeat_interleave(frames, dim=0)
    embedded = mlp(w, "time_embed", sinusoid(t, channels), 4 * channels)
    if fps is not None:
        embedded = embedded + mlp(w, "fps_embedding", sinusoid(torch.full_like(t, fps), channels), 4 * channels)
    embedded = embedded.repeat_interleave(frames, dim=0)

    h = conv(w, "input_blocks.0.0", z.transpose(1, 2).flatten(0, 1), channels)
    h = temporal_transformer(w, "init_attn.0", h, heads=8, is_conv=True, **options)
    skips, number = [h], 0
    for level, size in enumerate(sizes):
        for _ in range(2):
            number += 1
            h = block(w, f"input_blocks.{number}", h, embedded, size, attends=level < attending, **options)
            skips.append(h)
        if level < 3:
            number += 1
            h = conv(w, f"input_blocks.{number}.0.op", h, size, stride=2)
            skips.append(h)
    h = block(w, "middle_block", h, embedded, sizes[-1], attends=True, **options)
    h = resnet(w, "middle_block.3", h, embedded, sizes[-1], **options)
    number = 0
    for level, size in reversed(list(enumerate(sizes))):
        for i in range(3):
            name = f"output_blocks.{number}"
            h = block(w, name, torch.cat([h, skips.pop()], dim=1), embedded, size, attends=level < attending, **options)
            if level and i == 2:
                h = fn.interpolate(h, scale_factor=2.0, mode="nearest")
                h = conv(w, f"{name}.{3 if level < attending else 1}.conv", h, size)
            number += 1
    h = conv(w, "out.2", fn.silu(group_norm(w, "out.0", h)), 4)
    return h.unflatten(0, (-1, frames)).transpose(1, 2)


def sinusoid(x, width):
    frequencies = torch.exp(-math.log(10000) * torch.arange(width // 2, device=x.device) / (width // 2))
    angles = x[:, None].float() * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def mlp(w, name, x, width):
    return linear(w, f"{name}.2", fn.silu(linear(w, f"{name}.0", x, width)), width)


def block(w, name, h, embedded, size, *, attends, **options):
    h = resnet(w, f"{name}.0", h, embedded, size, **options)
    if attends:
        h = spatial_transformer(w, f"{name}.1", h, **options)
        h = temporal_transformer(w, f"{name}.2", h, heads=size // options["head"], is_conv=False, **options)
    return h


def resnet(w, name, x, embedded, size, *, version, frames, **_):
    h = conv(w, f"{name}.in_layers.2", fn.silu(group_norm(w, f"{name}.in_layers.0", x)), size)
    h = h + linear(w, f"{name}.emb_layers.1", fn.silu(embedded), size)[..., None, None]
    h = conv(w, f"{name}.out_layers.3", fn.silu(group_norm(w, f"{name}.out_layers.0", h)), size)
    h = h + (x if x.shape[1] == size else conv(w, f"{name}.skip_connection", x, size, size=1))
    if version == 2:
        clips = h.unflatten(0, (-1, frames)).transpose(1, 2)  # (N, C, F, h, w)
        change = clips
        for i, last in ((1, 2), (2, 3), (3, 3), (4, 3)):
            part = f"{name}.temopral_conv.conv{i}"
            change = fn.silu(group_norm(w, f"{part}.0", change))
            kernel = w(f"{part}.{last}", size, size, 3, 1, 1)
            change = fn.conv3d(change, kernel, w.bias(f"{part}.{last}", size), padding=(1, 0, 0))
        h = (clips + change).transpose(1, 2).flatten(0, 1)
    return h


def spatial_transformer(w, name, x, *, text, head, **_):
    h = group_norm(w, f"{name}.norm", x, eps=1e-6).flatten(2).transpose(1, 2)  # (P, h·w, C)
    h = transformer(w, name, linear(w, f"{name}.proj_in", h, x.shape[1]), x.shape[1] // head, text, 0)
    return x + linear(w, f"{name}.proj_out", h, x.shape[1]).transpose(1, 2).unflatten(2, x.shape[2:])


def temporal_transformer(w, name, x, *, heads, is_conv, version, head, distance, frames, **_):
    clips = x.unflatten(0, (-1, frames)).transpose(1, 2)  # (N, C, F, h, w)
    size, inner = x.shape[1], heads * head
    h = group_norm(w, f"{name}.norm", clips, eps=1e-6).permute(0, 3, 4, 2, 1).flatten(0, 2)  # (N·h·w, F, C)
    kernel = (1,) if is_conv else ()  # the first one keeps 1x1 convolutions, whose weights have a third axis
    h = h @ w(f"{name}.proj_in", inner, size, *kernel).reshape(inner, size).T + w.bias(f"{name}.proj_in", inner)
    h = transformer(w, name, h, heads, None, distance if version == 1 else 0)
    h = h @ w(f"{name}.proj_out", size, inner, *kernel).reshape(size, inner).T + w.bias(f"{name}.proj_out", size)
    h = h.unflatten(0, (len(clips), *x.shape[2:])).permute(0, 4, 3, 1, 2)
    return (clips + h).transpose(1, 2).flatten(0, 1)


def transformer(w, name, x, heads, text, distance):
    name = f"{name}.transformer_blocks.0"
    x = x + attention(w, f"{name}.attn1", layer_norm(w, f"{name}.norm1", x), None, heads, distance)
    x = x + attention(w, f"{name}.attn2", layer_norm(w, f"{name}.norm2", x), text, heads, distance)
    h = layer_norm(w, f"{name}.norm3", x)
    h, gate = linear(w, f"{name}.ff.net.0.proj", h, 8 * x.shape[-1]).chunk(2, dim=-1)
    return x + linear(w, f"{name}.ff.net.2", h * fn.gelu(gate), x.shape[-1])


def attention(w, name, x, text, heads, distance):
    """Attention head by head; with `distance`, row i of relative_position_* at j - i, no farther than `distance`."""
    inner = x.shape[-1]
    source = x if text is None else text
    q, k, v = (
        linear(w, f"{name}.to_{c}", y, inner, bias=False) for c, y in zip("qkv", (x, source, source), strict=True)
    )
    width = inner // heads
    out = []
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        logits = q[..., part] @ k[..., part].transpose(-1, -2)
        mixed_positions = 0.0
        if distance:
            tables = [
                w.tensor(f"{name}.relative_position_{c}.embeddings_table", (2 * distance + 1, width), 0.5) for c in "kv"
            ]
            frames = x.shape[1]
            near = [[max(-distance, min(distance, j - i)) + distance for j in range(frames)] for i in range(frames)]
            rows = [
                torch.stack([(q[:, i, part] * tables[0][n]).sum(-1) for n in near[i]], dim=-1) for i in range(frames)
            ]
            logits = logits + torch.stack(rows, dim=1)
        weights = (logits / math.sqrt(width)).softmax(dim=-1)
        if distance:
            mixed_positions = torch.stack(
                [sum(weights[:, i, j, None] * tables[1][n] for j, n in enumerate(near[i])) for i in range(frames)],
                dim=1,
            )
        out.append(weights @ v[..., part] + mixed_positions)
    return linear(w, f"{name}.to_out.0", torch.cat(out, dim=-1), inner)


# --- VAE --------------------------------------------------------------------------------------------------------------


def vae_encode(w, x, channels=32):
    """The posterior's mean (P, 4, h, w) of pictures x (P, 3, H, W) in [-1, 1], without the scale 0.18215."""
    h = conv(w, "encoder.conv_in", x, channels)
    for level, size in enumerate((channels, 2 * channels, 4 * channels, 4 * channels)):
        for i in range(2):
            h = vae_block(w, f"encoder.down.{level}.block.{i}", h, size)
        if level < 3:
            h = conv(w, f"encoder.down.{level}.downsample.conv", fn.pad(h, (0, 1, 0, 1)), size, stride=2, padding=0)
    h = fn.silu(group_norm(w, "encoder.norm_out", vae_middle(w, "encoder", h), eps=1e-6))
    return conv(w, "quant_conv", conv(w, "encoder.conv_out", h, 8), 8, size=1).chunk(2, dim=1)[0]


def vae_decode(w, z, channels=32):
    """Pictures (P, 3, H, W) in [-1, 1] of latents z (P, 4, h, w)."""
    h = conv(w, "decoder.conv_in", conv(w, "post_quant_conv", z, 4, size=1), 4 * channels)
    h = vae_middle(w, "decoder", h)
    for level, size in reversed(list(enumerate((channels, 2 * channels, 4 * channels, 4 * channels)))):
        for i in range(3):
            h = vae_block(w, f"decoder.up.{level}.block.{i}", h, size)
        if level:
            h = conv(w, f"decoder.up.{level}.upsample.conv", fn.interpolate(h, scale_factor=2.0, mode="nearest"), size)
    return conv(w, "decoder.conv_out", fn.silu(group_norm(w, "decoder.norm_out", h, eps=1e-6)), 3)


def vae_middle(w, side, h):
    h = vae_block(w, f"{side}.mid.block_1", h, h.shape[1])
    name = f"{side}.mid.attn_1"
    normed = group_norm(w, f"{name}.norm", h, eps=1e-6)
    q, k, v = (conv(w, f"{name}.{c}", normed, h.shape[1], size=1).flatten(2) for c in "qkv")  # (P, C, h·w)
    weights = (q.transpose(1, 2) @ k / math.sqrt(h.shape[1])).softmax(dim=-1)
    mixed = (v @ weights.transpose(1, 2)).unflatten(2, h.shape[2:])
    return vae_block(w, f"{side}.mid.block_2", h + conv(w, f"{name}.proj_out", mixed, h.shape[1], size=1), h.shape[1])


def vae_block(w, name, x, size):
    h = conv(w, f"{name}.conv1", fn.silu(group_norm(w, f"{name}.norm1", x, eps=1e-6)), size)
    h = conv(w, f"{name}.conv2", fn.silu(group_norm(w, f"{name}.norm2", h, eps=1e-6)), size)
    return h + (x if x.shape[1] == size else conv(w, f"{name}.nin_shortcut", x, size, size=1))


# --- text -------------------------------------------------------------------------------------------------------------


def text(w, ids, *, width=64, layers=3, vocabulary=49408):
    """open_clip's text tower up to its last layer but one: (P, 77, width) of token ids (P, 77)."""
    x = w("token_embedding", vocabulary, width)[ids] + w.tensor("positional_embedding", (77, width), 0.3)
    mask = torch.full((77, 77), -math.inf).triu(1)
    for layer in range(layers):
        name = f"transformer.resblocks.{layer}"
        h = layer_norm(w, f"{name}.ln_1", x)
        qkv = w.tensor(f"{name}.attn.in_proj_weight", (3 * width, width), width**-0.5)
        q, k, v = fn.linear(h, qkv, w.tensor(f"{name}.attn.in_proj_bias", (3 * width,), 0.1)).chunk(3, dim=-1)
        q, k, v = (part.unflatten(-1, (-1, 64)).transpose(1, 2) for part in (q, k, v))  # heads of 64
        mixed = ((q @ k.transpose(-1, -2) / 8 + mask).softmax(dim=-1) @ v).transpose(1, 2).flatten(2)
        y = x + linear(w, f"{name}.attn.out_proj", mixed, width)
        h = linear(w, f"{name}.mlp.c_fc", layer_norm(w, f"{name}.ln_2", y), 4 * width)
        y = y + linear(w, f"{name}.mlp.c_proj", fn.gelu(h), width)
        if layer < layers - 1:  # the last layer is in the checkpoint and not in the embedding
            x = y
    return layer_norm(w, "ln_final", x)


# --- checkpoint -------------------------------------------------------------------------------------------------------


def checkpoint(version, told_fps, seed=0, attending=3):
    """(UNet, VAE and text weights, {name: tensor} of a whole checkpoint with its schedule's buffers)."""
    parts = Weights(seed), Weights(seed + 1), Weights(seed + 2)
    one = torch.ones(1, dtype=torch.long)
    z, hidden, fps = torch.zeros(1, 4, 2, 8, 8), torch.zeros(1, 77, 64), 8 if told_fps else None
    unet(parts[0], z, one, hidden, version=version, fps=fps, attending=attending)
    vae_decode(parts[1], vae_encode(parts[1], torch.zeros(1, 3, 16, 16)))
    text(parts[2], torch.zeros(1, 77, dtype=torch.long))
    parts[2].tensor("text_projection", (64, 64), 0.1)
    parts[2].tensor("logit_scale", (), 0.1)
    whole = {}
    prefixes = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.model.")
    for prefix, part in zip(prefixes, parts, strict=True):
        whole |= {prefix + name: tensor for name, tensor in part.items()}
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    whole |= {"betas": betas.float(), "alphas_cumprod": (1 - betas).cumprod(0).float()}
    if told_fps:  # the published models that are told a frame rate also scale their latents
        end = 0.7 if version == 2 else 0.3
        steps = 1000 if version == 2 else 600  # VideoCrafter 2's table is longer than its schedule
        whole["scale_arr"] = torch.cat([torch.linspace(1, end, 400), torch.full((steps,), end)])
    return parts, whole
