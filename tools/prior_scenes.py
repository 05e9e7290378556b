"""Render motion capture into training clips of every phase: moments, natural root, both sides.

    python -m tools.prior_scenes --out DATA [--windows 6000] [--views 4]

Of each action the windows are drawn by moment (`tools.prior_moments`), every moment as often, and within it every
recording as often; a share of them are any windows, whose captions name no moment. The pelvis turns, tilts and rises as
it did; the camera follows it along the ground. DATA gets clips.u8 (N, F, H, W, 3), clips.npz and meta.json.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from md_jax import measures, rotations
from md_jax.clips import Clip, split_source
from md_jax.grounding import ground_clips
from md_jax.windows import Windows, cut_windows
from tools import prior_data
from tools.prior_moments import Moments, find_moments, moment_of, weights_of, windows_of
from tools.prior_points import points_of

SETTINGS: dict[str, Any] = {
    **prior_data.SETTINGS,
    "frames": 12,  # 1.1 s: a whole gait cycle, and as long as the running of most recordings
    "height": 64,
    "width": 64,
    "elevation": [8.0, 16.0],
    "distance": 3.4,
    "guidance_scale": 3.0,
}
JITTER = 0.04  # seconds by which a start is moved either way
SPEED = (0.93, 1.07)
ANY = 0.2  # of the windows are of any moment
TEMPO = (0.25, 0.75)  # quantiles of an action's speed: slower is "slowly", faster is "quickly"
TURN = math.radians(25)  # of the pelvis in a window, from which a caption says so
LESS = 0.5  # how often actions are drawn beside the main ones


class Drawn(NamedTuple):
    """Windows and what captions say of them; each row one window."""

    windows: Windows
    moment: np.ndarray  # -1: any
    side: np.ndarray  # "left", "right", or "" where the action has no side or is as recorded
    text: np.ndarray


def draw(
    rng: np.random.Generator, clips: Sequence[Clip], moments: Moments, count: int, *, held_out: bool
) -> Drawn:  # fmt: skip
    """`count` windows of one action's clips (grounded)."""
    how: dict[str, Any] = {"frames": SETTINGS["frames"], "fps": SETTINGS["fps"]}
    sides = [windows_of(clips, mirrored=flip, **how) for flip in ((False,) if moments.side else (False, True))]
    points = np.concatenate([points_of(part) for part in sides])
    index, start, speed, flipped = (
        np.concatenate([getattr(part, name) for part in sides]) for name in ("clip", "start", "speed", "mirrored")
    )
    label, core = moment_of(moments, points)
    weight = weights_of(clips, index)
    pace = measures.speed(points, SETTINGS["fps"])
    weight = np.where(pace >= 0.3 * np.quantile(pace, 0.9), weight, 0.0)
    present = [k for k in range(len(moments.centers)) if (weight * core * (label == k)).sum() > 0]
    chosen, named = np.zeros(count, int), np.full(count, -1)
    for i in range(count):
        p = weight
        if present and rng.uniform() >= ANY:
            named[i] = rng.choice(present)
            p = weight * core * (label == named[i])
        chosen[i] = rng.choice(len(p), p=p / p.sum())
    low, high = (1.0, 1.0) if held_out else SPEED
    factor = speed[chosen] * np.exp(rng.uniform(math.log(low), math.log(high), count))
    room = np.array([c.duration for c in clips])[index[chosen]]
    span = (SETTINGS["frames"] - 1) / SETTINGS["fps"]
    factor = np.minimum(factor, room / span * 0.9999)
    begin = start[chosen] + (0 if held_out else rng.uniform(-JITTER, JITTER, count))
    begin = np.clip(begin, 0, room - span * factor)
    mirrored = rng.uniform(size=count) < 0.5 if moments.side else flipped[chosen]
    cut = cut_windows(clips, index[chosen], begin, speed=factor, mirrored=mirrored, root="height", **how)
    other = {"left": "right", "right": "left"}.get(moments.side, "")
    side = np.where(mirrored, other, moments.side)
    return Drawn(cut, named, side, np.array([clips[i].text for i in index[chosen]]))


def tempo_of(windows: Windows, names: np.ndarray, bounds: dict[str, tuple[float, float]]) -> np.ndarray:
    """ "slowly", "quickly" or "" by the window's speed beside its action's."""
    speed = measures.speed(points_of(windows), SETTINGS["fps"])
    return np.array(["slowly" if v < bounds[n][0] else "quickly" if v > bounds[n][1] else ""
                     for v, n in zip(speed, names, strict=True)])  # fmt: skip


def turn_of(windows: Windows) -> np.ndarray:
    """ "left", "right" or "": where the pelvis turns within the window (to the person's left is positive about y)."""
    matrix = rotations.axis_angle_to_matrix(jnp.asarray(windows.root_orient[:, [0, -1]], jnp.float32))
    yaw = np.asarray(rotations.yaw_of(matrix))
    yaw = yaw.reshape(len(yaw), 2)
    turned = (yaw[:, 1] - yaw[:, 0] + np.pi) % (2 * np.pi) - np.pi
    return np.where(turned > TURN, "left", np.where(turned < -TURN, "right", ""))


