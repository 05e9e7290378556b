"""Test a prior on its own samples: how near are they to real clips, and to which?

    python -m tools.prior_nearest --data DATA --prior FOLDER [--json nearest.json]

DATA is a folder of `tools.prior_scenes`, best with --fixed cameras, where the same pose is the same picture. Distances
are root mean squares over the pixels that change in DATA, and a clip is compared with others of its action and view.

ratio     of samples to the nearest held-out clip, over what held-out clips have to the nearest training clip
copying   of samples to the nearest training clip, over the same; far below 1 are copies
coverage  share of held-out clips that are the nearest of some sample, over the same of as many training clips
motion    mean change between frames over that of held-out clips: a blurred clip moves less
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bridge import distill
from bridge.camera import view_phrase
from bridge.priors import load_prior
from tools import prior_text
from tools.prior_sheet import sample
from tools.prior_words import moment_phrase
from tools.train_frames import facts_of, pixels_of

TIMES = (0.1, 0.3, 0.5, 0.7, 0.9, 0.98)


def clips_of(pixels: np.ndarray, index: np.ndarray) -> Tensor:
    """Clips (N, F·3·h·w) in [0, 1] at half the size, where a small shift is a small distance."""
    video = torch.from_numpy(pixels[np.sort(index)]).float().div(255).permute(0, 1, 4, 2, 3)
    return halved(video)


def halved(video: Tensor) -> Tensor:
    """Clips (N, F, 3, H, W) as rows, at half the size."""
    return torch.nn.functional.avg_pool2d(video.flatten(0, 1), 2).reshape(len(video), -1)


def nearest(rows: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """(root mean square distance to the nearest of the others, which it is)."""
    apart = torch.cdist(rows, others) / math.sqrt(rows.shape[1])
    return apart.min(dim=1)


def judge(samples: Tensor, train: Tensor, held: Tensor, frames: int) -> dict[str, float]:
    """The measures of samples (all as rows) of one action and view."""
    usual = nearest(held, train)[0].mean()
    distance, which = nearest(samples, held)
    some = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[: len(samples)]]
    real = nearest(some, held)[1]

    def moving(rows: Tensor) -> float:
        return float(rows.view(len(rows), frames, -1).diff(dim=1).abs().mean())

    return {
        "ratio": float(distance.mean() / usual),
        "copying": float(nearest(samples, train)[0].mean() / usual),
        "coverage": len(which.unique()) / max(len(real.unique()), 1),
        "motion": moving(samples) / moving(held),
    }


@torch.no_grad()
def denoising(prior: Any, prompts: list[str], videos: Tensor) -> dict[str, float]:
    """Mean squared error of the clean latents of held-out clips by time, over their variance."""
    texts = prior.embed(prompts).pair(torch.arange(len(prompts)))
    z = prior.encode(videos)
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    found = {}
    for time in TIMES:
        t = torch.full((len(z),), time)
        alpha, sigma = prior.alpha_sigma(t)
        z_t = distill.add_noise(z, noise, alpha, sigma)
        guess = distill.to_sample(prior.predict(z_t, t, texts)[0], z_t, alpha, sigma, prior.spec.prediction)
        found[str(time)] = float((guess - z).square().mean() / (z - z.mean(0)).square().mean())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--prior", default="")
    parser.add_argument("--actions_file", default="md_jax/assets/actions.json")
    parser.add_argument("--count", type=int, default=16, help="samples of each action")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    data = Path(args.data)
    action, facts, aside = facts_of(data)
    pixels, frames = pixels_of(data), pixels_of(data).shape[1]
    view = np.array([round(f.azimuth / (math.pi / 2)) % 4 for f in facts])
    prior = load_prior("embedded", args.prior)
    table = prior_text.load_actions(Path(args.actions_file), sorted(set(action)))
    names = [name for name in table if np.any(aside & (action == name))]
    moments = json.loads((data / "meta.json").read_text(encoding="utf-8"))["moments"]
    prompts = [f"a person is {table[a]['phrase']}, {moment_phrase(i % moments[a]['moments'], moments[a]['moments'])},"
               f" {view_phrase(math.pi / 2)}" for a in names for i in range(args.count)]  # fmt: skip
    embedded = prior.embed(prompts)
    report: dict[str, Any] = {}
    for n, name in enumerate(names):
        part = torch.arange(n * args.count, (n + 1) * args.count)
        videos = sample(prior, embedded.pair(part), args.scale, args.steps, seed=n)
        of = (action == name) & (view == 1)
        train, held = (clips_of(pixels, np.flatnonzero(of & side)) for side in (~aside, aside))
        report[name] = judge(halved(videos.transpose(1, 2)), train, held, frames)
        print(f"{name:26s}", " ".join(f"{k} {v:5.2f}" for k, v in report[name].items()), flush=True)
    report["median"] = {k: float(np.median([report[n][k] for n in names])) for k in report[names[0]]}
    print(f"{'median':26s}", " ".join(f"{k} {v:5.2f}" for k, v in report["median"].items()))
    held_out = np.random.default_rng(0).permutation(np.flatnonzero(aside))[:128]
    said = [f"a person is {table[action[i]]['phrase']}, {view_phrase(facts[i].azimuth)}" for i in np.sort(held_out)]
    real = torch.from_numpy(pixels[np.sort(held_out)]).float().div(255).permute(0, 4, 1, 2, 3)
    report["error"] = denoising(load_prior("embedded", args.prior), said, real)
    print("squared error of held-out clips over their variance", report["error"])
    if args.json:
        Path(args.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
