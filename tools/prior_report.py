"""Judge an embedded prior by itself, before any body is distilled from it: does it hear, and are its samples real?

    python -m tools.prior_report --data=DATA --prior=FOLDER [--json=report.json]

Two tables over clips of recordings that it was not trained on:

- the squared error of the clean latents at several times, under the right caption and under wrong ones. A denoiser that
  hears nothing has the same error in all columns, however small.
- by action, samples (DDIM) beside held-out clips, by distances between latents: to the nearest held-out clip, to the
  nearest training clip (below .5: copies), and how many held-out clips are the nearest one of some sample.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.distill import objectives as distill
from bridge.priors import Prior, load_prior
from md_jax.options.command import parse_simple
from md_jax.prompts.views import view_of
from md_jax.run.torch_side import run_program
from tools import prior_text
from tools.prior_clips import Captions, Clips
from tools.prior_sheet import sample_latents

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
CLIPS = 256  # of the first table
FEW = 8  # an action with fewer held-out clips is left out of the second


def captions_of(clips: Clips, captions: Captions, index: np.ndarray) -> dict[str, list[str]]:
    """Right and wrong captions of clips: another view, another moment, another action, nothing."""
    moments = {name: len(shares) for name, shares in clips.meta["moments"].items()}
    names = list(moments)

    def caption(i: int, turn: float = 0.0, later: int = 0, other: int = 0) -> str:
        action = names[(names.index(clips.action[i]) + other) % len(names)]
        moment = 1 + (int(clips.moment[i]) - 1 + later) % moments[action]
        how = [clips.manner[i], clips.side[i], clips.turn[i]]
        azimuth = float(clips.azimuth[i]) + turn
        return prior_text.caption(action, captions.actions[action], how, moment, azimuth, random.Random(0), full=True)

    return {
        "right": [caption(i) for i in index],
        "opposite view": [caption(i, turn=math.pi) for i in index],
        "other moment": [caption(i, later=moments[clips.action[i]] // 2) for i in index],
        "other action": [caption(i, other=len(names) // 3) for i in index],
        "none": [""] * len(index),
    }


@torch.no_grad()
def hearing(prior: Prior, clips: Clips, captions: Captions) -> dict[str, dict[str, float]]:
    """Squared error of the clean latents, by caption and time."""
    index = np.random.default_rng(0).permutation(clips.held_out)[:CLIPS]
    said = captions_of(clips, captions, index)
    conditioning = prior.embed([text for texts in said.values() for text in texts])
    clean = as_latents(clips.of(index), prior)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    table: dict[str, dict[str, float]] = {}
    for k, name in enumerate(said):
        text = conditioning.positive.rows(torch.arange(k * len(index), (k + 1) * len(index)))
        table[name] = {}
        for time in TIMES:
            t = torch.full((len(index),), time)
            alpha, sigma = prior.alpha_sigma(t)
            z_t = distill.add_noise(clean, noise, alpha, sigma)
            raw = prior.predict(z_t, t, (text,))[0]
            guess = distill.to_sample(raw, z_t, alpha, sigma, prior.spec.prediction)
            table[name][str(time)] = round((guess - clean).square().mean().item(), 4)
    return table


def as_latents(frames: Float[Tensor, "N F C"], prior: Prior) -> Float[Tensor, "N c F 1 w"]:
    """Clips as the program has them."""
    c, _, h, w = prior.spec.latent_shape
    return frames.unflatten(2, (c, h, w)).transpose(1, 2)


def nearest(rows: Float[Tensor, "N D"], others: Float[Tensor, "K D"]) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each row to the nearest of others, and which that is."""
    distance, which = torch.cdist(rows, others).min(dim=1)
    return distance.numpy(), which.numpy()


