"""Train the network that tells from a body's movement how fast it goes (`md_jax.ground.gait`).

    python -m tools.train_gait --data=DATA

DATA is a folder of tools.train_autoencoder. Poses are read from noised latents, so the network learns on such as are
fitted to samples, too. Writes md_jax/assets/gait.npz, and prints the mean error on recordings that it has not seen.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from bridge.priors.embedded.autoencoder import Autoencoder
from md_jax.ground.gait import APART, features
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program
from tools.prior_clips import AUTOENCODER, LATENTS, POSES
from tools.train_autoencoder import Source, joints_of

NOISE = 0.35  # on latents, at most
WIDTH = 128  # of its two hidden layers
STEPS, BATCH, RATE, DECAY = 3000, 1024, 2e-3, 1e-2
NEAR = 0.3  # m/s: up to here errors count squared
CLIPS = 12_000  # of training
AT_ONCE = 500


class Read:
    """Clips as their latents show them, and where their bodies truly went."""

    def __init__(self, folder: Path) -> None:
        self.source = Source(folder)
        meta, weights = json.loads((folder / "meta.json").read_text(encoding="utf-8")), load_file(folder / AUTOENCODER)
        frames, channels = meta["shape"]
        size = dict(zip(("height", "width"), weights["axes"].shape[2:], strict=True))
        self.net = Autoencoder(channels, **meta["autoencoder"], **size).requires_grad_(False)
        self.net.load_state_dict(weights)
        self.latents = np.fromfile(folder / LATENTS, np.float16).reshape(-1, frames, channels)
        self.transl = np.load(folder / POSES)["transl"]

    def of(self, clips: np.ndarray, fps: float, noise: float) -> tuple[Float[Tensor, "N 189"], Float[Tensor, "N 2"]]:
        """(features, velocity aside and ahead, m/s) of all frames of clips but the first and last."""
        x, y = [], []
        for part in np.array_split(clips, -(-len(clips) // AT_ONCE)):
            z = torch.from_numpy(self.latents[part]).float()
            z = z + noise * torch.rand(len(z), 1, 1) * torch.randn_like(z)
            turns, _ = self.net.read(z.flatten(0, 1))
            points = joints_of(turns).unflatten(0, z.shape[:2]).numpy()
            ahead = turns[:, 0, :, 2].unflatten(0, z.shape[:2]).numpy()
            heading = np.arctan2(ahead[..., 0], ahead[..., 2])
            inside = slice(1, -1)
            x += [features(p, h, fps)[inside] for p, h in zip(points, heading, strict=True)]
            moved = self.transl[part // self.source.pairs]
            velocity = (moved[:, 2:] - moved[:, :-2])[..., [0, 2]] * fps / 2
            angle = (heading + self.source.azimuth[part][:, None])[:, inside]
            c, s = np.cos(angle), np.sin(angle)
            y.append(np.stack([c * velocity[..., 0] - s * velocity[..., 1],
                               s * velocity[..., 0] + c * velocity[..., 1]], axis=-1))  # fmt: skip
        return torch.from_numpy(np.concatenate(x)), torch.from_numpy(np.concatenate(y)).float().flatten(0, 1)


def main() -> None:
    """Train and write."""
    args = parse_simple(
        __doc__, "tools.train_gait", needed=("data",),
        data=(str, "folder of tools.train_autoencoder"),
        out=("md_jax/assets/gait.npz", "the file to write"),
        fps=(round(1 / APART), "frames a second of the clips"),
        seed=(0, "of the weights and the order"),
    )  # fmt: skip
    torch.manual_seed(args.seed)
    read, rng = Read(Path(args.data)), np.random.default_rng(args.seed)
    known, held_out = np.flatnonzero(~read.source.held_out), np.flatnonzero(read.source.held_out)
    x, y = read.of(rng.permutation(known)[:CLIPS], args.fps, NOISE)
    seen = {noise: read.of(held_out, args.fps, noise) for noise in (0.0, NOISE)}
    layers = [nn.Linear(x.shape[1], WIDTH), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, y.shape[1])]
    net = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), layers[2])
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=DECAY)
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        some = torch.randint(len(x), (BATCH,))
        nn.functional.huber_loss(net(x[some]), y[some], delta=NEAR).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        for noise, (inputs, true) in seen.items():
            error = (net(inputs) - true).norm(dim=1).mean().item()
            print(f"noise up to {noise}: {error:.3f} m/s from the truth; nobody moves: {true.norm(dim=1).mean():.3f}")
    arrays = {f"weight{i}": each.weight.detach().T.half().numpy() for i, each in enumerate(layers)}
    arrays |= {f"bias{i}": each.bias.detach().half().numpy() for i, each in enumerate(layers)}
    np.savez_compressed(args.out, **arrays)  # type: ignore[arg-type]


if __name__ == "__main__":
    run_program(main)
