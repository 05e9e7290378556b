"""Moments of an action: a few kinds of windows, each of which has a mean that still moves.

    python -m tools.prior_moments [--out moments.json]     # the table of how well they do

Score distillation is drawn to the mean of what a prior finds likely. The mean over all phases of a walk stands still;
the mean over one moment of it moves. So an action's windows are clustered by where the joints are and where they go
(k-means, every recording with the same weight, windows of a symmetric action also mirrored). The core of a moment is
what is nearest to its mean, as many windows as leave a mean that moves at 0.85 of their speed; there are as few
moments as leave most windows in cores. Captions say "moment 3 of 8". The moments are in order: after one comes, in
the recordings, most often the next.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from md_jax import measures
from md_jax.clips import Clip, split_source
from md_jax.grounding import ground_clips
from md_jax.windows import Windows, every_window
from tools.prior_points import points_of

# A moment's mean moves at such a share of its members' speed: the highest at which enough windows are in cores.
MEAN_SPEEDS = (0.85, 0.8, 0.75, 0.7, 0.6)
ENOUGH = 0.3
CORE = 0.7  # of the windows' weight is the core of a moment; or there are MOST moments
MOST = 16
SECONDS = 0.2  # weight of velocities beside positions
STILL = 0.3  # windows slower than this share of the fastest tenth are no part of the action
STRIDE = 0.1  # seconds between the starts of windows
SIDED = 0.25  # a limb that is faster than its twin by this share makes an action one-sided
SLOWEST = 0.85  # short clips are slowed down to this speed


class Moments(NamedTuple):
    """The moments of one action, in order."""

    centers: Float[np.ndarray, "K F 22 3"]  # means of the cores, joints in metres
    radius: Float[np.ndarray, "K"]  # root mean square distance of a core's outermost window
    dwell: float  # seconds that a recording stays in one, in the mean
    side: str  # the faster side as recorded ("left" or "right"), or "" for an action of both


def windows_of(clips: Sequence[Clip], *, frames: int, fps: float, mirrored: bool) -> Windows:
    """All windows of clips that hold one, the shorter clips a little slowed down; heights as grounded."""
    parts = []
    for i, clip in enumerate(clips):
        speed = min(1.0, clip.duration / ((frames - 1) / fps))
        if speed >= SLOWEST:
            part = every_window([clip], frames=frames, fps=fps, stride=STRIDE, speed=speed * 0.9999,
                                mirrored=mirrored, root="height")  # fmt: skip
            parts.append(part._replace(clip=np.full(len(part.clip), i)))
    return Windows(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def side_of(points: Float[np.ndarray, "N F 22 3"]) -> str:
    """The side whose wrist and ankle are faster, or "" where both are about as fast."""
    speed = np.linalg.norm(np.diff(points, axis=1), axis=-1).mean(axis=(0, 1))
    left, right = speed[[7, 20]].sum(), speed[[8, 21]].sum()
    if max(left, right) < (1 + SIDED) * min(left, right):
        return ""
    return "left" if left > right else "right"


def weights_of(clips: Sequence[Clip], index: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Weights that sum to one, the same for every recording."""
    _, label, count = np.unique([clips[i].recording for i in index], return_inverse=True, return_counts=True)
    return 1.0 / (len(count) * count[label])


def k_means(rng: np.random.Generator, points: np.ndarray, weight: np.ndarray, count: int) -> tuple[np.ndarray, float]:
    """Weighted k-means (k-means++ starts, the best of three): (labels, weighted squared distance)."""
    flat = points.reshape(len(points), -1)
    squares = (flat**2).sum(1)
    best: tuple[np.ndarray, float] = (np.zeros(len(flat), int), np.inf)
    for _ in range(3):
        centers = flat[rng.choice(len(flat), p=weight)][None]
        while len(centers) < count:
            near = (squares[:, None] - 2 * flat @ centers.T + (centers**2).sum(1)).min(1).clip(1e-9)
            centers = np.concatenate([centers, flat[rng.choice(len(flat), p=weight * near / (weight @ near))][None]])
        for _ in range(40):
            distance = squares[:, None] - 2 * flat @ centers.T + (centers**2).sum(1)
            label = distance.argmin(1)
            moved = np.stack([np.average(flat[label == k], axis=0, weights=weight[label == k])
                              if np.any(label == k) else centers[k] for k in range(count)])  # fmt: skip
            if np.allclose(moved, centers, atol=1e-5):
                break
            centers = moved
        spread = float(weight @ distance[np.arange(len(flat)), label].clip(0))
        if spread < best[1]:
            best = (label, spread)
    return best


def cores(points: np.ndarray, label: np.ndarray, weight: np.ndarray, fps: float, share: float) -> np.ndarray:
    """Which windows are the core of their moment (N,): the nearest to its mean, as many as leave a mean that moves."""
    speed = measures.speed(points, fps)
    kept = np.zeros(len(points), bool)
    for k in np.unique(label):
        of = np.flatnonzero(label == k)
        center = np.average(points[of], axis=0, weights=weight[of])
        of = of[np.argsort(((points[of] - center) ** 2).sum((1, 2, 3)))]
        total = np.cumsum(weight[of])
        means = np.cumsum(points[of] * weight[of, None, None, None], axis=0) / total[:, None, None, None]
        moves = measures.speed(means, fps) >= share * np.cumsum(weight[of] * speed[of]) / total
        kept[of[: int(np.flatnonzero(moves).max()) + 1]] = True
    return kept


