"""Render motion capture into the embedded prior's training clips.

    python -m tools.prior_data --out=DATA [--windows=340] [--pairs=2]

Windows of all the shipped motion capture at any moment but the stillest, more of actions with more recordings, as many
of each recording, half of them mirrored (as poses, never as pictures: left and right are painted differently). The root
is as it was: the first frame's yaw is removed, tilt, turning and height are kept, and the cameras go along the floor
with it. Each window is filmed by pairs of cameras, one a quarter of the circle to the left of the other; a clip holds
both pictures side by side. Pictures are kept as their principal components (tools.prior_components). DATA gets
components.f16 (N, F, cameras, COUNT), components.safetensors, poses.npz (of the windows), clips.npz (what captions say)
and meta.json.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import jax
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import make_mesh
from md_jax.body import detail, lbs
from md_jax.body.model import load_body
from md_jax.evaluate import measures, reference
from md_jax.mocap.clips import Clip, Split, load_clips, moving_clips, split_clips
from md_jax.mocap.windows import Windows, cut_windows
from md_jax.options.command import parse_simple
from md_jax.prompts.views import VIEWS
from md_jax.run.torch_side import run_program
from tools import prior_components
from tools.prior_clips import COMPONENTS, POSES
from tools.prior_moments import manners, moment_count, moments_of, sides, turns
from tools.standing import on_their_feet

# What the prior sees, and what a run therefore renders unless told otherwise: prior.json of the shipped folder.
SETTINGS: dict[str, Any] = {
    "frames": 10,
    "fps": 10,
    "height": 48,
    "width": 96,  # of the pictures of all cameras, side by side
    "cameras": [0.0, 90.0],  # degrees of azimuth from the first
    "spread": 15.0,  # degrees: the first stands so far at most from the middle of a view's quarter
    "elevation": [8.0, 14.0],  # degrees
    "fov": 40.0,  # degrees
    "distance": 3.2,  # metres
    "background": [0.9, 0.9, 0.9],
    "licence": "Apache-2.0 (trained on CMU motion capture; see README.md)",
}
SUPERSAMPLE = 2
TRIANGLES = "12000"  # of the body that is filmed (md_jax.body.detail)
SAMPLE = 700  # windows that the components are made of
SPEED = (0.85, 1.15)
MOST_RECORDINGS = 16  # of an action, in its share of the windows
# amp_hop, part of which is held out, is from the same recording as these (cmu_001_01): not for training
TWICE = {"hopping"}


class Set(NamedTuple):
    """Windows and where their cameras stand."""

    windows: Windows  # W
    azimuth: Float[np.ndarray, "W pairs"]  # radians, of a pair's first camera
    elevation: Float[np.ndarray, "W pairs"]

    def rows(self, index: np.ndarray | slice) -> Set:
        """The windows that `index` names."""
        return Set(Windows(*(part[index] for part in self.windows)), self.azimuth[index], self.elevation[index])


def film(drawn: Set) -> Iterator[Float[Tensor, "pairs F cameras H W 3"]]:
    """The pictures of each window, in [0, 1]."""
    body = load_body("free")
    surface = detail.surface(body, detail.levels(body)[int(TRIANGLES)])
    height = np.asarray(body.v_template)[:, 1]
    target = torch.tensor([0.0, float(height.min() + height.max()) / 2, 0.0])
    baked = lbs.select(lbs.bake(body), surface.vertices)
    mesh = make_mesh(surface.triangles, surface.vertex_colors)
    pose = jax.jit(lambda pose, root, transl: lbs.pose(baked, pose, root, transl))
    offsets = np.radians(SETTINGS["cameras"])
    pairs, frames, cameras = drawn.azimuth.shape[1], SETTINGS["frames"], len(offsets)
    size = SETTINGS["height"], SETTINGS["width"] // cameras, SUPERSAMPLE
    for w, (body_pose, root, transl) in enumerate(zip(*drawn.windows[:3], strict=True)):
        posed = torch.from_numpy(np.array(pose(body_pose, root, transl * np.array([0, 1, 0], np.float32))))
        around = torch.from_numpy((drawn.azimuth[w][:, None] + offsets).ravel()).float().repeat_interleave(frames)
        above = torch.from_numpy(np.repeat(drawn.elevation[w], cameras)).float().repeat_interleave(frames)
        camera = Camera(around, above, SETTINGS["distance"], math.radians(SETTINGS["fov"]), target)
        with torch.no_grad():
            pictures = render(posed.repeat(pairs * cameras, 1, 1), camera, mesh, *size, tuple(SETTINGS["background"]))
        yield pictures.unflatten(0, (pairs, cameras, frames)).transpose(1, 2)


def film_components(drawn: Set, out: Path, first: int) -> None:
    """Film windows into the clips `first`… of the folder's file."""
    torch.set_num_threads(1)
    linear = prior_components.load(out / prior_components.FILE)
    clips = np.memmap(out / COMPONENTS, np.float16, "r+").reshape(-1, *clip_shape())
    pairs, began = drawn.azimuth.shape[1], time.perf_counter()
    for w, pictures in enumerate(film(drawn)):
        found = prior_components.components(linear, pictures)
        clips[first + w * pairs : first + (w + 1) * pairs] = found.half().numpy()
        if (w + 1) % 500 == 0:
            print(f"{w + 1} of {len(drawn.azimuth)} windows, {time.perf_counter() - began:.0f} s", flush=True)


