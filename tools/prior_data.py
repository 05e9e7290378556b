"""Render motion capture into the embedded prior's training clips.

    python -m tools.prior_data --out=DATA [--windows=4000] [--views=4] [--further=basketball,dancing]

Windows of motion capture, balanced over actions: of each action the moments that look alike (`tools.prior_windows`),
or with --noaligned any moment. --mirror mirrors half of them (as poses, never as pictures: left and right are painted
differently). They are filmed on our own body, through our own renderer, with cameras all around. The pelvis does not
turn, but for extra windows of the actions in `--turning`, whose captions say so. DATA gets clips.u8 (N, F, H, W, 3),
clips.npz (action, azimuth, held_out, turning) and meta.json.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import torch

from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import make_mesh
from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.mocap.clips import Split, split_source
from md_jax.mocap.windows import Windows
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program
from tools.prior_text import load_actions
from tools.prior_windows import aligned_windows, lively_windows, repeat_seconds

# What the prior sees, and what a run therefore renders unless told otherwise: prior.json of the shipped folder.
SETTINGS: dict[str, Any] = {
    "frames": 10,
    "fps": 10,
    "height": 32,
    "width": 32,
    "elevation": [5.0, 20.0],  # degrees
    "fov": 40.0,  # degrees
    "distance": 3.2,  # metres
    "background": [0.9, 0.9, 0.9],
    "licence": "Apache-2.0 (trained on CMU motion capture; see README.md)",
}
SUPERSAMPLE = 2


def clip_shape() -> list[int]:
    """Shape of one clip's pixels (F, H, W, 3)."""
    return [SETTINGS["frames"], SETTINGS["height"], SETTINGS["width"], 3]


def film(windows: Windows, azimuth: np.ndarray, elevation: np.ndarray, file: Path, first: int) -> None:
    """Render windows (W) from their cameras, azimuth and elevation (W, views), into clips `first`… of the file."""
    torch.set_num_threads(1)
    body = load_body("free")
    height = np.asarray(body.v_template)[:, 1]
    baked, target = lbs.bake(body), torch.tensor([0.0, float(height.min() + height.max()) / 2, 0.0])
    mesh = make_mesh(np.asarray(body.triangles), np.asarray(body.vertex_colors))
    pose = jax.jit(lambda pose, root: lbs.pose(baked, pose, root))
    views, frames = azimuth.shape[1], SETTINGS["frames"]
    pixels = np.memmap(file, np.uint8, "r+").reshape(-1, *clip_shape())
    began = time.perf_counter()
    for w, window in enumerate(zip(windows.body_pose, windows.root_orient, strict=True)):
        vertices = torch.from_numpy(np.array(pose(*window))).repeat(views, 1, 1)
        around, above = (torch.from_numpy(x[w]).float().repeat_interleave(frames) for x in (azimuth, elevation))
        camera = Camera(around, above, SETTINGS["distance"], math.radians(SETTINGS["fov"]), target)
        size = SETTINGS["height"], SETTINGS["width"], SUPERSAMPLE
        with torch.no_grad():
            pictures = render(vertices, camera, mesh, *size, tuple(SETTINGS["background"]))
        clips = (pictures * 255).round().clamp(0, 255).to(torch.uint8).unflatten(0, (views, frames))
        pixels[first + w * views : first + (w + 1) * views] = clips.numpy()
        if (w + 1) % 200 == 0:
            print(f"{w + 1} of {len(azimuth)} windows, {time.perf_counter() - began:.0f} s", flush=True)


def draw_windows(
    rng: np.random.Generator, split: Split, share: dict[str, float], number: int, *, held_out: bool, aligned: bool,
    still: float, mirror: bool, root: str = "fixed",
) -> tuple[Windows, list[str]]:  # fmt: skip
    """About `number` windows of one side of the split, shared out over its actions, and the action of each."""
    cut: dict[str, Any] = {"frames": SETTINGS["frames"], "fps": SETTINGS["fps"], "mirror": mirror, "root": root}
    if aligned:
        counts = {name: math.ceil(number * part / sum(share.values())) for name, part in share.items()}
        return aligned_windows(rng, split, counts, held_out=held_out, **cut)
    clips = [clip for clip in (split.held_out if held_out else split.train) if clip.action in share]
    speed = (1.0, 1.0) if held_out else (0.85, 1.15)
    return lively_windows(rng, clips, number, still=still, share=share, speed=speed, **cut)


