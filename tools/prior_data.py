"""Render motion capture into the embedded prior's training clips.

    python -m tools.prior_data --out DATA [--windows 4000] [--views 4] [--further basketball dancing ...]

Windows of motion capture, balanced over actions, at 0.85 to 1.15 of their speed and half of them mirrored (as poses,
never as pictures: left and right are painted differently; --no-mirror leaves it), on our own body, through our own
renderer, with cameras all around. The pelvis does not turn, but for extra windows of the actions in `--turning`, whose
captions say so. DATA gets clips.u8 (N, F, H, W, 3), clips.npz (action, azimuth, held_out, turning) and meta.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from bridge.camera import Camera
from bridge.mesh import make_mesh
from bridge.render import render
from md_jax import lbs
from md_jax.body import load_body
from md_jax.clips import Clip, split_source
from md_jax.windows import Windows, sample_windows
from tools.prior_text import load_actions

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
    "t_min": 0.02,
    "t_max": 0.98,
    "guidance_scale": 7.5,
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


def lively_windows(
    rng: np.random.Generator, clips: Sequence[Clip], count: int, *, still: float, **how: Any
) -> tuple[Windows, list[str]]:
    """Sampled windows and their actions, without the stillest share `still` of each action.

    A recording named after an action also shows the person waiting for it; those seconds are not the action.
    """
    windows = sample_windows(rng, clips, math.ceil(count / (1 - still)), **how)
    names = np.array([clips[i].action for i in windows.clip])
    joints = jax.jit(lambda pose: lbs.joints_of(lbs.bake(load_body("free")), pose)[..., :22, :])
    motion = np.array([np.linalg.norm(np.diff(joints(pose), axis=0), axis=-1).mean() for pose in windows.body_pose])
    keep = [motion[i] >= np.quantile(motion[names == name], still) for i, name in enumerate(names)]
    chosen = np.flatnonzero(keep)
    return Windows(*(part[chosen] for part in windows)), list(names[chosen])


def main(args: argparse.Namespace) -> None:
    """Cut, film and write; a fifth of each action is held out (recordings, or the end of an action's only one)."""
    rng = np.random.default_rng(args.seed)
    table = Path(args.actions_file)
    main_actions = list(load_actions(table, args.actions))
    actions = list(load_actions(table, [*main_actions, *args.further]))
    share = {name: 1.0 if name in main_actions else args.further_share for name in actions}
    split = split_source(args.mocap or None, actions, args.held_out)
    cut: dict[str, Any] = {"frames": SETTINGS["frames"], "fps": SETTINGS["fps"]}
    sides = [(False, split.train, args.windows, (0.85, 1.15))]
    if args.held_out > 0:
        sides.append((True, split.held_out, max(args.windows // 10, len(actions)), (1.0, 1.0)))
    taken: list[tuple[Windows, list[str], bool, bool]] = []
    for aside, clips, number, speed in sides:
        how: dict[str, Any] = {**cut, "speed": speed, "still": args.still, "mirror": args.mirror}
        taken.append((*lively_windows(rng, clips, number, share=share, **how), aside, False))
        for action in args.turning:
            own = [clip for clip in clips if clip.action == action]
            number_each = math.ceil(number / sum(share.values()))
            taken.append((*lively_windows(rng, own, number_each, root="orient", **how), aside, True))
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
    meta = {"actions": actions, "share": share, "shape": clip_shape(), "settings": SETTINGS, "split": split.how}
    meta.update(still=args.still, turning=args.turning, mirror=args.mirror, seed=args.seed)
    (out / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    print(f"{count * args.views} clips in {out}; held out by: {split.how}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--mocap", default="", help="folder or packed file of clips; default: the shipped ones")
    parser.add_argument("--actions_file", default="md_jax/assets/actions.json")
    parser.add_argument("--actions", nargs="*", help="names of actions; default: those marked main")
    parser.add_argument("--further", nargs="*", default=[], help="more actions, less often")
    parser.add_argument("--further_share", type=float, default=0.45, help="how often, beside 1 for the others")
    parser.add_argument("--turning", nargs="*", default=["cartwheel"], help="also filmed with the pelvis turning")
    parser.add_argument("--still", type=float, default=0.25, help="share of an action's windows left out, the stillest")
    parser.add_argument("--mirror", action=argparse.BooleanOptionalAction, default=True, help="mirror half of them")
    parser.add_argument("--windows", type=int, default=4000, help="training windows over all actions")
    parser.add_argument("--views", type=int, default=4, help="cameras a window")
    parser.add_argument("--held_out", type=float, default=0.2, help="share of each action's seconds to validate on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_args())
