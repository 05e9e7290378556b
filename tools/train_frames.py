"""Train the embedded prior in the principal components of its frames (`bridge.priors.eigenframes`).

    python -m tools.prior_scenes --out DATA                  # render the clips once
    python -m tools.train_frames --data DATA --out FOLDER    # components, captions, training, export; resumable

The network predicts the clean coordinates ("sample"); the loss is weighted by min(SNR + 1/2, 5). All clips' coordinates
lie in memory, so that a step costs no more than the network: no pictures are read while it trains.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bridge.distill import add_noise, alpha_sigma_from_table, timesteps
from bridge.priors.eigenframes import EigenFrames, FrameDenoiser
from tools import prior_text, prior_words
from tools.train_prior import LARGEST_WEIGHT, STEPS_OF_SCHEDULE, make_scheduler

TEXT = 64  # width of the text encoder
CAPTIONS = 8  # drawn of each clip, once
EMPTY_SHARE = 0.1  # of them are dropped, for classifier-free guidance
PIXEL_ROWS = 24_000  # frames that the components are fitted to


# --- data -------------------------------------------------------------------------------------------------------


def pixels_of(data: Path) -> np.ndarray:
    """The clips (N, F, H, W, 3), on disk."""
    shape = json.loads((data / "meta.json").read_text(encoding="utf-8"))["shape"]
    return np.memmap(data / "clips.u8", np.uint8, "r").reshape(-1, *shape)


def flat(frames: np.ndarray) -> Tensor:
    """Frames (n, H, W, 3) as rows of pixels in [-1, 1], channels first."""
    return torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2).flatten(1).float() / 127.5 - 1


def fit_components(pixels: np.ndarray, rows: np.ndarray, components: int, seed: int = 0) -> EigenFrames:
    """Principal components of the frames of some clips. Coordinates are divided by the root of their deviation: between
    pixels, where the few largest would drown in no noise, and whitened ones, where the smallest would count as much.
    """
    rng = np.random.default_rng(seed)
    clip, frame = rng.choice(rows, PIXEL_ROWS), rng.integers(pixels.shape[1], size=PIXEL_ROWS)
    order = np.argsort(clip)
    x = flat(pixels[clip[order], frame[order]])
    mean = x.mean(0)
    x -= mean
    torch.manual_seed(seed)
    _, deviation, vectors = torch.svd_lowrank(x, q=components + 40, niter=2)
    deviation = deviation[:components] / math.sqrt(len(x))
    codec = EigenFrames(components, *pixels.shape[2:4])
    codec.mean.data, codec.basis.data = mean, vectors[:, :components].T.contiguous()
    codec.scale.data = deviation.sqrt() * deviation.mean().sqrt()
    return codec


@torch.no_grad()
def encode(codec: EigenFrames, pixels: np.ndarray) -> Tensor:
    """Coordinates (N, F, K) of clips, float16."""
    parts = []
    for first in range(0, len(pixels), 64):
        part = pixels[first : first + 64]
        z = (flat(part.reshape(-1, *part.shape[2:])) - codec.mean) @ codec.basis.T / codec.scale
        parts.append(z.view(len(part), part.shape[1], -1).half())
    return torch.cat(parts)


def facts_of(data: Path) -> tuple[np.ndarray, list[prior_words.Facts], np.ndarray]:
    """(action, what captions may say, held out) of every clip."""
    meta = json.loads((data / "meta.json").read_text(encoding="utf-8"))
    table = dict(np.load(data / "clips.npz"))  # each array read once
    action = np.array(meta["actions"])[table["action"]]
    facts = []
    for i, name in enumerate(action):
        of = meta["moments"][name]
        facts.append(prior_words.Facts(
            float(table["azimuth"][i]), int(table["moment"][i]), of["moments"], str(table["side"][i]), of["side"],
            str(table["tempo"][i]), str(table["turn"][i]), str(table["text"][i])))  # fmt: skip
    return action, facts, table["held_out"]


def draw_tokens(
    tokenizer: Any, actions: dict[str, Any], action: np.ndarray, facts: list[prior_words.Facts], count: int, seed: int,
    *, jittered: bool,
) -> Tensor:  # fmt: skip
    """Token ids (N, count, L) of captions drawn for every clip; the first copies may have unknown words put in."""
    rng, length = random.Random(seed), prior_words.LENGTH
    unknown, pad = tokenizer.unk_token_id, tokenizer.pad_token_id
    ids = torch.full((len(action), count, length), pad, dtype=torch.int16)
    for c in range(count):
        texts = [prior_words.caption(actions[a], f, rng) for a, f in zip(action, facts, strict=True)]
        for i, row in enumerate(tokenizer(texts, truncation=True, max_length=length).input_ids):
            row = prior_text.jitter(row, unknown, rng, length) if jittered else row
            ids[i, c, : len(row)] = torch.tensor(row, dtype=torch.int16)
    return ids


# --- networks ---------------------------------------------------------------------------------------------------


class Networks(nn.Module):
    """The denoiser and the text encoder, trained together."""

    def __init__(self, unet: Any, text_encoder: Any) -> None:
        super().__init__()
        self.unet, self.text_encoder = unet, text_encoder

    def forward(self, z: Tensor, times: Tensor, tokens: Tensor) -> Tensor:
        return self.unet(z, times, self.text_encoder(tokens).last_hidden_state).sample


def make_networks(tokenizer: Any, frames: int, components: int, width: int, depth: int) -> Networks:
    """A residual MLP and a two-layer CLIPTextModel."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=TEXT, intermediate_size=2 * TEXT, num_hidden_layers=2,
        num_attention_heads=4, projection_dim=TEXT, max_position_embeddings=prior_words.LENGTH,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    denoiser = FrameDenoiser(frames, components, width, depth, condition=256, text=TEXT)
    return Networks(denoiser, CLIPTextModel(config))


