"""Tiny Stable Diffusion and LTX-Video, the same weights as a diffusers folder and as their authors' one file."""

import json
import re
import shutil

import torch
from safetensors.torch import save_file

from tests.bridge.priors import tiny_transformers as tiny
from tests.bridge.priors.test_text_to_video import write_tokenizer

RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
          "conv2": "out_layers.3", "conv_shortcut": "skip_connection"}  # fmt: skip
TEXT_LAYER = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
              "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip
TOP = {"conv_in": "input_blocks.0.0", "time_embedding.linear_1": "time_embed.0",
       "time_embedding.linear_2": "time_embed.2", "conv_norm_out": "out.0", "conv_out": "out.2"}  # fmt: skip


def networks(version):
    """UNet, VAE and text encoder with the published number of heads."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(version)
    widths = (32, 64) if version == 1 else (64, 128)
    unet = UNet2DConditionModel(
        sample_size=64, block_out_channels=widths, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=1, cross_attention_dim=64,
        attention_head_dim=8 if version == 1 else (1, 2), use_linear_projection=version == 2,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=("DownEncoderBlock2D",) * 2, latent_channels=4,
        up_block_types=("UpDecoderBlock2D",) * 2, layers_per_block=1, scaling_factor=0.18215,
    )  # fmt: skip
    layers = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 96}
    text = CLIPTextModel(CLIPTextConfig(hidden_act="quick_gelu" if version == 1 else "gelu", **layers))
    return {"unet": unet, "vae": vae, "text_encoder": text}


def stable_diffusion(root, version, prediction="epsilon"):
    """(folder, state dict of the file)."""
    made, folder = networks(version), root / f"sd{version}"
    for part, network in made.items():
        for parameter in network.parameters():
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        network.save_pretrained(folder / part)
    write_tokenizer(folder / "tokenizer")
    if version == 1:
        edit(folder / "tokenizer" / "special_tokens_map.json", pad_token="<|endoftext|>")
    (folder / "scheduler").mkdir()
    schedule = {"_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
                "beta_schedule": "scaled_linear", "prediction_type": prediction}  # fmt: skip
    tiny.write_json(folder / "scheduler" / "scheduler_config.json", schedule)
    tiny.write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    })  # fmt: skip
    state = {f"model.diffusion_model.{unet_name(key)}": t for key, t in made["unet"].state_dict().items()}
    for key, tensor in made["vae"].state_dict().items():
        name = vae_name(key)
        linear = ".attn_1." in name and name.endswith("weight") and tensor.ndim == 2
        state[f"first_stage_model.{name}"] = tensor[..., None, None] if linear else tensor
    state |= clip_state(made["text_encoder"]) if version == 1 else open_clip_state(made["text_encoder"])
    state["model_ema.decay"], state["betas"] = torch.ones(()), torch.zeros(1000)
    return folder, {key: tensor.contiguous().clone() for key, tensor in state.items()}


def unet_name(key):
    for ours, theirs in TOP.items():
        if key.startswith(ours + "."):
            return theirs + key.removeprefix(ours)
    kind = re.search(r"\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)", key)
    part, index, rest = kind.group(1), int(kind.group(2)), kind.group(3)
    if part == "resnets":
        ours, _, leaf = rest.rpartition(".")
        rest = f"{RESNET[ours]}.{leaf}"
    if key.startswith("mid_block"):
        return f"middle_block.{2 * index if part == 'resnets' else 1}.{rest}"
    block = int(key.split(".")[1])
    if part == "downsamplers":
        return f"input_blocks.{2 * block + 2}.0.op.{rest.removeprefix('conv.')}"
    if part == "upsamplers":
        return f"output_blocks.{2 * block + 1}.{2 if block else 1}.{rest}"  # the first has no attention
    place, down = 0 if part == "resnets" else 1, key.startswith("down")
    return f"{'input' if down else 'output'}_blocks.{2 * block + index + down}.{place}.{rest}"


def vae_name(key):
    key = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", key)
    key = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", key)
    key = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{1 - int(m.group(1))}.block", key)
    key = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{1 - int(m.group(1))}.upsample", key)
    key = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m.group(1)) + 1}", key)
    key = key.replace("mid_block.attentions.0", "mid.attn_1").replace("conv_shortcut", "nin_shortcut")
    for ours, theirs in (("group_norm", "norm"), ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out")):
        key = key.replace(f"attn_1.{ours}.", f"attn_1.{theirs}.")
    return key.replace("conv_norm_out", "norm_out")


def clip_state(encoder):
    prefix = "cond_stage_model.transformer.text_model."
    state = {prefix + key: tensor for key, tensor in encoder.state_dict().items()}
    return state | {prefix + "embeddings.position_ids": torch.arange(77)[None]}


def open_clip_state(encoder):
    """The tower with one more layer, which nothing reads."""
    own, prefix = encoder.state_dict(), "cond_stage_model.model."
    state = {"token_embedding.weight": own["embeddings.token_embedding.weight"],
             "positional_embedding": own["embeddings.position_embedding.weight"],
             "ln_final.weight": own["final_layer_norm.weight"], "ln_final.bias": own["final_layer_norm.bias"],
             "logit_scale": torch.ones(()), "text_projection": torch.eye(64)}  # fmt: skip
    for layer in range(3):
        there = f"encoder.layers.{min(layer, 1)}"
        here = f"transformer.resblocks.{layer}"
        for leaf in ("weight", "bias"):
            parts = [own[f"{there}.self_attn.{x}_proj.{leaf}"] for x in "qkv"]
            state[f"{here}.attn.in_proj_{leaf}"] = torch.cat(parts)
            for ours, theirs in TEXT_LAYER.items():
                state[f"{here}.{theirs}.{leaf}"] = own[f"{there}.{ours}.{leaf}"]
    return {prefix + key: tensor for key, tensor in state.items()}


# --- LTX-Video --------------------------------------------------------------------------------------------------------

DECODER = {"decoder_spatio_temporal_scaling": (True,) * 3, "upsample_residual": (True,) * 3,
           "upsample_factor": (2,) * 3, "decoder_block_out_channels": (16, 32, 64),
           "decoder_layers_per_block": (1, 2, 1, 2), "timestep_conditioning": True}  # fmt: skip
LTX_VAES = {
    "0.9.0": {"block_out_channels": (8, 16, 24, 24), "decoder_block_out_channels": (8, 16, 24, 24),
              "layers_per_block": (2, 1, 1, 1, 2), "decoder_layers_per_block": (2, 1, 1, 1, 2)},
    "0.9.1": {"block_out_channels": (8, 16, 24, 24), "layers_per_block": (2, 1, 1, 1, 2), **DECODER,
              "decoder_inject_noise": (True, True, True, False)},
    "0.9.5": {"block_out_channels": (8, 16, 32, 64, 64), "layers_per_block": (1, 2, 1, 1, 2), **DECODER,
              "down_block_types": ("LTXVideo095DownBlock3D",) * 4, "spatio_temporal_scaling": (True,) * 4,
              "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
              "decoder_inject_noise": (False,) * 4, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
}  # fmt: skip
# the file's blocks, one after the other, by diffusers' names
OLD_ENCODER = ("down_blocks.0", "down_blocks.0.downsamplers.0", "down_blocks.0.conv_out", "down_blocks.1",
               "down_blocks.1.downsamplers.0", "down_blocks.1.conv_out", "down_blocks.2",
               "down_blocks.2.downsamplers.0", "down_blocks.3", "mid_block")  # fmt: skip
OLD_DECODER = ("mid_block", "up_blocks.0", "up_blocks.1.upsamplers.0", "up_blocks.1", "up_blocks.2.conv_in",
               "up_blocks.2.upsamplers.0", "up_blocks.2", "up_blocks.3.conv_in", "up_blocks.3.upsamplers.0",
               "up_blocks.3")  # fmt: skip
NEW_ENCODER = ("down_blocks.0", "down_blocks.0.downsamplers.0", "down_blocks.1", "down_blocks.1.downsamplers.0",
               "down_blocks.2", "down_blocks.2.downsamplers.0", "down_blocks.3", "down_blocks.3.downsamplers.0",
               "mid_block")  # fmt: skip
NEW_DECODER = ("mid_block", "up_blocks.0.upsamplers.0", "up_blocks.0", "up_blocks.1.upsamplers.0", "up_blocks.1",
               "up_blocks.2.upsamplers.0", "up_blocks.2")  # fmt: skip
BLOCKS = {"0.9.0": (OLD_ENCODER, OLD_DECODER), "0.9.1": (OLD_ENCODER, NEW_DECODER),
          "0.9.5": (NEW_ENCODER, NEW_DECODER)}  # fmt: skip


def ltx_networks(version):
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    transformer = LTXVideoTransformer3DModel(
        in_channels=6, out_channels=6, num_attention_heads=32, attention_head_dim=6, cross_attention_dim=192,
        num_layers=2, caption_channels=tiny.TEXT_WIDTH,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(latent_channels=6, **LTX_VAES[version])
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 6))
    vae.latents_std.copy_(torch.linspace(0.5, 2.0, 6))
    return transformer, vae


def ltx(root, version):
    """(folder, state dict of the file)."""
    from bridge.priors.weights.networks import read_network

    folder = root / f"ltx-{version}"
    networks_of, tiny.MAKERS["ltx"] = tiny.MAKERS["ltx"], lambda: ltx_networks(version)
    try:
        tiny.transformer_folder(folder, "ltx")
    finally:
        tiny.MAKERS["ltx"] = networks_of
    if version == "0.9.5":
        tiny.edit_json(folder / "scheduler" / "scheduler_config.json", use_dynamic_shifting=False, shift_terminal=None)
        tiny.edit_json(folder / "model_index.json", _class_name="LTXConditionPipeline")
    index = json.loads((folder / "model_index.json").read_text())
    transformer, vae = (read_network(folder, part, index[part][1], torch.float32) for part in ("transformer", "vae"))
    state = {f"model.diffusion_model.{ltx_name(key)}": tensor for key, tensor in transformer.state_dict().items()}
    state |= {f"vae.{ltx_vae_name(key, version)}": tensor for key, tensor in vae.state_dict().items()}
    state["vae.per_channel_statistics.channel"] = torch.arange(6.0)
    state["vae.per_channel_statistics.mean-of-stds"] = torch.ones(6)
    return folder, {key: tensor.contiguous().clone() for key, tensor in state.items()}


def ltx_name(key):
    key = re.sub(r"^proj_in\.", "patchify_proj.", key).replace("time_embed.", "adaln_single.")
    return key.replace("norm_q", "q_norm").replace("norm_k", "k_norm")


def ltx_vae_name(key, version):
    statistics = {"latents_mean": "mean-of-means", "latents_std": "std-of-means"}
    if key in statistics:
        return f"per_channel_statistics.{statistics[key]}"
    side, _, rest = key.partition(".")
    blocks = BLOCKS[version][side == "decoder"]
    block = max((name for name in blocks if rest.startswith(name + ".")), key=len, default=None)
    if block is not None:
        way = "up" if side == "decoder" else "down"
        rest = f"{way}_blocks.{blocks.index(block)}{rest.removeprefix(block)}"
    for ours, theirs in (("resnets", "res_blocks"), ("norm3.", "norm3.norm."), ("conv_shortcut.conv", "conv_shortcut")):
        rest = rest.replace(ours, theirs)
    if block is None:
        rest = re.sub("^(time_embedder|scale_shift_table)", r"last_\1", rest)
    return f"{side}.{rest}"


# --- files ------------------------------------------------------------------------------------------------------------


def write(state, path, **metadata):
    save_file(state, path, {"format": "pt", **metadata})
    return path


def t5_folder(folder, target):
    """T5 alone, as beside the published files."""
    for part in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / part, target / part)
    return target


edit = tiny.edit_json
