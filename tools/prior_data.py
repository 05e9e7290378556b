"""Render motion capture into the embedded prior's training clips.

    python -m tools.prior_data --out DATA [--windows 4000] [--views 4]

Windows of motion capture, balanced over actions, at 0.85 to 1.15 of their speed and half of them mirrored (as poses,
never as pictures: left and right are painted differently), on our own body, through our own renderer, with cameras all
around. DATA gets clips.u8 (N, F, H, W, 3), clips.npz (action, azimuth, held_out) and meta.json.
"""

from __future__ import annotations

import argparse
import json
import math
import time
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
from md_jax.clips import load_clips, split_clips
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


def film(windows: Windows, azimuth: np.ndarray, elevation: np.ndarray, pixels: np.ndarray) -> None:
    """Render every window from its cameras, azimuth and elevation (W, views), into `pixels` (W·views, F, H, W, 3)."""
    body = load_body("free")
    height = np.asarray(body.v_template)[:, 1]
    baked, target = lbs.bake(body), torch.tensor([0.0, float(height.min() + height.max()) / 2, 0.0])
    mesh = make_mesh(np.asarray(body.triangles), np.asarray(body.vertex_colors))
    pose = jax.jit(lambda pose: lbs.pose(baked, pose))
    views, frames = azimuth.shape[1], SETTINGS["frames"]
    began = time.perf_counter()
    for w, window in enumerate(windows.body_pose):
        vertices = torch.from_numpy(np.array(pose(window))).repeat(views, 1, 1)
        around, above = (torch.from_numpy(x[w]).float().repeat_interleave(frames) for x in (azimuth, elevation))
        camera = Camera(around, above, SETTINGS["distance"], math.radians(SETTINGS["fov"]), target)
        size = SETTINGS["height"], SETTINGS["width"], SUPERSAMPLE
        with torch.no_grad():
            pictures = render(vertices, camera, mesh, *size, tuple(SETTINGS["background"]))
        clips = (pictures * 255).round().clamp(0, 255).to(torch.uint8).unflatten(0, (views, frames))
        pixels[w * views : (w + 1) * views] = clips.numpy()
        if (w + 1) % 200 == 0:
            print(f"{w + 1} of {len(azimuth)} windows, {time.perf_counter() - began:.0f} s", flush=True)


def main(args: argparse.Namespace) -> None:
    """Cut, film and write; a tenth of the clips are from held-out recordings (or the end of an action's only one)."""
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(args.seed)
    actions = list(load_actions(Path(args.actions_file), args.actions))
    split = split_clips(load_clips(args.mocap or None, actions), fraction=args.held_out)
    cut = {"frames": SETTINGS["frames"], "fps": SETTINGS["fps"]}
    sides = [(sample_windows(rng, split.train, args.windows, **cut), split.train)]
    if args.held_out > 0:
        count = max(args.windows // 10, len(actions))
        sides.append((sample_windows(rng, split.held_out, count, speed=(1.0, 1.0), **cut), split.held_out))
    windows = Windows(*(np.concatenate(parts) for parts in zip(*(side for side, _ in sides), strict=True)))
    names = [clips[i].action for side, clips in sides for i in side.clip]
    held_out = np.repeat([False, True][: len(sides)], [len(side.clip) for side, _ in sides])

    count = len(names)
    # the cameras of a window stand evenly around it from a random start: every window is seen from all sides
    azimuth = 2 * np.pi * (rng.uniform(size=(count, 1)) + np.arange(args.views) / args.views)
    low, high = np.radians(SETTINGS["elevation"])
    elevation = rng.uniform(low, high, size=(count, args.views))
    shape = [SETTINGS["frames"], SETTINGS["height"], SETTINGS["width"], 3]
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    pixels = np.memmap(out / "clips.u8", np.uint8, "w+", shape=(count * args.views, *shape))
    film(windows, azimuth, elevation, pixels)
    pixels.flush()
    np.savez(
        out / "clips.npz",
        action=np.repeat([actions.index(name) for name in names], args.views),
        azimuth=azimuth.reshape(-1),
        held_out=np.repeat(held_out, args.views),
    )
    meta = {"actions": actions, "shape": shape, "settings": SETTINGS, "split": split.how, "seed": args.seed}
    (out / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    print(f"{count * args.views} clips in {out}; held out by: {split.how}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--mocap", default="", help="folder or packed file of clips; default: the shipped ones")
    parser.add_argument("--actions_file", default="md_jax/assets/actions.json")
    parser.add_argument("--actions", nargs="*", help="names of actions; default: those marked main")
    parser.add_argument("--windows", type=int, default=4000, help="training windows over all actions")
    parser.add_argument("--views", type=int, default=4, help="cameras a window")
    parser.add_argument("--held_out", type=float, default=0.2, help="share of each action's seconds to validate on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_args())
