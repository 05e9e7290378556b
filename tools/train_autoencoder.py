"""Train the embedded prior's autoencoder on the clips of tools.prior_data, and encode them.

    python -m tools.train_autoencoder --data=DATA [--minutes=9]

Latents must hold the pictures and the poses: the decoder and the reader (`bridge.priors.embedded.autoencoder`) are
trained on the same latents, under the same noise. So an error of the denoiser costs as much in any direction, and a
small one is a small error of the pose. DATA gets autoencoder.safetensors and clips.f16 (N, F, CHANNELS).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from bridge.priors.embedded.autoencoder import Autoencoder
from md_jax.body import rotations
from md_jax.body.model import PARENTS
from md_jax.evaluate import measures
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program
from tools import learning_rate, prior_components
from tools.prior_clips import AUTOENCODER, COMPONENTS, LATENTS, POSES

CHANNELS = 64
NOISE = 0.1  # on the latents, whose size is about 1.6
UNSEEN = (0.01, 0.4)  # of a component's mean size: noise on components, so that other bodies are read, too
PICTURES, JOINTS, ROTATIONS, HEIGHT, SIZE = 2.0, 10.0, 2.0, 10.0, 0.002  # weights of the loss (see `losses`)
WARM_UP, LARGEST_GRADIENT = 100, 2.0
AVERAGE = 0.998  # decay of the averaged weights
ROWS = 20_000  # frames at a time, where nothing is trained


class Frames(NamedTuple):
    """Frames of clips, and the poses that they show."""

    components: Float[Tensor, "N K"]  # of all cameras
    rotations: Float[Tensor, "N 22 3 3"]  # the pelvis's as the first camera sees it
    joints: Float[Tensor, "N 21 3"]  # metres from the pelvis, as the first camera sees them
    height: Float[Tensor, "N"]  # of the pelvis above the first frame's, metres


class Source:
    """The clips of tools.prior_data, with their poses."""

    def __init__(self, folder: Path) -> None:
        table, poses = np.load(folder / "clips.npz"), np.load(folder / POSES)
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        self.frames, cameras, components = meta["filmed"]
        self.components = np.fromfile(folder / COMPONENTS, np.float16).reshape(-1, self.frames, cameras * components)
        self.azimuth, self.held_out = table["azimuth"], table["held_out"]
        self.pairs = len(self.azimuth) // len(poses["body_pose"])
        vectors = np.concatenate([poses["root_orient"][:, :, None], poses["body_pose"]], axis=2)
        self.rotations = np.concatenate([_matrices(part) for part in np.array_split(vectors, 20)])
        joints = measures.joints(poses["body_pose"], poses["root_orient"]) - measures.rest_joints()[0]
        self.joints = joints.astype(np.float32)
        self.height = poses["transl"][:, :, 1].astype(np.float32)

    def of(self, clip: np.ndarray, frame: np.ndarray) -> Frames:
        """Frames of clips."""
        window = clip // self.pairs
        seen = torch.from_numpy(_around(-self.azimuth[clip]))
        turns = torch.from_numpy(self.rotations[window, frame])
        turns[:, 0] = seen @ turns[:, 0]
        joints = torch.from_numpy(self.joints[window, frame]) @ seen.transpose(1, 2)
        height = torch.from_numpy(self.height[window, frame])
        return Frames(torch.from_numpy(self.components[clip, frame]).float(), turns, joints, height)


def losses(
    net: Autoencoder, frames: Frames, scale: Float[Tensor, "K"], noise: float, unseen: tuple[float, float] | None
) -> dict[str, Tensor]:
    """What is missed.

    Args:
        net: the autoencoder.
        frames: what it sees.
        scale: standard deviation of each component.
        noise: added to latents.
        unseen: range of the noise that is added to components.

    Returns:
        "pictures": squared error of components, those that vary more count more; "joints": distance in metres;
        "rotations": squared error of matrices; "height": metres; "size": squared latents.
    """
    seen, typical = frames.components, scale.mean()
    if unseen is not None:
        low, high = map(math.log, unseen)
        size = torch.empty(len(seen), 1).uniform_(low, high).exp()
        seen = seen + typical * size * torch.randn_like(seen)
    latents = net.encoder(seen)
    noised = latents + noise * torch.randn_like(latents)
    turns, height = net.read(noised)
    away = (net.decoder(noised) - frames.components) / typical
    apart = (joints_of(turns) - frames.joints).square().sum(-1).add(1e-6).sqrt()
    return {
        "pictures": (away.square() * scale / typical).mean(),
        "joints": apart.mean(),
        "rotations": (turns - frames.rotations).square().mean(),
        "height": (height - frames.height).abs().mean(),
        "size": latents.square().mean(),
    }


def joints_of(turns: Float[Tensor, "N 22 3 3"]) -> Float[Tensor, "N 21 3"]:
    """Where the body joints are, metres from the pelvis."""
    rest = torch.from_numpy(np.asarray(measures.rest_joints(), np.float32))
    world, places = [turns[:, 0]], [torch.zeros(len(turns), 3)]
    for joint in range(1, 22):
        parent = PARENTS[joint]
        places.append(places[parent] + world[parent] @ (rest[joint] - rest[parent]))
        world.append(world[parent] @ turns[:, joint])
    return torch.stack(places[1:], dim=1)


@torch.no_grad()
def straighten(net: Autoencoder, components: Float[Tensor, "N K"]) -> None:
    """Turn and scale the latents, in place: mean 0, no correlation, variance 1 on average."""
    latents = net.encoder(components)
    mean, (variance, axes) = latents.mean(0), torch.linalg.eigh(latents.T.cov())
    axes, size = axes.flip(1), variance.mean().sqrt()
    last = _linear(net.encoder, -1)
    last.weight.copy_(axes.T @ last.weight / size)
    last.bias.copy_(axes.T @ (last.bias - mean) / size)
    for branch in (net.decoder, net.reader):
        first = _linear(branch, 0)
        first.bias.add_(first.weight @ mean)
        first.weight.copy_(size * first.weight @ axes)


def train(args: SimpleNamespace) -> None:
    """Train, encode, write."""
    torch.manual_seed(args.seed)
    if args.threads:
        torch.set_num_threads(args.threads)
    folder = Path(args.data)
    source, linear = Source(folder), prior_components.load(folder / prior_components.FILE)
    count, cameras = len(linear["axes"]), source.components.shape[-1] // len(linear["axes"])
    known, held_out = np.flatnonzero(~source.held_out), np.flatnonzero(source.held_out)
    net = Autoencoder(CHANNELS, cameras, count, args.hidden, *linear["mean"].shape[1:])
    net.load_state_dict(linear, strict=False)
    some = torch.from_numpy(source.components[known[::20]].reshape(-1, cameras * count)).float()
    scale = some.std(0)
    with torch.no_grad():
        _linear(net.encoder, 0).weight.div_(scale + 0.3 * scale.mean())
        _linear(net.reader, -1).weight.zero_()
        _linear(net.reader, -1).bias.zero_()
    trained = [p for name, p in net.named_parameters() if name not in ("axes", "mean")]
    net.axes.requires_grad_(False)
    net.mean.requires_grad_(False)
    average = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=1e-4, fused=True)
    weights = {"pictures": PICTURES, "joints": JOINTS, "rotations": ROTATIONS, "height": HEIGHT, "size": SIZE}
    rng, began, step = np.random.default_rng(args.seed), time.perf_counter(), 0

    def share_done() -> float:
        minutes = (time.perf_counter() - began) / 60
        return max(step / args.steps, minutes / args.minutes if args.minutes else 0.0)

    def told() -> str:
        draw = np.random.default_rng(1)
        frames = source.of(draw.choice(held_out, 4000), draw.integers(0, source.frames, 4000))
        with torch.no_grad():
            found = losses(average, frames, scale, 0.0, None)
        return ", ".join(f"{name} {value:.4f}" for name, value in found.items())

    while (done := share_done()) < 1:
        rate = learning_rate.share(step, done, WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * rate
        frames = source.of(rng.choice(known, args.batch), rng.integers(0, source.frames, args.batch))
        found = losses(net, frames, scale, NOISE, UNSEEN)
        torch.stack([weights[name] * value for name, value in found.items()]).sum().backward()
        nn.utils.clip_grad_norm_(trained, LARGEST_GRADIENT)
        optimizer.step()
        optimizer.zero_grad()
        decay = min(AVERAGE, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(average.parameters()), list(net.parameters()), 1 - decay)
        step += 1
        if step % 200 == 0:
            print(f"step {step}, held out: {told()}", flush=True)
    print(f"done: step {step}, held out: {told()}", flush=True)
    straighten(average, some)
    write(folder, source, average, args.hidden)


def write(folder: Path, source: Source, net: Autoencoder, hidden: int) -> None:
    """The autoencoder and the latents of all clips; meta.json says their sizes."""
    save_file({name: value.contiguous() for name, value in net.state_dict().items()}, folder / AUTOENCODER)
    (folder / AUTOENCODER).chmod(0o644)
    rows = torch.from_numpy(source.components.reshape(-1, source.components.shape[-1]))
    with torch.no_grad():
        latents = torch.cat([net.encoder(part.float()).half() for part in rows.split(ROWS)])
    latents.numpy().tofile(folder / LATENTS)
    file = folder / "meta.json"
    meta = json.loads(file.read_text(encoding="utf-8"))
    _, cameras, components = meta["filmed"]
    meta["shape"] = [source.frames, latents.shape[-1]]
    meta["autoencoder"] = {"cameras": cameras, "components": components, "hidden": hidden}
    file.write_text(json.dumps(meta, indent=1), encoding="utf-8")
    print(f"{len(latents) // source.frames} clips of {meta['shape']} in {folder / LATENTS}")


def _linear(layers: nn.Sequential, which: int) -> nn.Linear:
    found = layers[which]
    assert isinstance(found, nn.Linear)
    return found


def _matrices(vectors: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 3 3"]:
    return np.asarray(rotations.axis_angle_to_matrix(jnp.asarray(vectors)), np.float32)


def _around(angle: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N 3 3"]:
    """Rotations about the vertical."""
    vectors = np.zeros((len(angle), 3), np.float32)
    vectors[:, 1] = angle
    return measures.matrices(vectors)


def parse_args(argv: Sequence[str] | None = None) -> SimpleNamespace:
    """The options; default: from the command line."""
    return parse_simple(
        __doc__, "tools.train_autoencoder", argv, needed=("data",),
        data=(str, "folder written by tools.prior_data"),
        hidden=(768, "width of its layers"),
        batch=(1024, "frames a step"),
        lr=(1.5e-3, "learning rate"),
        steps=(3000, "training steps"),
        minutes=(0.0, "stop (and finish the schedule) after so long; 0: off"),
        seed=(0, "of the weights, the noise and the order of frames"),
        threads=(0, "torch threads; 0: torch's own choice"),
    )  # fmt: skip


if __name__ == "__main__":
    run_program(lambda: train(parse_args()))
