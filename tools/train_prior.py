"""Train the embedded prior: a text-conditioned video diffusion model of rendered motion capture.

    python -m tools.prior_data --out=DATA                     # render the clips once (minutes)
    python -m tools.train_prior --data=DATA --out=FOLDER      # train, resume, export; FOLDER is a diffusers folder

The network predicts the clean clip ("sample"). At this size that matters: with velocity or noise prediction the trunk
would have to carry the noise of 30,720 pixels. The loss is weighted by min(SNR + 1/2, 5).
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from bridge.distill.objectives import add_noise
from bridge.priors.base import pack_frames, unpack_frames
from bridge.priors.schedule import alpha_sigma_from_table, timesteps
from md_jax.options.command import parse_simple, whole_numbers
from md_jax.run.torch_side import run_program
from tools import prior_text
from tools.prior_clips import Captions, Clips

STEPS_OF_SCHEDULE = 1000
PACKING = 2
LARGEST_WEIGHT = 5.0  # of the loss at low noise, where the answer is nearly given
EMPTY_SHARE = 0.12  # of the captions are dropped, for classifier-free guidance


class Networks(nn.Module):
    """The UNet and the text encoder, trained together."""

    def __init__(self, unet: nn.Module, text_encoder: nn.Module) -> None:
        super().__init__()
        self.unet = unet
        self.text_encoder = text_encoder

    def forward(self, packed: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(packed, times, self.text_encoder(tokens).last_hidden_state).sample


def make_networks(channels: int, size: int, widths: tuple[int, ...], tokenizer: Any) -> Networks:
    """UNet2DConditionModel over the packed frames and a tiny CLIPTextModel.

    Text reaches every block as a pooled vector in the time embedding (`addition_embed_type`), and the lowest
    resolution by cross-attention; attention higher up costs more than it brings here.
    """
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    levels = len(widths)
    unet: Any = UNet2DConditionModel(
        sample_size=size,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * levels,
        up_block_types=("UpBlock2D",) * levels,
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=16,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=64,
        max_position_embeddings=prior_text.MAX_TOKENS,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Networks(unet, CLIPTextModel(config))


def make_scheduler() -> Any:
    """The noise schedule, as diffusers writes it: cosine (Nichol & Dhariwal 2021), sample prediction."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(
        num_train_timesteps=STEPS_OF_SCHEDULE, beta_schedule="squaredcos_cap_v2", prediction_type="sample",
        clip_sample=True,
    )  # fmt: skip


def loss_of(
    networks: Callable[..., Tensor], video: Tensor, tokens: Tensor, t: Tensor, noise: Tensor, table: Tensor
) -> Tensor:
    """Weighted squared error (N,) of the predicted clean clips."""
    alpha, sigma = alpha_sigma_from_table(t, table)
    packed = pack_frames(add_noise(video, noise, alpha, sigma), PACKING)
    if packed.device.type == "cpu":
        packed = packed.contiguous(memory_format=torch.channels_last)
    with torch.autocast(packed.device.type, dtype=torch.bfloat16):
        raw = networks(packed, timesteps(t, STEPS_OF_SCHEDULE), tokens)
    error = (unpack_frames(raw.float(), PACKING, 3) - video).square().flatten(1).mean(1)
    return ((alpha / sigma).square() + 0.5).clamp(max=LARGEST_WEIGHT) * error


