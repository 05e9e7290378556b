"""Wan 2.1, CogVideoX and LTX-Video, small and at random, in the layout of their published diffusers folders."""

import json
import struct

import torch

PARTS = ("transformer", "vae", "text_encoder")
WORDS = ["a", "person", "is", "walking", "running", "the", "front", "side", "back", "view", "still", "low", "motion",
         ","]  # fmt: skip
TEXT_WIDTH = 16
EXTRA_IDS = 4


def vocabulary():
    """(piece, score) of a small unigram model: special tokens as in T5, words, and single letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in WORDS]
    return pieces + [(letter, -8.0) for letter in "abcdefghijklmnopqrstuvwxyz"]


def write_spiece(path, charsmap=b""):
    """The vocabulary as a SentencePiece model: protocol buffers, written field by field."""

    def field(number, content):
        return bytes([number << 3 | 2]) + varint(len(content)) + content

    def varint(value):
        return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])

    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}  # control, control, unknown; 1 is the default
    model = b""
    for piece, score in vocabulary():
        kind = bytes([3 << 3, kinds[piece]]) if piece in kinds else b""
        model += field(1, field(1, piece.encode()) + bytes([2 << 3 | 5]) + struct.pack("<f", score) + kind)
    normaliser = field(1, b"nmt_nfkc") + (field(2, charsmap) if charsmap else b"")
    path.write_bytes(model + field(2, bytes([3 << 3, 1])) + field(3, normaliser))


def tokenizer():
    """The vocabulary as a tokenizer of transformers, in the arrangement of a published T5 tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.Unigram(vocabulary(), unk_id=2))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    backend.post_processor = processors.TemplateProcessing(single=["$A", "</s>"], special_tokens=[("</s>", 1)])
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=512, **names)


def text_encoder(kind):
    """A T5EncoderModel (`t5`) or UMT5EncoderModel (`umt5`)."""
    from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

    config = {"vocab_size": len(vocabulary()) + EXTRA_IDS, "d_model": TEXT_WIDTH, "d_kv": 8, "d_ff": 32,
              "num_layers": 2, "num_heads": 2, "feed_forward_proj": "gated-gelu"}  # fmt: skip
    if kind == "umt5":
        return UMT5EncoderModel(UMT5Config(**config))
    return T5EncoderModel(T5Config(**config))


def wan_networks():
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=TEXT_WIDTH, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    vae = AutoencoderKLWan(
        base_dim=4, z_dim=4, dim_mult=[1, 2, 2, 2], num_res_blocks=1, temperal_downsample=[False, True, True],
        latents_mean=[-0.75, 0.11, 0.5, -0.2], latents_std=[2.8, 1.4, 0.6, 1.2],
    )  # fmt: skip
    return transformer, vae


def wan22_networks():
    from diffusers import AutoencoderKLWan, WanTransformer3DModel

    transformer = WanTransformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=6, out_channels=6, text_dim=TEXT_WIDTH, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32,
    )  # fmt: skip
    vae = AutoencoderKLWan(
        base_dim=8, decoder_base_dim=12, z_dim=6, dim_mult=[1, 2, 4, 4], num_res_blocks=2,
        temperal_downsample=[False, True, True], is_residual=True, in_channels=12, out_channels=12, patch_size=2,
        scale_factor_spatial=16, latents_mean=[-0.75, 0.11, 0.5, -0.2, 0.3, 0.0],
        latents_std=[2.8, 1.4, 0.6, 1.2, 0.9, 1.1],
    )  # fmt: skip
    return transformer, vae


def cogvideox_networks(rotary=False):
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=TEXT_WIDTH, num_layers=2, sample_width=90, sample_height=60, sample_frames=49,
        use_rotary_positional_embeddings=rotary,
    )  # fmt: skip
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(8, 8, 8, 8), latent_channels=4, layers_per_block=1, norm_num_groups=2,
        down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
    )  # fmt: skip
    return transformer, vae