def film_sample(drawn: Set) -> Tensor:
    """Pictures (N, H, W, 3) of all windows."""
    torch.set_num_threads(1)
    return torch.cat([pictures.flatten(0, 2) for pictures in film(drawn)])


def clip_shape() -> list[int]:
    """Shape of one clip's components (F, cameras, K)."""
    return [SETTINGS["frames"], len(SETTINGS["cameras"]), prior_components.COUNT]


def split_shipped(fraction: float = 0.2) -> Split:
    """All shipped clips, split by recording; what the yardstick holds out is held out here, too."""
    known, new = split_clips(load_clips(), fraction), split_clips(moving_clips(), fraction)
    train = [*known.train, *(clip for clip in new.train if clip.action not in TWICE)]
    return Split(train, [*known.held_out, *new.held_out], new.how | known.how)


def draw_windows(
    rng: np.random.Generator, clips: Sequence[Clip], each: int, *, still: float, speed: tuple[float, float]
) -> tuple[Windows, list[str]]:
    """Windows of every action at any moment but its stillest, as many of each recording, half of them mirrored.

    A recording named after an action also shows the person waiting for it; those seconds are not the action.

    Args:
        rng: the only source of randomness.
        clips: at least as long as a window at the lowest speed, or left out.
        each: windows of an action with one recording; one with n has √n times as many, up to MOST_RECORDINGS.
        still: share of them that is left out.
        speed: range of the speed factor, log-uniform.
    """
    frames, fps = SETTINGS["frames"], SETTINGS["fps"]
    span = (frames - 1) / fps
    parts, names = [], []
    for action in sorted({clip.action for clip in clips}):
        able = [clip for clip in clips if clip.action == action and clip.duration >= span * speed[0]]
        if not able:
            continue
        kept = math.ceil(each * math.sqrt(min(len({clip.recording for clip in able}), MOST_RECORDINGS)))
        count = math.ceil(kept / (1 - still))
        seconds = np.array([clip.duration for clip in able])
        recording = np.array([clip.recording for clip in able])
        total = {name: seconds[recording == name].sum() for name in recording}
        weight = seconds / np.array([total[name] for name in recording])
        clip = rng.choice(len(able), size=count, p=weight / weight.sum())
        factor = np.minimum(np.exp(rng.uniform(math.log(speed[0]), math.log(speed[1]), count)), seconds[clip] / span)
        start = rng.uniform(size=count) * np.maximum(seconds[clip] - span * factor, 0)
        mirrored = rng.uniform(size=count) < 0.5
        cut = cut_windows(able, clip, start, frames=frames, fps=fps, speed=factor, mirrored=mirrored, root="full")
        lively = np.argsort(-measures.speed(measures.joints(cut.body_pose, cut.root_orient), fps))[:kept]
        parts.append(Windows(*(part[lively] for part in cut)))
        names += [action] * len(lively)
    return Windows(*(np.concatenate(part) for part in zip(*parts, strict=True))), names