def samples_of(prior: Prior, clips: Clips, captions: Captions, count: int, scale: float, steps: int) -> dict[str, Any]:
    """By action: distances of samples over those of held-out clips (see the top of this module)."""
    names = [a for a in clips.meta["moments"] if np.sum(clips.action[clips.held_out] == a) >= FEW]
    rng, prompts = random.Random(0), []
    for name in names:
        shares = clips.meta["moments"][name]
        for i in range(count):
            (moment,) = rng.choices(range(1, len(shares) + 1), shares)
            azimuth = 2 * math.pi * i / count
            entry = captions.actions[name]
            prompts.append(prior_text.caption(name, entry, [], moment, azimuth, rng, full=True))
    conditioning, parts = prior.embed(prompts), torch.arange(len(prompts)).split(64)
    drawn = [sample_latents(prior, conditioning.pair(part), scale, steps, seed=int(part[0])) for part in parts]
    sampled = torch.cat(drawn).transpose(1, 2).flatten(2)
    report = {}
    for k, name in enumerate(names):
        mine = sampled[k * count : (k + 1) * count].flatten(1)
        views = [view_of(2 * math.pi * i / count).name for i in range(count)]
        held, known = (_of(clips, part, name) for part in (clips.held_out, clips.train))
        rows: list[tuple[float, float, float]] = []
        seen, reachable = 0, 0
        for view in sorted(set(views)):
            ours = mine[[i for i, v in enumerate(views) if v == view]]
            theirs, training = (latents[v == view] for latents, v in (held, known))
            if len(theirs) < 2:
                continue
            to_held, which = nearest(ours, theirs)
            to_known, _ = nearest(ours, training)
            real_known, _ = nearest(theirs, training)
            apart = torch.cdist(theirs, theirs)
            real_held = apart.fill_diagonal_(math.inf).min(dim=1).values.numpy()
            spread = [float(torch.pdist(x).mean()) if len(x) > 1 else math.nan for x in (ours, theirs)]
            rows.append((np.median(to_held) / np.median(real_held), np.median(to_known) / np.median(real_known),
                         spread[0] / spread[1]))  # fmt: skip
            seen, reachable = seen + len(set(which)), reachable + min(len(theirs), len(ours))
        near, copying, diversity = np.mean(rows, axis=0)
        report[name] = {
            "nearest": round(float(near), 2),
            "copying": round(float(copying), 2),
            "diversity": round(float(diversity), 2),
            "cover": round(seen / reachable, 2),
        }
    return report


def _of(clips: Clips, part: np.ndarray, action: str) -> tuple[Tensor, np.ndarray]:
    index = part[clips.action[part] == action]
    return clips.of(index).flatten(1), np.array([view_of(float(a)).name for a in clips.azimuth[index]])


def main() -> None:
    """Measure, print and write."""
    args = parse_simple(
        __doc__, "tools.prior_report", needed=("data",),
        data=(str, "folder written by tools.prior_data"),
        prior=("", "folder of the prior; default: the shipped one"),
        actions_file=("md_jax/assets/actions.json", "the table of actions"),
        count=(24, "samples an action"),
        scale=(2.0, "guidance scale"),
        sampling_steps=(40, "steps of a sample"),
        json=("", "write the report there, too"),
    )  # fmt: skip
    meta = json.loads((Path(args.data) / "meta.json").read_text(encoding="utf-8"))
    actions = prior_text.load_actions(Path(args.actions_file), meta["actions"])
    clips = Clips(Path(args.data), actions)
    counts = {name: len(shares) for name, shares in meta["moments"].items()}
    captions = Captions(actions, prior_text.make_tokenizer(actions, counts))
    report: dict[str, Any] = {"squared_error": hearing(load_prior("embedded", args.prior), clips, captions)}
    prior = load_prior("embedded", args.prior)
    by_action = samples_of(prior, clips, captions, args.count, args.scale, args.sampling_steps)
    keys = ("nearest", "copying", "diversity", "cover")
    median = {key: round(float(np.median([row[key] for row in by_action.values()])), 2) for key in keys}
    report["samples"] = {"guidance_scale": args.scale, "median": median, "by_action": by_action}
    print(json.dumps(report, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_program(main)
