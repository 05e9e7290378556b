"""GPU memory of a step on Wan 2.1, CogVideoX and LTX-Video, without a GPU: python -m benchmarks.memory_transformers.

As `benchmarks.memory`: full-size networks on torch's meta device, every block of memory counted from birth to death. Of
the causal VAEs, a clip's forward and backward pass is counted as it is done (parts recomputed) and as plain autograd
would do it. The text encoder stands beside the other networks until the prompts are embedded.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from benchmarks import timing
from benchmarks.memory import FRAMEWORKS, GIB, SAMPLE, SCRATCH, SUPERSAMPLE, counted, weight_bytes
from bridge.priors.base import pull_back
from bridge.priors.transformer import cogvideox, wan
from bridge.priors.tuning import recomputed
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

T5, UMT5 = 4_762_310_656, 5_680_910_336  # parameters of the XXL encoders


class Model(NamedTuple):
    """Classes of diffusers that a family is made of; their defaults, changed by `sizes`, are the published sizes."""

    transformer: str
    sizes: dict[str, Any]
    vae: str
    vae_sizes: dict[str, Any]
    vae_dtype: torch.dtype
    text: int  # parameters of the text encoder
    tokens: int
    clips: tuple[tuple[int, int, int], ...]  # (frames, height, width): the flagfile's, the native one


MODELS = {
    "wan21": Model(
        "WanTransformer3DModel", {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960}, "AutoencoderKLWan", {},
        torch.float32, UMT5, 512, ((17, 480, 832), (81, 480, 832)),
    ),
    "wan22": Model(
        "WanTransformer3DModel",
        {"num_attention_heads": 24, "num_layers": 30, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48},
        "AutoencoderKLWan",
        {"base_dim": 160, "decoder_base_dim": 256, "z_dim": 48, "is_residual": True, "in_channels": 12,
         "out_channels": 12, "patch_size": 2, "scale_factor_spatial": 16},
        torch.float32, UMT5, 512, ((25, 704, 1280), (121, 704, 1280)),
    ),
    "cogvideox": Model(
        "CogVideoXTransformer3DModel", {}, "AutoencoderKLCogVideoX",
        {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4},
        torch.float16, T5, 226, ((9, 480, 720), (49, 480, 720)),
    ),
    "skyreels2": Model(
        "SkyReelsV2Transformer3DModel",
        {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960, "inject_sample_info": True},
        "AutoencoderKLWan", {}, torch.float32, UMT5, 512, ((25, 544, 960), (97, 544, 960)),
    ),
    "cogvideox15": Model(
        "CogVideoXTransformer3DModel",
        {"num_attention_heads": 48, "num_layers": 42, "patch_size_t": 2, "patch_bias": False, "sample_width": 300,
         "sample_height": 300, "sample_frames": 81, "use_rotary_positional_embeddings": True},
        "AutoencoderKLCogVideoX",
        {"down_block_types": ("CogVideoXDownBlock3D",) * 4, "up_block_types": ("CogVideoXUpBlock3D",) * 4},
        torch.float16, T5, 226, ((17, 768, 1360), (81, 768, 1360)),
    ),
    "ltx": Model(
        "LTXVideoTransformer3DModel", {}, "AutoencoderKLLTXVideo", {}, torch.float16, T5, 128,
        ((25, 512, 704), (161, 512, 704)),
    ),
}  # fmt: skip


def networks(model: Model) -> tuple[Any, Any]:
    """(transformer, VAE) on the meta device, frozen."""
    import diffusers

    with torch.device("meta"):
        transformer = getattr(diffusers, model.transformer)(**model.sizes)
        vae = getattr(diffusers, model.vae)(**model.vae_sizes)
    torch.nn.Module.to(transformer, torch.float16).requires_grad_(False).eval()
    torch.nn.Module.to(vae, model.vae_dtype).requires_grad_(False).eval()
    return transformer, vae


def encoder_of(name: str, vae: Any, plain: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """What encodes a clip: the prior's way, or the VAE's own without recomputing anything."""
    if vae._supports_gradient_checkpointing:
        vae.disable_gradient_checkpointing() if plain else vae.enable_gradient_checkpointing(recomputed)
    if name == "ltx" or plain:
        return lambda clip: vae.encode(clip).latent_dist.mean
    return functools.partial((cogvideox if name.startswith("cogvideox") else wan).encode_in_chunks, vae)


def encoder_peak(encode: Callable[[torch.Tensor], torch.Tensor], vae: Any, clip: Sequence[int]) -> tuple[int, int]:
    """(most bytes while a clip is encoded, forward and backward; bytes kept between the two)."""
    video = torch.empty(1, 3, *clip, dtype=vae.dtype, device="meta", requires_grad=True)
    with counted(vae, video) as counter:
        z = encode(video)
        kept = counter.live
        pull_back(z, video, torch.empty_like(z))
    return counter.peak, kept


def denoiser_peak(name: str, model: Model, transformer: Any, latents: Sequence[int]) -> int:
    """The most bytes of activations while the transformer predicts under two texts at once."""
    channels, frames, height, width = latents
    z = torch.empty(2, *latents, dtype=torch.float16, device="meta")
    config = transformer.config
    wide = next(config[key] for key in ("text_dim", "text_embed_dim", "caption_channels") if key in config)
    text = torch.empty(2, model.tokens, wide, dtype=torch.float16, device="meta")
    inputs: dict[str, Any] = {"encoder_hidden_states": text, "timestep": torch.empty(2, device="meta")}
    if name == "wan22":  # a time for each patch
        inputs["timestep"] = torch.empty(2, frames * (height // 2) * (width // 2), device="meta")
    if name == "skyreels2":  # one text at a time, a time for each latent frame
        z, text = z[:1], text[:1]
        inputs = {"encoder_hidden_states": text, "timestep": torch.empty(1, frames, device="meta")}
        inputs |= {"enable_diffusion_forcing": True, "fps": [1]}
    if name == "cogvideox15":  # a copy of the first latent frame makes their number even
        frames += frames % 2
        inputs["image_rotary_emb"] = cogvideox.rotary_positions(
            config, frames, height, width, device=torch.device("meta")
        )
    if name.startswith("cogvideox"):
        z = torch.empty(2, frames, channels, height, width, dtype=torch.float16, device="meta")
    if name == "ltx":
        z = torch.empty(2, frames * height * width, channels, dtype=torch.float16, device="meta")
        mask = torch.ones(2, model.tokens, dtype=torch.bool, device="meta")
        inputs |= {"num_frames": frames, "height": height, "width": width, "encoder_attention_mask": mask}
    with torch.no_grad(), counted(transformer, z, text) as counter:
        transformer(z, **inputs)
    return counter.peak


def estimate(name: str, model: Model, transformer: Any, vae: Any, clip: tuple[int, int, int]) -> dict[str, int]:
    """Bytes of a step on one view: its parts, and the peak of the sum."""
    own, kept = encoder_peak(encoder_of(name, vae, plain=False), vae, clip)
    plain, _ = encoder_peak(encoder_of(name, vae, plain=True), vae, clip)
    with torch.no_grad():
        z = encoder_of(name, vae, plain=True)(torch.empty(1, 3, *clip, dtype=vae.dtype, device="meta"))
    denoise = denoiser_peak(name, model, transformer, z.shape[1:])
    samples = clip[0] * clip[1] * clip[2] * SUPERSAMPLE**2
    render = samples * SAMPLE + min(SCRATCH, 32 * samples) + 3 * 12 * clip[0] * clip[1] * clip[2]
    weights, text = weight_bytes(transformer) + weight_bytes(vae), 2 * model.text
    step = FRAMEWORKS + weights + render + max(own, kept + denoise)
    return {"text": text, "weights": weights, "render": render, "denoise": denoise, "plain": plain, "encode": own,
            "kept": kept, "embedding": FRAMEWORKS + weights + text, "step": step}  # fmt: skip


def measure(models: dict[str, Model]) -> list[dict[str, Any]]:
    """One row for each model and clip."""
    rows = []
    for name, model in models.items():
        pair = networks(model)
        for clip in model.clips:
            rows.append({"prior": name, "clip": "{} x {}x{}".format(*clip), **estimate(name, model, *pair, clip)})
    return rows


def report(rows: Sequence[dict[str, Any]]) -> str:
    """A table in GiB."""
    names = ("text", "weights", "render", "denoise", "plain", "encode", "kept", "embedding", "step")
    cells = [[f"{row['prior']}, {row['clip']}", *(f"{row[name] / GIB:.1f}" for name in names)] for row in rows]
    return timing.table(["one view a step, half precision, GiB", *names], cells)


def main() -> None:
    """Estimate, print the table, and write JSON if asked to."""
    arguments = parse_simple(
        __doc__, "benchmarks.memory_transformers",
        quick=(False, "the flagfiles' clips alone"),
        json=("", "also write the numbers there"),
    )  # fmt: skip
    models = {n: m._replace(clips=m.clips[:1]) if arguments.quick else m for n, m in MODELS.items()}
    rows = measure(models)
    print(report(rows))
    if arguments.json:
        timing.write_json(arguments.json, {"environment": timing.environment("torch", "diffusers"), "rows": rows})


if __name__ == "__main__":
    run_program(main)