def cogvideox15_networks():
    from diffusers import CogVideoXTransformer3DModel

    transformer = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8, num_layers=2,
        text_embed_dim=TEXT_WIDTH, sample_width=300, sample_height=300, sample_frames=81, patch_size_t=2,
        patch_bias=False, use_rotary_positional_embeddings=True,
    )  # fmt: skip
    vae = cogvideox_networks()[1]
    vae.register_to_config(invert_scale_latents=True)
    return transformer, vae


def skyreels_networks(inject_sample_info=True):
    from diffusers import SkyReelsV2Transformer3DModel

    transformer = SkyReelsV2Transformer3DModel(
        num_attention_heads=2, attention_head_dim=12, in_channels=4, out_channels=4, text_dim=TEXT_WIDTH, freq_dim=16,
        ffn_dim=32, num_layers=2, rope_max_seq_len=32, inject_sample_info=inject_sample_info,
    )  # fmt: skip
    return transformer, wan_networks()[1]


def ltx_networks(timestep_conditioning=False):
    from diffusers import AutoencoderKLLTXVideo, LTXVideoTransformer3DModel

    transformer = LTXVideoTransformer3DModel(
        in_channels=6, out_channels=6, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
        num_layers=2, caption_channels=TEXT_WIDTH,
    )  # fmt: skip
    vae = AutoencoderKLLTXVideo(
        latent_channels=6, block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1, 1),
        timestep_conditioning=timestep_conditioning,
    )  # fmt: skip
    vae.latents_mean.copy_(torch.linspace(-0.5, 0.5, 6))
    vae.latents_std.copy_(torch.linspace(0.5, 2.0, 6))
    return transformer, vae


FLOW = {"num_train_timesteps": 1000}
SCHEDULERS = {  # as the scripts/convert_*_to_diffusers.py of diffusers write them
    "wan21": {"_class_name": "UniPCMultistepScheduler", "num_train_timesteps": 1000, "beta_start": 0.0001,
              "beta_end": 0.02, "beta_schedule": "linear", "prediction_type": "flow_prediction", "flow_shift": 3.0,
              "use_flow_sigmas": True, "solver_order": 2, "solver_type": "bh2", "timestep_spacing": "linspace",
              "predict_x0": True, "lower_order_final": True, "final_sigmas_type": "zero"},
    "cogvideox": {"_class_name": "CogVideoXDDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085,
                  "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
                  "prediction_type": "v_prediction", "rescale_betas_zero_snr": True, "snr_shift_scale": 3.0,
                  "set_alpha_to_one": True, "timestep_spacing": "linspace", "steps_offset": 0},
    "ltx": {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "base_image_seq_len": 1024,
            "base_shift": 0.95, "max_image_seq_len": 4096, "max_shift": 2.05, "shift": 1.0, "shift_terminal": 0.1,
            "use_dynamic_shifting": True},
}  # fmt: skip
SETTINGS = {"wan22": {"boundary_ratio": None, "expand_timesteps": True, "transformer_2": [None, None]}}
SCHEDULERS["wan22"] = SCHEDULERS["wan21"] | {"flow_shift": 5.0}
SCHEDULERS["skyreels2"] = SCHEDULERS["wan21"] | {"flow_shift": 1.0}
SCHEDULERS["cogvideox15"] = SCHEDULERS["cogvideox"] | {"snr_shift_scale": 1.0, "timestep_spacing": "trailing"}
PIPELINES = {"wan21": "WanPipeline", "wan22": "WanPipeline", "skyreels2": "SkyReelsV2DiffusionForcingPipeline",
             "cogvideox": "CogVideoXPipeline", "cogvideox15": "CogVideoXPipeline", "ltx": "LTXPipeline"}  # fmt: skip
MAKERS = {"wan21": wan_networks, "wan22": wan22_networks, "skyreels2": skyreels_networks,
          "cogvideox": cogvideox_networks, "cogvideox15": cogvideox15_networks, "ltx": ltx_networks}  # fmt: skip
