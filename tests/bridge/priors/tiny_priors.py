"""Diffusers folders of tiny random networks, made where a test needs one."""

import json
import shutil

import torch
from safetensors.torch import save_file

from bridge.priors.embedded.autoencoder import Autoencoder
from bridge.priors.embedded.frames import Shape
from tests.bridge.priors import packed
from tools import prior_components

ACTIONS = {
    "walking": {"phrase": "walking", "synonyms": ["walk", "strolling"]},
    "washwindow": {"phrase": "washing a window", "synonyms": ["washing window"]},
}
SETTINGS = {
    "frames": 4, "fps": 10, "height": 16, "width": 16, "cameras": [0.0], "elevation": [5.0, 20.0], "fov": 40.0,
    "distance": 3.2, "background": [0.9, 0.9, 0.9], "licence": "none", "frame_packing": 2,
}  # fmt: skip
TWO_CAMERAS = SETTINGS | {"width": 32, "cameras": [0.0, 90.0]}
OWN = {name: value for name, value in TWO_CAMERAS.items() if name != "frame_packing"}


def packed_folder(path, seed=0, settings=SETTINGS):
    """A diffusers folder with a prior.json: a 2D UNet that takes frames as channels."""
    return packed.write(path, ACTIONS, settings, seed)


def own_folder(path, seed=0, **sizes):
    """A folder of the shipped prior's kind, written by the training tool's own export."""
    from tools import prior_text, train_prior

    torch.manual_seed(seed)
    path.mkdir(parents=True, exist_ok=True)
    tokenizer = prior_text.make_tokenizer(ACTIONS, dict.fromkeys(ACTIONS, 3))
    given = {"frames": 4, "channels": 12, "width": 32, "layers": 2, "heads": 2, "text_width": 8} | sizes
    given |= {"cameras": 2, "components": 12, "hidden": 16}
    shape = Shape(words=tokenizer.get_vocab_size(), tokens=prior_text.MAX_TOKENS, **given)
    networks = train_prior.Networks(shape)
    networks.first_values(torch.linspace(2, 0.5, shape.channels).repeat(shape.frames, 1))
    for parameter in networks.parameters():  # no gate that starts at zero
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    autoencoder = Autoencoder(shape.channels, shape.cameras, shape.components, shape.hidden, 16, 16)
    autoencoder.load_state_dict(prior_components.fit(torch.rand(60, 16, 16, 3), shape.components), strict=False)
    save_file(autoencoder.state_dict(), path / "autoencoder.safetensors")
    moments = {action: [0.5, 0.25, 0.25] for action in ACTIONS}
    vocabulary = {"actions": list(ACTIONS), "manner": list(prior_text.SAID), "moments": moments}
    stated = {"prior": OWN, "vocabulary": vocabulary}
    train_prior.export(path, networks, path / "autoencoder.safetensors", tokenizer, stated)
    (path / "autoencoder.safetensors").unlink()
    return path


def video_folder(path, seed=0, safe=True):
    """A folder in ModelScope's layout: 3D UNet, per-frame VAE, CLIP text encoder."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from tools import prior_text

    torch.manual_seed(seed)
    tokenizer = packed.word_tokenizer(ACTIONS)
    UNet3DConditionModel(
        sample_size=4, block_out_channels=(8, 8), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4,
        layers_per_block=1, down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
    ).save_pretrained(path / "unet", safe_serialization=safe)  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    ).save_pretrained(path / "vae", safe_serialization=safe)  # fmt: skip
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        projection_dim=8, max_position_embeddings=prior_text.MAX_TOKENS, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    CLIPTextModel(config).save_pretrained(path / "text_encoder")
    tokenizer.save_pretrained(path / "tokenizer")
    DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").save_pretrained(path / "scheduler")
    index = {
        "_class_name": "TextToVideoSDPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet3DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def picture_folder(path, seed=0):
    """A folder in Stable Diffusion's layout, for pictures of 16x16: 2D UNet and the rest of `video_folder`."""
    from diffusers import UNet2DConditionModel

    video_folder(path, seed)
    shutil.rmtree(path / "unet")
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 8), norm_num_groups=4, cross_attention_dim=8, attention_head_dim=4,
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).save_pretrained(path / "unet")  # fmt: skip
    index = json.loads((path / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    (path / "model_index.json").write_text(json.dumps(index))
    return path


def tiny_vae_folder(path, blocks=2, seed=0):
    """A folder with an AutoencoderTiny that halves pictures `blocks` - 1 times."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(seed)
    AutoencoderTiny(
        encoder_block_out_channels=(8,) * blocks, decoder_block_out_channels=(8,) * blocks,
        num_encoder_blocks=(1,) * blocks, num_decoder_blocks=(1,) * blocks,
    ).save_pretrained(path)  # fmt: skip
    return path