@torch.no_grad()
def validation_loss(networks: Networks, clips: Clips, captions: Captions, table: Tensor, count: int = 256) -> float:
    """The loss on held-out clips with fixed captions, times and noise."""
    device = next(networks.parameters()).device
    index = np.random.default_rng(0).permutation(clips.held_out)[:count]
    rng, generator = random.Random(0), torch.Generator().manual_seed(0)
    total = []
    for part in np.array_split(index, max(len(index) // 64, 1)):
        video = clips.video(part).to(device)
        t = torch.linspace(0.02, 0.98, len(part))
        noise = torch.randn(video.shape, generator=generator)
        tokens = captions.tokens(clips, part, rng, drop=0.0)
        total.append(loss_of(networks, video, tokens.to(device), t.to(device), noise.to(device), table))
    return torch.cat(total).mean().item()


def export(folder: Path, networks: Networks, tokenizer: Any, actions: dict[str, Any], settings: dict[str, Any]) -> None:
    """Write the diffusers folder, weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    half: Any = copy.deepcopy(networks).half()
    half.to(memory_format=torch.contiguous_format)
    half.unet.save_pretrained(folder / "unet", safe_serialization=True)
    half.text_encoder.save_pretrained(folder / "text_encoder", safe_serialization=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    make_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "TextToVideoSDPipeline",
        "_diffusers_version": "0.36.0",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": [None, None],
    }
    for file in folder.glob("*/*.safetensors"):
        file.chmod(0o644)  # safetensors writes them for the owner alone
    for name, value in (("model_index", index), ("prior", settings), ("vocabulary", {"actions": list(actions)})):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def load_weights(networks: Networks, folder: Path) -> None:
    """Weights of an exported prior (`out/prior`, or the shipped one) of the same widths and words."""
    for name in ("unet", "text_encoder"):
        file = next((folder / name).glob("*.safetensors"))
        getattr(networks, name).load_state_dict(load_file(file))


def train(args: SimpleNamespace) -> None:
    """The training loop; an interrupted one goes on where it stood."""
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    share = {name: float(value) for name, _, value in (part.partition("=") for part in args.share)}
    known = json.loads((Path(args.data) / "meta.json").read_text(encoding="utf-8"))["actions"]
    actions = prior_text.load_actions(Path(args.actions_file), args.actions or known)
    tokenizer = prior_text.make_tokenizer(actions)
    clips, captions = Clips(Path(args.data), actions), Captions(actions, tokenizer)
    settings = {**clips.meta["settings"], "frame_packing": PACKING}
    weight = np.array([share.get(action, 1.0) for action in clips.action[clips.train]])
    channels = 3 * settings["frames"] * PACKING**2
    networks: Any = make_networks(channels, settings["height"] // PACKING, tuple(args.widths), tokenizer).to(device)
    networks.to(memory_format=torch.channels_last)
    average = copy.deepcopy(networks).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    table = make_scheduler().alphas_cumprod.to(device)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    step, seconds, resume = 0, 0.0, out / "resume.pt"
    if resume.exists():
        state = torch.load(resume, map_location=device, weights_only=True)
        networks.load_state_dict(state["networks"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print(f"resumed at step {step} after {seconds / 60:.1f} minutes", flush=True)
    elif args.init:
        load_weights(networks, Path(args.init))
        average.load_state_dict(networks.state_dict())
    print(f"{sum(p.numel() for p in networks.parameters()):,} parameters, {len(clips.train)} clips", flush=True)

    forward = torch.compile(networks) if args.compile else networks
    running, began, saved = 0.0, time.perf_counter() - seconds, seconds
    while True:
        done = max(step / args.steps, seconds / 60 / args.minutes if args.minutes else 0.0)
        if done >= 1:
            break
        rng, np_rng = random.Random(f"{args.seed}/{step}"), np.random.default_rng([args.seed, step])
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        index = np_rng.choice(clips.train, args.batch, replace=False, p=weight / weight.sum())
        video = clips.video(index).to(device)
        noise = torch.randn(video.shape, generator=generator).to(device)
        # stratified times: each batch sees the whole range
        t = (torch.rand(args.batch, generator=generator) + torch.arange(args.batch)) / args.batch
        tokens = captions.tokens(clips, index, rng, drop=EMPTY_SHARE).to(device)
        loss = loss_of(forward, video, tokens, t.clamp(1e-3, 0.999).to(device), noise, table).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        optimizer.step()
        optimizer.zero_grad()
        decay = min(args.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), list(networks.parameters()), 1 - decay)
        step, seconds, running = step + 1, time.perf_counter() - began, running + loss.item()
        if step % 50 == 0:
            print(f"step {step} loss {running / 50:.4f} {seconds / 60:.2f} min", flush=True)
            running = 0.0
        if seconds - saved > args.save_minutes * 60:
            saved = seconds
            save(out, resume, networks, average, optimizer, step, seconds, tokenizer, actions, settings)
            print(f"step {step} held-out {validation_loss(average, clips, captions, table):.4f}", flush=True)
    save(out, resume, networks, average, optimizer, step, seconds, tokenizer, actions, settings)
    final = validation_loss(average, clips, captions, table)
    print(f"done: step {step}, {seconds / 60:.1f} minutes, held-out loss {final:.4f}, {out / 'prior'}", flush=True)


def save(out: Path, resume: Path, networks: Networks, average: Networks, optimizer: Any, step: int, seconds: float,
         tokenizer: Any, actions: dict[str, Any], settings: dict[str, Any]) -> None:  # fmt: skip
    """Write what resuming needs, and the averaged weights as a diffusers folder `out/prior`."""
    state = {"networks": networks.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
    part = resume.with_suffix(".part")
    torch.save({**state, "step": step, "seconds": seconds}, part)
    part.replace(resume)
    export(out / "prior", average, tokenizer, actions, settings)


def parse_args(argv: Sequence[str] | None = None) -> SimpleNamespace:
    """The options of a training run; default: from the command line."""
    args = parse_simple(
        __doc__, "tools.train_prior", argv, needed=("data", "out"),
        data=(str, "folder written by tools.prior_data"),
        out=(str, "folder for resume.pt and the exported prior/"),
        init=("", "prior/ folder to start from (same words and widths)"),
        actions_file=("md_jax/assets/actions.json", "the table of actions"),
        actions=([], "names of actions, separated by commas; default: all that DATA holds"),
        share=([], "ACTION=X,...: its clips are drawn X times as often as others"),
        widths=(["64", "128", "128"], "channels of the UNet's levels"),
        batch=(32, "clips a step"),
        lr=(1e-3, "learning rate"),
        ema=(0.998, "decay of the averaged weights"),
        steps=(8000, "training steps"),
        minutes=(0.0, "stop (and finish the schedule) after so long; 0: off"),
        save_minutes=(4.0, "minutes between saves"),
        seed=(0, "of the weights, the noise and the order of clips"),
        threads=(0, "torch threads; 0: torch's own choice"),
        device=("", "default: cuda where there is one"),
        compile=(False, "torch.compile the networks"),
    )  # fmt: skip
    args.widths = whole_numbers("widths", args.widths)
    return args


if __name__ == "__main__":
    run_program(lambda: train(parse_args()))