def joined(parts: Sequence[Drawn]) -> Drawn:
    """The windows of several draws as one."""
    windows = Windows(*(np.concatenate(column) for column in zip(*(p.windows for p in parts), strict=True)))
    return Drawn(windows, *(np.concatenate([p[i] for p in parts]) for i in (1, 2, 3)))


def main(args: argparse.Namespace) -> None:
    """Find moments, draw, film and write."""
    rng = np.random.default_rng(args.seed)
    table = json.loads(Path(args.actions_file).read_text(encoding="utf-8"))
    split = split_source(args.mocap or None, args.actions or None)
    actions = sorted(split.how)
    share = {a: 1.0 if table[a].get("main") else LESS for a in actions}
    share["walking"] *= args.more
    parts: list[Drawn] = []
    names: list[str] = []
    aside: list[bool] = []
    facts: dict[str, dict[str, Any]] = {}
    bounds: dict[str, tuple[float, float]] = {}
    centers: dict[str, Any] = {}
    for action in actions:
        train, held = (ground_clips([c for c in side if c.action == action]) for side in split[:2])
        moments, facts[action] = find_moments(train, frames=SETTINGS["frames"], fps=SETTINGS["fps"])
        facts[action]["side"] = moments.side
        centers[action] = moments.centers.astype(np.float32)
        number = math.ceil(args.windows * share[action] / sum(share.values()))
        for clips, late in ((train, False), (held, True)):
            if not any(c.duration >= 0.85 * (SETTINGS["frames"] - 1) / SETTINGS["fps"] for c in clips):
                continue
            drawn = draw(rng, clips, moments, math.ceil(number * (0.1 if late else 1.0)), held_out=late)
            if not late:
                speed = measures.speed(points_of(drawn.windows), SETTINGS["fps"])
                low, high = np.quantile(speed, TEMPO)
                bounds[action] = (float(low), float(high))
            parts.append(drawn)
            names += [action] * len(drawn.moment)
            aside += [late] * len(drawn.moment)
        print(f"{action:26s}", " ".join(f"{k}={v}" for k, v in facts[action].items()), flush=True)
    drawn, label = joined(parts), np.array(names)
    windows, count, views = drawn.windows, len(names), args.views
    azimuth = 2 * np.pi * (rng.uniform(size=(count, 1)) + np.arange(views) / views)
    settings = dict(SETTINGS)
    if args.fixed:
        stands = args.azimuths or [360 * v / views for v in range(views)]
        azimuth = np.tile(np.radians(stands), (count, 1))
        settings["elevation"], settings["azimuths"] = [12.0, 12.0], stands
    low, high = np.radians(settings["elevation"])
    elevation = rng.uniform(low, high, size=(count, views))
    out, file = Path(args.out), Path(args.out) / "clips.u8"
    out.mkdir(parents=True, exist_ok=True)
    words: dict[str, Any] = {
        "moment": drawn.moment,
        "side": drawn.side,
        "text": drawn.text,
        "tempo": tempo_of(windows, label, bounds),
        "turn": turn_of(windows),
        "held_out": np.array(aside),
        "action": np.array([actions.index(name) for name in names]),
    }
    repeated: dict[str, Any] = {k: np.repeat(v, views) for k, v in words.items()}
    np.savez(out / "clips.npz", azimuth=azimuth.reshape(-1), turning=np.zeros(count * views, bool),
             **repeated)  # fmt: skip
    np.savez(out / "windows.npz", **windows._asdict(), azimuth=azimuth, elevation=elevation, **words)
    np.savez(out / "moments.npz", **centers)
    meta = {"actions": actions, "share": share, "shape": prior_data.clip_shape(settings), "settings": settings,
            "split": split.how, "moments": facts, "bounds": bounds, "seed": args.seed}  # fmt: skip
    (out / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    np.memmap(file, np.uint8, "w+", shape=(count * views, *prior_data.clip_shape(SETTINGS))).flush()
    edges = np.linspace(0, count, args.processes + 1).astype(int)
    jobs = [
        (Windows(*(part[a:b] for part in windows)), azimuth[a:b], elevation[a:b], file, a * views, settings)
        for a, b in itertools.pairwise(edges)
    ]
    with multiprocessing.get_context("spawn").Pool(args.processes) as pool:
        pool.starmap(prior_data.film, jobs)
    print(f"{count * views} clips in {out}")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--mocap", default="", help="folder or packed file of clips; default: the shipped ones")
    parser.add_argument("--actions_file", default="md_jax/assets/actions.json")
    parser.add_argument("--actions", nargs="*", help="default: all")
    parser.add_argument("--windows", type=int, default=6000)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--fixed", action="store_true", help="cameras always stand at the same places, from the front"
                        " on, so that what is left to learn is the movement")  # fmt: skip
    parser.add_argument("--azimuths", type=float, nargs="*", help="where --fixed cameras stand, degrees")
    parser.add_argument("--more", type=float, default=1.0, help="times as many windows of walking")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main(parse_args())
