"""A diffusers folder of a 2D UNet that takes a clip's frames as channels, with random weights."""

import json

import torch

from tools import prior_text

PACKING = 2
TEXT_WIDTH = 16


def word_tokenizer(actions):
    """The words of captions as transformers reads them, between a start and an end."""
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = prior_text.make_tokenizer(actions, dict.fromkeys(actions, 3))
    tokenizer.add_special_tokens(["<start>", "<end>"])
    ends = [(word, tokenizer.token_to_id(word)) for word in ("<start>", "<end>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<start> $A <end>", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=prior_text.MAX_TOKENS, pad_token="<pad>", bos_token="<start>",
        eos_token="<end>", unk_token="<unknown>",
    )  # fmt: skip


def write(path, actions, settings, seed=0):
    """Write the folder for clips as `settings` (its prior.json) state them."""
    from diffusers import DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = word_tokenizer(actions)
    channels = 3 * len(settings["cameras"]) * settings["frames"] * PACKING**2
    unet = UNet2DConditionModel(
        sample_size=settings["height"] // PACKING, in_channels=channels, out_channels=channels,
        block_out_channels=(16, 16), down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2,
        layers_per_block=1, cross_attention_dim=TEXT_WIDTH, attention_head_dim=4, norm_num_groups=16,
        resnet_time_scale_shift="scale_shift", addition_embed_type="text", addition_embed_type_num_heads=4,
    )  # fmt: skip
    text_encoder = CLIPTextModel(CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT_WIDTH, intermediate_size=2 * TEXT_WIDTH, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=TEXT_WIDTH, max_position_embeddings=prior_text.MAX_TOKENS,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    ))  # fmt: skip
    for network, part in ((unet, "unet"), (text_encoder, "text_encoder")):
        for parameter in network.parameters():  # no output convolution that starts at zero
            parameter.data.add_(0.02 * torch.randn_like(parameter))
        network.half().save_pretrained(path / part, safe_serialization=True)
    tokenizer.save_pretrained(path / "tokenizer")
    DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="sample", clip_sample=True
    ).save_pretrained(path / "scheduler")  # fmt: skip
    index = {
        "_class_name": "TextToVideoSDPipeline",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": [None, None],
    }
    facts = {"model_index": index, "prior": settings | {"frame_packing": PACKING}}
    facts["vocabulary"] = {"actions": list(actions)}
    for name, value in facts.items():
        (path / f"{name}.json").write_text(json.dumps(value))
    return path
