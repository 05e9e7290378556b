"""Judge an embedded prior's own samples: does a classifier of rendered clips see the action that was asked for?

    python -m tools.prior_report --data=DATA --prior=FOLDER [--json=report.json]

The classifier learns from the training clips of DATA (a small CNN over the stacked frames, a minute or two) and is
itself judged on the held-out ones, which is the ceiling of what it can say of samples.
"""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from bridge.distill import objectives as distill
from bridge.priors import Prior, load_prior
from md_jax.evaluate.scores import wilson
from md_jax.options.command import parse_simple
from md_jax.prompts.views import view_of
from md_jax.run.torch_side import run_program
from tools import prior_text
from tools.prior_clips import Captions, Clips
from tools.prior_sheet import sample

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)


def make_classifier(channels: int, classes: int) -> nn.Module:
    """Frames as channels, three strided convolutions."""
    widths = (channels, 64, 96, 128)
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.GroupNorm(8, outputs), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.4), nn.LazyLinear(classes))


def augmented(video: Tensor, rng: torch.Generator) -> Tensor:
    """A little noise and blur, so that a sample's texture does not decide."""
    noise = 0.15 * torch.randn(video.shape, generator=rng) * torch.rand(len(video), 1, 1, 1, generator=rng)
    blurred = functional.avg_pool2d(video, 3, stride=1, padding=1, count_include_pad=False)
    share = torch.rand(len(video), 1, 1, 1, generator=rng)
    return torch.lerp(video, blurred, share) + noise


def train_classifier(clips: Clips, classes: list[str], steps: int) -> nn.Module:
    """A classifier of clips (N, 3·F, H, W) in [-1, 1]."""
    torch.manual_seed(0)
    generator, rng = torch.Generator().manual_seed(0), np.random.default_rng(0)
    label = np.array([classes.index(a) for a in clips.action])
    model = make_classifier(3 * clips.pixels.shape[1], len(classes))
    model(clips.video(clips.train[:1]).flatten(1, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        index = rng.choice(clips.train, 64, replace=False)
        logits = model(augmented(clips.video(index).flatten(1, 2), generator))
        loss = functional.cross_entropy(logits, torch.from_numpy(label[index]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, video: Tensor, label: np.ndarray, classes: list[str]) -> dict[str, Any]:
    """Share right with its interval, overall and by class."""
    said = torch.cat([model(part.flatten(1, 2)).argmax(dim=1) for part in video.split(64)]).numpy()
    right = said == label
    low, high = wilson(int(right.sum()), len(right))
    by_class = {name: round(float(right[label == c].mean()), 3) for c, name in enumerate(classes) if np.any(label == c)}
    return {
        "count": len(right),
        "rate": round(float(right.mean()), 3),
        "interval": [round(low, 3), round(high, 3)],
        "mean_over_actions": round(float(np.mean(list(by_class.values()))), 3),
        "by_action": by_class,
    }


def samples_of(prior: Prior, actions: dict[str, Any], count: int, scale: float, steps: int) -> tuple[Tensor, list[str]]:
    """`count` samples of each action, from evenly spread views."""
    names = [name for name in actions for _ in range(count)]
    views = [view_of(2 * math.pi * (i % count) / count).name for i in range(len(names))]
    prompts = [f"a person is {actions[name]['phrase']}, {view}" for name, view in zip(names, views, strict=True)]
    embedded = prior.embed(prompts)
    parts = [
        sample(prior, embedded.pair(part), scale, steps, seed=int(part[0]))
        for part in torch.arange(len(prompts)).split(40)
    ]
    return torch.cat(parts), names


@torch.no_grad()
def denoising(prior: Prior, clips: Clips, captions: Captions, count: int) -> dict[str, dict[str, float]]:
    """Squared error of the clean clip at several times on held-out clips, with their captions and with none."""
    index = np.random.default_rng(0).permutation(clips.held_out)[:count]
    video = clips.video(index)
    texts = captions.texts(clips, index, random.Random(0), drop=0.0)
    conditioning = prior.embed(texts)
    pair = conditioning.pair(torch.arange(len(texts)))
    noise = torch.randn(video.shape, generator=torch.Generator().manual_seed(0))
    table: dict[str, dict[str, float]] = {"caption": {}, "empty": {}}
    for time in TIMES:
        t = torch.full((len(video),), time)
        alpha, sigma = prior.alpha_sigma(t)
        z_t = distill.add_noise(video, noise, alpha, sigma)
        for name, raw in zip(table, prior.predict(z_t, t, pair), strict=True):
            guess = distill.to_sample(raw, z_t, alpha, sigma, prior.spec.prediction)
            table[name][str(time)] = round((guess - video).square().mean().item(), 4)
    return table


def main() -> None:
    """Train the classifier, judge held-out clips and samples, measure denoising, print and write."""
    args = parse_simple(
        __doc__, "tools.prior_report", needed=("data",),
        data=(str, "folder written by tools.prior_data"),
        prior=("", "diffusers folder; default: the shipped one"),
        actions_file=("md_jax/assets/actions.json", "the table of actions"),
        count=(12, "samples an action"),
        scale=(3.0, "guidance scale"),
        sampling_steps=(30, "steps of a sample"),
        classifier_steps=(900, "training steps of the classifier"),
        json=("", "write the report there, too"),
    )  # fmt: skip
    known = list(load_prior("embedded", args.prior).spec.actions)
    actions = prior_text.load_actions(Path(args.actions_file), known)
    clips = Clips(Path(args.data), actions)
    model = train_classifier(clips, known, args.classifier_steps)
    label = np.array([known.index(clips.action[i]) for i in clips.held_out])
    report: dict[str, Any] = {"held_out_clips": accuracy(model, clips.video(clips.held_out), label, known)}
    video, names = samples_of(load_prior("embedded", args.prior), actions, args.count, args.scale, args.sampling_steps)
    label = np.array([known.index(name) for name in names])
    report["samples"] = {"guidance_scale": args.scale, **accuracy(model, video * 2 - 1, label, known)}
    captions = Captions(actions, prior_text.make_tokenizer(actions))
    report["squared_error"] = denoising(load_prior("embedded", args.prior), clips, captions, 128)
    print(json.dumps(report, indent=1))
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_program(main)