def main(args: SimpleNamespace) -> None:
    """Cut, film and write; a fifth of each action is held out (recordings, or the end of an action's only one)."""
    rng = np.random.default_rng(args.seed)
    table = Path(args.actions_file)
    main_actions = list(load_actions(table, args.actions))
    actions = list(load_actions(table, [*main_actions, *args.further]))
    share = {name: 1.0 if name in main_actions else args.further_share for name in actions}
    split = split_source(args.mocap or None, actions, args.held_out)
    how: dict[str, Any] = {"aligned": args.aligned, "still": args.still, "mirror": args.mirror}
    sides = [(False, args.windows)]
    if args.held_out > 0:
        sides.append((True, max(args.windows // 10, len(actions))))
    taken: list[tuple[Windows, list[str], bool, bool]] = []
    for aside, number in sides:
        taken.append((*draw_windows(rng, split, share, number, held_out=aside, **how), aside, False))
        if args.turning:
            extra = {action: share[action] for action in args.turning}
            number_extra = math.ceil(number * sum(extra.values()) / sum(share.values()))
            drawn = draw_windows(rng, split, extra, number_extra, held_out=aside, root="orient", **how)
            taken.append((*drawn, aside, True))
    windows = Windows(*(np.concatenate(parts) for parts in zip(*(part[0] for part in taken), strict=True)))
    names = [name for part in taken for name in part[1]]
    held_out = np.repeat([part[2] for part in taken for _ in part[1]], args.views)
    turning = np.repeat([part[3] for part in taken for _ in part[1]], args.views)

    count = len(names)
    # the cameras of a window stand evenly around it from a random start: every window is seen from all sides
    azimuth = 2 * np.pi * (rng.uniform(size=(count, 1)) + np.arange(args.views) / args.views)
    low, high = np.radians(SETTINGS["elevation"])
    elevation = rng.uniform(low, high, size=(count, args.views))
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "clips.u8"
    np.memmap(file, np.uint8, "w+", shape=(count * args.views, *clip_shape())).flush()
    bounds = np.linspace(0, count, args.processes + 1).astype(int)
    parts = [
        (Windows(*(part[a:b] for part in windows)), azimuth[a:b], elevation[a:b], file, a * args.views)
        for a, b in itertools.pairwise(bounds)
    ]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        pool.starmap(film, parts)
    np.savez(
        out / "clips.npz",
        action=np.repeat([actions.index(name) for name in names], args.views),
        azimuth=azimuth.reshape(-1),
        held_out=held_out,
        turning=turning,
    )
    settings = SETTINGS | ({"repeats": _repeats(split, actions)} if args.aligned else {})
    meta = {"actions": actions, "share": share, "shape": clip_shape(), "settings": settings, "split": split.how}
    meta.update(aligned=args.aligned, still=args.still, turning=args.turning, mirror=args.mirror, seed=args.seed)
    (out / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    print(f"{count * args.views} clips in {out}; held out by: {split.how}")


def _repeats(split: Split, actions: Sequence[str]) -> dict[str, float]:
    """Seconds after which those actions that repeat look the same again (`bridge.priors.PriorSpec.repeats`)."""
    found = {name: repeat_seconds([clip for clip in split.train if clip.action == name]) for name in actions}
    return {name: round(seconds, 2) for name, seconds in found.items() if seconds is not None}


def parse_args(argv: Sequence[str] | None = None) -> SimpleNamespace:
    """What is filmed; default: as the command line says."""
    return parse_simple(
        __doc__, "tools.prior_data", argv, needed=("out",),
        out=(str, "folder to write"),
        mocap=("", "folder or packed file of clips; default: the shipped ones"),
        actions_file=("md_jax/assets/actions.json", "the table of actions"),
        actions=([], "names of actions, separated by commas; default: those marked main"),
        further=([], "more actions, less often"),
        further_share=(0.45, "how often, beside 1 for the others"),
        turning=(["cartwheel"], "also filmed with the pelvis turning"),
        aligned=(True, "of each action the moments that look alike; --noaligned: any moment"),
        still=(0.25, "--noaligned: share of an action's windows left out, the stillest"),
        mirror=(False, "mirror half of them"),
        windows=(4000, "training windows over all actions"),
        views=(4, "cameras a window"),
        held_out=(0.2, "share of each action's seconds to validate on"),
        seed=(0, "of the windows and cameras"),
        processes=(2, "how many film at once"),
    )  # fmt: skip


if __name__ == "__main__":
    run_program(lambda: main(parse_args()))