def main(args: SimpleNamespace) -> None:
    """Cut, film and write; a fifth of each action is held out (recordings, or the end of an action's only ones)."""
    rng = np.random.default_rng(args.seed)
    split = split_shipped(args.held_out)
    split = split._replace(train=on_their_feet(split.train), held_out=on_their_feet(split.held_out))
    actions = sorted({clip.action for clip in split.train})
    each = args.windows
    sets = [draw_windows(rng, split.train, each, still=args.still, speed=SPEED),
            draw_windows(rng, split.held_out, math.ceil(each / 10), still=args.still, speed=(1.0, 1.0))]  # fmt: skip
    windows = Windows(*(np.concatenate(parts) for parts in zip(*(drawn for drawn, _ in sets), strict=True)))
    names = [name for _, part in sets for name in part]
    known = np.arange(len(names)) < len(sets[0][1])
    moment, owner = np.zeros(len(names), int), np.array(names)
    shares: dict[str, np.ndarray] = {}
    moments = {a: moment_count(sum(c.duration for c in split.train if c.action == a)) for a in actions}
    for action, number in moments.items():
        own = np.flatnonzero(owner == action)
        moment[own] = moments_of(Windows(*(part[own] for part in windows)), known[own], number, args.seed)
        shares[action] = np.bincount(moment[own][known[own]] - 1, minlength=number) / np.sum(known[own])

    count, quarters = len(names), len(VIEWS)
    # the pairs of a window stand evenly around it, each within `spread` of the middle of a view's quarter
    quarter = rng.integers(quarters, size=(count, 1)) + np.arange(args.pairs) * (quarters // args.pairs)
    spread = math.radians(SETTINGS["spread"])
    azimuth = np.mod(quarter * (2 * np.pi / quarters) + rng.uniform(-spread, spread, quarter.shape), 2 * np.pi)
    low, high = np.radians(SETTINGS["elevation"])
    drawn = Set(windows, azimuth, rng.uniform(low, high, size=(count, args.pairs)))
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    sample = np.sort(rng.choice(np.flatnonzero(known), min(SAMPLE, known.sum()), replace=False))
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        sampled = pool.map(film_sample, [drawn.rows(part) for part in np.array_split(sample, args.processes)])
        prior_components.save(prior_components.fit(torch.cat(sampled)), out / prior_components.FILE)
        np.memmap(out / COMPONENTS, np.float16, "w+", shape=(count * args.pairs, *clip_shape())).flush()
        bounds = itertools.pairwise(np.linspace(0, count, args.processes + 1).astype(int))
        pool.starmap(film_components, [(drawn.rows(slice(a, b)), out, a * args.pairs) for a, b in bounds])
    said: dict[str, Any] = {
        "action": [actions.index(name) for name in names],
        "held_out": ~known,
        "moment": moment,
        "manner": manners(windows, names, known, SETTINGS["fps"]),
        "side": sides(windows, names),
        "turn": turns(windows),
    }
    said = {key: np.repeat(value, args.pairs) for key, value in said.items()}
    np.savez(out / POSES, body_pose=windows.body_pose, root_orient=windows.root_orient, transl=windows.transl)
    np.savez(out / "clips.npz", azimuth=azimuth.reshape(-1), **said)
    meta = {
        "actions": actions,
        "moments": {action: share.round(4).tolist() for action, share in shares.items()},
        "filmed": clip_shape(),
        "settings": SETTINGS | {"trained_on": reference.digest_of(split.train)},
    }
    meta |= {"split": split.how, "seed": args.seed}
    (out / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    print(f"{count * args.pairs} clips in {out}; held out by: {split.how}")


def parse_args(argv: Sequence[str] | None = None) -> SimpleNamespace:
    """What is filmed; default: as the command line says."""
    return parse_simple(
        __doc__, "tools.prior_data", argv, needed=("out",),
        out=(str, "folder to write"),
        still=(0.15, "share of an action's windows left out, the stillest"),
        windows=(340, "training windows of an action with one recording (see draw_windows)"),
        pairs=(2, "pairs of cameras a window"),
        held_out=(0.2, "share of each action's seconds to validate on"),
        seed=(0, "of the windows and cameras"),
        processes=(2, "how many film at once"),
    )  # fmt: skip


if __name__ == "__main__":
    run_program(lambda: main(parse_args()))