def loss_of(networks: nn.Module, z: Tensor, tokens: Tensor, t: Tensor, noise: Tensor, table: Tensor) -> Tensor:
    """Weighted squared error (N,) of the predicted clean coordinates."""
    alpha, sigma = alpha_sigma_from_table(t, table)
    guess = networks(add_noise(z, noise, alpha, sigma), timesteps(t, STEPS_OF_SCHEDULE), tokens)
    error = (guess - z).square().flatten(1).mean(1)
    return ((alpha / sigma).square() + 0.5).clamp(max=LARGEST_WEIGHT) * error


def batch_of(latents: Tensor, index: Tensor) -> Tensor:
    """Coordinates (n, K, F, 1, 1) of clips."""
    return latents[index].float().transpose(1, 2)[..., None, None].contiguous()


@torch.no_grad()
def validation_loss(networks: Networks, latents: Tensor, tokens: Tensor, held_out: Tensor, table: Tensor) -> float:
    """The loss on held-out clips with fixed captions, times and noise."""
    generator, losses = torch.Generator().manual_seed(0), []
    for part in held_out[torch.randperm(len(held_out), generator=generator)[:1024]].split(256):
        z = batch_of(latents, part)
        noise = torch.randn(z.shape, generator=generator)
        t = torch.linspace(0.02, 0.98, len(part))
        losses.append(loss_of(networks, z, tokens[part, 0].long(), t, noise, table))
    return torch.cat(losses).mean().item()


def export(folder: Path, networks: Networks, codec: EigenFrames, tokenizer: Any, actions: dict[str, Any],
           settings: dict[str, Any]) -> None:  # fmt: skip
    """Write the folder, weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    half: Any = copy.deepcopy(networks).half()
    half.unet.save_pretrained(folder / "unet")
    half.text_encoder.save_pretrained(folder / "text_encoder")
    copy.deepcopy(codec).half().save_pretrained(folder / "vae")
    tokenizer.save_pretrained(folder / "tokenizer")
    make_scheduler().save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "TextToVideoSDPipeline",
        "_diffusers_version": "0.36.0",
        "scheduler": ["diffusers", "DDPMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "PreTrainedTokenizerFast"],
        "unet": ["bridge", "FrameDenoiser"],
        "vae": ["bridge", "EigenFrames"],
    }
    vocabulary = {name: sorted({entry["phrase"], *entry["synonyms"]}) for name, entry in actions.items()}
    for file in folder.glob("*/*.safetensors"):
        file.chmod(0o644)
    for name, value in (("model_index", index), ("prior", settings), ("vocabulary", vocabulary)):
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


# --- training ---------------------------------------------------------------------------------------------------


def prepare(data: Path, components: int) -> tuple[EigenFrames, Tensor]:
    """The components and all clips' coordinates, made once and kept beside the data."""
    kept = data / f"latents-{components}.pt"
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        codec = EigenFrames(components, *state["size"])
        codec.load_state_dict(state["codec"])
        return codec, state["latents"]
    pixels = pixels_of(data)
    codec = fit_components(pixels, np.flatnonzero(~np.load(data / "clips.npz")["held_out"]), components)
    latents = encode(codec, pixels)
    torch.save({"codec": codec.state_dict(), "latents": latents, "size": list(pixels.shape[2:4])}, kept)
    return codec, latents