def find_moments(clips: Sequence[Clip], *, frames: int, fps: float, seed: int = 0) -> tuple[Moments, dict[str, float]]:
    """The moments of an action's training clips (grounded), and what was measured of them."""
    rng = np.random.default_rng(seed)
    plain = windows_of(clips, frames=frames, fps=fps, mirrored=False)
    points = points_of(plain)
    side = side_of(points)
    index, start, flipped = plain.clip, plain.start, np.zeros(len(plain.clip), bool)
    if not side:
        twins = windows_of(clips, frames=frames, fps=fps, mirrored=True)
        points = np.concatenate([points, points_of(twins)])
        index, start = np.tile(index, 2), np.tile(start, 2)
        flipped = np.repeat([False, True], len(plain.clip))
    speed = measures.speed(points, fps)
    lively = speed >= STILL * np.quantile(speed, 0.9)
    points, index, start, flipped = points[lively], index[lively], start[lively], flipped[lively]
    weight = weights_of(clips, index)
    most = max(1, min(MOST, len(points) // 4))
    for count in range(1, most + 1):
        label = k_means(rng, features_of(points, fps), weight, count)[0]
        kept = cores(points, label, weight, fps, MEAN_SPEEDS[0])
        if weight[kept].sum() >= CORE:
            break
    share = MEAN_SPEEDS[0]
    for share in MEAN_SPEEDS:
        kept = cores(points, label, weight, fps, share)
        if weight[kept].sum() >= ENOUGH:
            break
    order, dwell = in_order(label, index + len(clips) * flipped, start)
    centers = np.stack([mean_of(points, kept & (label == k), weight) for k in order])
    radius = np.array([np.sqrt(apart(points[kept & (label == k)], center).max())
                       for k, center in zip(order, centers, strict=True)])  # fmt: skip
    spread = np.sqrt(apart(points, centers[np.argsort(order)[label]]))
    facts = {"windows": len(points), "recordings": len({clips[i].recording for i in index}), "moments": len(order),
             "core": round(float(weight[kept].sum()), 2), "share": share, "dwell": round(float(dwell), 2),
             "spread_cm": round(float(100 * weight[kept] @ spread[kept] / weight[kept].sum()), 1)}  # fmt: skip
    return Moments(centers, radius, float(dwell), side), facts


def features_of(points: np.ndarray, fps: float) -> np.ndarray:
    """What is clustered: positions, and velocities, so that those are together that move together."""
    return np.concatenate([points, np.diff(points, axis=1) * fps * SECONDS], axis=1)


def mean_of(points: np.ndarray, of: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Weighted mean of some windows."""
    return np.average(points[of], axis=0, weights=weight[of])


def apart(points: np.ndarray, center: np.ndarray) -> np.ndarray:
    """Mean squared distance of joints, metres² (N,)."""
    return ((points - center) ** 2).sum(-1).mean((-1, -2))


def in_order(label: np.ndarray, track: np.ndarray, start: np.ndarray) -> tuple[list[int], float]:
    """The moments so that each is followed by its most frequent successor; and the mean seconds spent in one."""
    count = int(label.max()) + 1
    follows = np.zeros((count, count))
    stays = 0
    for one in np.unique(track):
        of = np.flatnonzero(track == one)
        of = of[np.argsort(start[of])]
        for a, b in zip(label[of][:-1], label[of][1:], strict=True):
            follows[a, b] += a != b
            stays += 1
    order = [int(label[np.argmin(start)])]
    while len(order) < count:
        left = [k for k in range(count) if k not in order]
        order.append(max(left, key=lambda k: follows[order[-1], k]))
    return order, STRIDE * stays / max(follows.sum(), 1)


def moment_of(moments: Moments, points: Float[np.ndarray, "N F 22 3"]) -> tuple[Int[np.ndarray, "N"], np.ndarray]:
    """The moment of each window, the one with the nearest centre, and whether the window is of its core."""
    squares = np.stack([apart(points, center) for center in moments.centers])
    nearest = squares.argmin(0)
    return nearest, np.sqrt(squares.min(0)) <= moments.radius[nearest]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mocap", default="")
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--fps", type=float, default=10.0)
    parser.add_argument("--out", default="")
    args = parser.parse_args()
    split = split_source(args.mocap or None)
    table = {}
    for action in sorted(split.how):
        clips = ground_clips([clip for clip in split.train if clip.action == action])
        moments, facts = find_moments(clips, frames=args.frames, fps=args.fps)
        table[action] = {**facts, "side": moments.side}
        print(f"{action:26s}", " ".join(f"{k}={v}" for k, v in table[action].items()), flush=True)
    if args.out:
        Path(args.out).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