UMT5 = ("wan21", "wan22", "skyreels2")
SHARDS = {"transformer": "20KB", "text_encoder": "8KB", "vae": "1GB"}  # the two large ones are published in pieces


def transformer_folder(path, name, seed=0, *, safe=True, dtype=torch.float32, variant=None, sharded=True, **options):
    """A folder of one family; `options` go to its networks."""
    torch.manual_seed(seed)
    transformer, vae = MAKERS[name](**options)
    encoder = text_encoder("umt5" if name in UMT5 else "t5")
    networks = {"transformer": transformer, "vae": vae, "text_encoder": encoder}
    for part, network in networks.items():
        for parameter in network.parameters():  # no gate that starts at zero, and no bias
            parameter.data.add_(0.05 * torch.randn_like(parameter))
        kind = {} if part == "text_encoder" else {"safe_serialization": safe}
        size = {"max_shard_size": SHARDS[part] if sharded else "1GB"}
        network = network if dtype == torch.float32 else network.to(dtype)
        network.save_pretrained(path / part, variant=variant, **kind, **size)
    (path / "tokenizer").mkdir(exist_ok=True)
    write_spiece(path / "tokenizer" / "spiece.model")
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    if name in UMT5:
        tokenizer().backend_tokenizer.save(str(path / "tokenizer" / "tokenizer.json"))
    else:
        extra = {f"<extra_id_{i}>": len(vocabulary()) + i for i in range(EXTRA_IDS)}
        write_json(path / "tokenizer" / "added_tokens.json", extra)
    write_json(path / "tokenizer" / "special_tokens_map.json", names)
    config = {**names, "model_max_length": 512 if name in UMT5 else 226, "tokenizer_class": "T5Tokenizer"}
    write_json(path / "tokenizer" / "tokenizer_config.json", config)
    (path / "scheduler").mkdir(exist_ok=True)
    write_json(path / "scheduler" / "scheduler_config.json", SCHEDULERS[name])
    write_json(path / "model_index.json", {
        "_class_name": PIPELINES[name],
        "scheduler": ["diffusers", SCHEDULERS[name]["_class_name"]],
        "text_encoder": ["transformers", type(encoder).__name__],
        "tokenizer": ["transformers", "T5TokenizerFast" if name in UMT5 else "T5Tokenizer"],
        "transformer": ["diffusers", type(transformer).__name__],
        "vae": ["diffusers", type(vae).__name__],
        **SETTINGS.get(name, {}),
    })  # fmt: skip
    return path


def write_json(path, content):
    path.write_text(json.dumps(content))


def pipeline(path, name):
    """Diffusers' own pipeline over the networks of a folder."""
    import diffusers

    from bridge.priors.weights.networks import read_network

    index = json.loads((path / "model_index.json").read_text())
    # without accelerate diffusers itself cannot read Wan's transformer
    parts = {part: read_network(path, part, index[part][1], torch.float32) for part in PARTS}
    scheduler = getattr(diffusers, index["scheduler"][1]).from_pretrained(path / "scheduler")
    settings = {key: index[key] for key in ("expand_timesteps",) if key in index}
    made = getattr(diffusers, index["_class_name"])(**parts, **settings, scheduler=scheduler, tokenizer=tokenizer())
    made.set_progress_bar_config(disable=True)
    return made


def newer_ltx_folder(path, version="0.9.5", **options):
    """LTX-Video 0.9.5 to 0.9.8 as published: another pipeline, no shift by size, a VAE that is told of noise."""
    transformer_folder(path, "ltx", timestep_conditioning=True, **options)
    edit_json(path / "scheduler" / "scheduler_config.json", use_dynamic_shifting=False, shift_terminal=None)
    edit_json(path / "model_index.json", _class_name="LTXConditionPipeline", _name_or_path=f"LTX-Video-{version}")
    return path


def edit_json(path, **changes):
    write_json(path, json.loads(path.read_text()) | changes)