def train(args: argparse.Namespace) -> None:
    """The training loop; an interrupted one goes on where it stood."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    data, out = Path(args.data), Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    meta = json.loads((data / "meta.json").read_text(encoding="utf-8"))
    actions = prior_text.load_actions(Path(args.actions_file), meta["actions"])
    tokenizer = prior_text.make_tokenizer(actions, prior_words.WORDS, prior_words.LENGTH)
    settings = {**meta["settings"], "moments": {name: facts["moments"] for name, facts in meta["moments"].items()}}
    codec, latents = prepare(data, args.components)
    action, facts, aside = facts_of(data)
    tokens = draw_tokens(tokenizer, actions, action, facts, CAPTIONS, args.seed, jittered=True)
    plain = draw_tokens(tokenizer, actions, action, facts, 1, 0, jittered=False)
    empty = torch.full((prior_words.LENGTH,), tokenizer.pad_token_id, dtype=torch.int16)
    empty[:2] = torch.tensor(tokenizer("").input_ids, dtype=torch.int16)
    rows, held_out = (torch.from_numpy(np.flatnonzero(x)) for x in (~aside, aside))
    networks = make_networks(tokenizer, latents.shape[1], args.components, args.width, args.depth)
    average = copy.deepcopy(networks).requires_grad_(False).eval()
    how: dict[str, Any] = {"lr": args.lr, "betas": (0.9, 0.99), "weight_decay": args.decay, "fused": True}
    optimizer = torch.optim.AdamW(networks.parameters(), **how)
    table, resume = make_scheduler().alphas_cumprod, out / "resume.pt"
    step, seconds = 0, 0.0
    if resume.exists():
        state = torch.load(resume, weights_only=True)
        networks.load_state_dict(state["networks"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
        print(f"resumed at step {step} after {seconds / 60:.1f} minutes", flush=True)
    count = sum(p.numel() for p in networks.parameters())
    print(f"{count:,} parameters, {len(rows)} clips, {len(held_out)} held out", flush=True)

    running, began, saved = 0.0, time.perf_counter() - seconds, seconds

    def share_done() -> float:
        return max(step / args.steps, seconds / 60 / args.minutes if args.minutes else 0.0)

    while (done := share_done()) < 1:
        generator = torch.Generator().manual_seed(args.seed * 1_000_003 + step)
        index = rows[torch.randint(len(rows), (args.batch,), generator=generator)]
        z = batch_of(latents, index)
        noise = torch.randn(z.shape, generator=generator)
        t = (torch.rand(args.batch, generator=generator) + torch.arange(args.batch)) / args.batch
        words = tokens[index, torch.randint(CAPTIONS, (args.batch,), generator=generator)]
        words[torch.rand(args.batch, generator=generator) < EMPTY_SHARE] = empty
        loss = loss_of(networks, z, words.long(), t.clamp(1e-3, 0.999), noise, table).mean()
        loss.backward()
        nn.utils.clip_grad_norm_(networks.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 300) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        optimizer.step()
        optimizer.zero_grad()
        decay = min(args.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), list(networks.parameters()), 1 - decay)
        step, seconds, running = step + 1, time.perf_counter() - began, running + loss.item()
        if step % args.log_every == 0:
            held = validation_loss(average, latents, plain, held_out, table) if step % (5 * args.log_every) == 0 else 0
            more = f" held-out {held:.4f}" if held else ""
            print(f"step {step} loss {running / args.log_every:.4f} {seconds / 60:.2f} min{more}", flush=True)
            running = 0.0
        if seconds - saved > args.save_minutes * 60 or share_done() >= 1:
            saved = seconds
            state = {"networks": networks.state_dict(), "average": average.state_dict()}
            torch.save({**state, "optimizer": optimizer.state_dict(), "step": step, "seconds": seconds}, out / "part")
            (out / "part").replace(resume)
            export(out / "prior", average, codec, tokenizer, actions, settings)
    final = validation_loss(average, latents, plain, held_out, table)
    print(f"done: step {step}, {seconds / 60:.1f} minutes, held-out loss {final:.4f}, {out / 'prior'}", flush=True)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder written by tools.prior_scenes")
    parser.add_argument("--out", required=True, help="folder for resume.pt and the exported prior/")
    parser.add_argument("--actions_file", default="md_jax/assets/actions.json")
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch", type=int, default=96)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--decay", type=float, default=0.01)
    parser.add_argument("--ema", type=float, default=0.999)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=0, help="stop (and finish the schedule) after so long; 0: off")
    parser.add_argument("--save_minutes", type=float, default=3)
    parser.add_argument("--log_every", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    train(parse_args())
