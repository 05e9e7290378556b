"""Train the embedded prior: a text-conditioned video diffusion model of rendered motion capture.

    python -m tools.prior_data --out=DATA                     # render the clips once (minutes)
    python -m tools.train_autoencoder --data=DATA             # train their autoencoder (minutes)
    python -m tools.train_prior --data=DATA --out=FOLDER      # train, resume, export; FOLDER/prior is the prior

The network predicts the clean latents ("sample"). The loss compares what it adds to the best linear guess with what was
missing (`bridge.priors.embedded.frames`), so every noise level counts alike; cosines and channels count by their size.
What is usual under a text, on which that guess stands, learns by its likelihood.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from bridge.priors.embedded.frames import FrameTransformer, Shape, cosines
from bridge.priors.embedded.text import WordEncoder
from bridge.priors.schedule import alpha_sigma_from_table, cosine_table
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program
from tools import learning_rate, prior_text
from tools.prior_clips import AUTOENCODER, Captions, Clips

TEXT_WIDTH = 256
HEAD = 64  # width of one attention head
NOISY = 0.7  # exponent of uniform times: more of the noisy end, where captions decide
EMPTY_SHARE = 0.12  # of the captions are dropped, for classifier-free guidance
WARM_UP = 200  # steps
LEAST_STD = 1e-3  # of what is the same in all clips


class Networks(nn.Module):
    """The denoiser and the text encoder, trained together."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.denoiser = FrameTransformer(shape)
        self.text_encoder = WordEncoder(shape.words, shape.text_width)

    def first_values(self, std: Tensor) -> None:
        """Draw the weights; what gates and output begin with is nothing.

        Args:
            std: (F, C) of the latents' cosines over time.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        net = self.denoiser
        net.std.copy_(std)
        nn.init.normal_(net.position, std=0.02)
        nn.init.normal_(self.text_encoder.vectors.weight, std=0.4)
        usual = net.usual[-1]
        assert isinstance(usual, nn.Linear)
        for layer in (net.shifts, net.last, net.frame_out, usual):
            nn.init.zeros_(layer.weight)


class Losses(NamedTuple):
    """Of each clip (N,)."""

    denoising: Tensor
    usual: Tensor


def losses_of(networks: Networks, latents: Tensor, tokens: Tensor, t: Tensor, noise: Tensor, table: Tensor) -> Losses:
    """Weighted squared error of the predicted clean latents (N, F, C), and −log likelihood of them under their text.

    Both are means over time's cosines and channels. The error is that over what the best linear guess leaves open, so a
    calm action counts as much as a lively one.
    """
    alpha, sigma = (x[:, None, None] for x in alpha_sigma_from_table(t, table))
    text, to_rates, net = networks.text_encoder(tokens), cosines(latents.shape[1]), networks.denoiser
    mean, std = net.usual_of(text)
    rates = to_rates @ latents
    surprise = (std / net.std).log() + ((rates - mean) / std).square() / 2

    missed = to_rates @ net.denoise(alpha * latents + sigma * noise, t, alpha.flatten(), text) - rates
    std = std.detach()
    size = std / std.mean(dim=(1, 2), keepdim=True)
    weight = size * ((alpha * std).square() + sigma.square()) / (std * sigma).square()
    return Losses((missed.square() * weight).flatten(1).mean(1), surprise.flatten(1).mean(1))


@torch.no_grad()
def validation_loss(networks: Networks, clips: Clips, captions: Captions, table: Tensor, count: int = 512) -> float:
    """The loss on held-out clips with fixed captions, times and noise."""
    index = np.random.default_rng(0).permutation(clips.held_out)[:count]
    latents = clips.of(index)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    tokens = captions.tokens(clips, index, random.Random(0), drop=0.0)
    t = torch.linspace(0.02, 0.98, len(index))
    return losses_of(networks, latents, tokens, t, noise, table).denoising.mean().item()


def export(folder: Path, networks: Networks, autoencoder: Path, tokenizer: Any, stated: dict[str, Any]) -> None:
    """Write a folder of the embedded prior's kind, weights in fp16; `stated` are its files of facts by name."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {f"autoencoder.{name}": value for name, value in load_file(autoencoder).items()}
    weights = networks.state_dict() | parts
    save_file({name: value.half().contiguous() for name, value in weights.items()}, folder / "model.safetensors")
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes for the owner alone
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, value in (("config", dataclasses.asdict(networks.shape)), *stated.items()):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def train(args: SimpleNamespace) -> None:
    """The training loop; an interrupted one goes on where it stood."""
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    share = {name: float(value) for name, _, value in (part.partition("=") for part in args.share)}
    meta = json.loads((Path(args.data) / "meta.json").read_text(encoding="utf-8"))
    actions = prior_text.load_actions(Path(args.actions_file), meta["actions"])
    moments = meta["moments"]
    tokenizer = prior_text.make_tokenizer(actions, {name: len(shares) for name, shares in moments.items()})
    clips, captions = Clips(Path(args.data), actions), Captions(actions, tokenizer)
    weight = np.array([share.get(action, 1.0) for action in clips.action[clips.train]])
    weight /= weight.sum()
    frames, channels = meta["shape"]
    shape = Shape(
        frames=frames,
        channels=channels,
        **meta["autoencoder"],
        width=args.width,
        layers=args.layers,
        heads=args.width // HEAD,
        words=tokenizer.get_vocab_size(),
        tokens=prior_text.MAX_TOKENS,
        text_width=TEXT_WIDTH,
    )
    networks = Networks(shape)
    std = (cosines(frames) @ clips.of(clips.train[::10])).square().mean(0).sqrt().clamp_min(LEAST_STD)
    networks.first_values(std)
    average = copy.deepcopy(networks).requires_grad_(False).eval()
    optimizer = torch.optim.AdamW(networks.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    table = cosine_table()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    step, seconds, resume = 0, 0.0, out / "resume.pt"

    def save() -> None:
        state = {"networks": networks.state_dict(), "average": average.state_dict(), "step": step, "seconds": seconds}
        state["optimizer"] = optimizer.state_dict()
        part = resume.with_suffix(".part")
        torch.save(state, part)
        part.replace(resume)
        vocabulary = {"actions": list(moments), "manner": list(prior_text.SAID), "moments": moments}
        stated = {"prior": meta["settings"], "vocabulary": vocabulary}
        export(out / "prior", average, Path(args.data) / AUTOENCODER, tokenizer, stated)

    if resume.exists():
        state = torch.load(resume, weights_only=True)
        networks.load_state_dict(state["networks"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print(f"resumed at step {step} after {seconds / 60:.1f} minutes", flush=True)
    print(f"{sum(p.numel() for p in networks.parameters()):,} parameters, {len(clips.train)} clips", flush=True)

    running, began, saved = 0.0, time.perf_counter() - seconds, seconds
    while (done := max(step / args.steps, seconds / 60 / args.minutes if args.minutes else 0.0)) < 1:
        rng, np_rng = random.Random(f"{args.seed}/{step}"), np.random.default_rng([args.seed, step])
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        index = np_rng.choice(clips.train, args.batch, p=weight)
        latents = clips.of(index)
        noise = torch.randn(latents.shape, generator=generator)
        # stratified times: each batch sees the whole range
        t = ((torch.rand(args.batch, generator=generator) + torch.arange(args.batch)) / args.batch) ** NOISY
        tokens = captions.tokens(clips, index, rng, drop=EMPTY_SHARE)
        losses = losses_of(networks, latents, tokens, t.clamp(0.002, 0.999), noise, table)
        loss = losses.denoising.mean()
        (loss + losses.usual.mean()).backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        rate = learning_rate.share(step, done, WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
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
            save()
            print(f"step {step} held-out {validation_loss(average, clips, captions, table):.4f}", flush=True)
    save()
    final = validation_loss(average, clips, captions, table)
    print(f"done: step {step}, {seconds / 60:.1f} minutes, held-out loss {final:.4f}, {out / 'prior'}", flush=True)


def parse_args(argv: Sequence[str] | None = None) -> SimpleNamespace:
    """The options of a training run; default: from the command line."""
    return parse_simple(
        __doc__, "tools.train_prior", argv, needed=("data", "out"),
        data=(str, "folder written by tools.prior_data"),
        out=(str, "folder for resume.pt and the exported prior/"),
        actions_file=("md_jax/assets/actions.json", "the table of actions"),
        share=([], "ACTION=X,...: its clips are drawn X times as often as others"),
        width=(256, "of the transformer, a multiple of 64"),
        layers=(6, "of the transformer"),
        batch=(96, "clips a step"),
        lr=(1e-3, "learning rate"),
        ema=(0.9985, "decay of the averaged weights"),
        steps=(20000, "training steps"),
        minutes=(0.0, "stop (and finish the schedule) after so long; 0: off"),
        save_minutes=(4.0, "minutes between saves"),
        seed=(0, "of the weights, the noise and the order of clips"),
        threads=(0, "torch threads; 0: torch's own choice"),
    )  # fmt: skip


if __name__ == "__main__":
    run_program(lambda: train(parse_args()))
