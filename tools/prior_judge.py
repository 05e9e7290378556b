"""Judge distilled motions against motion capture that no prior was trained on.

    python -m tools.prior_judge RUN/motion-00/motion.npz=walking ... [--json judged.json]

Windows of ten frames at ten a second, pelvis-centred and without the root, so that motions with and without a root
compare. Real windows: every phase, both sides, three speeds. Distances are means over frames and joints.

ratio     to the nearest held-out window, over what held-out windows have to the nearest training window
copying   to the nearest training window, over the same
cosine    of the joint velocities with those of the nearest held-out window
sideways, foreaft   range of the ankles over the median of held-out windows
speed     of all joints over the median of held-out windows
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from md_jax import measures
from md_jax.clips import Clip, split_source
from md_jax.motion import load_motion
from md_jax.windows import every_window

FRAMES, FPS = 10, 10.0
SPEEDS = (0.87, 1.0, 1.15)
ANKLES = (6, 7)  # of the 21 body joints


def real_windows(clips: Sequence[Clip], stride: float = 0.1) -> Float[np.ndarray, "N 10 21 3"]:
    """Joints of all windows of clips, at three speeds and both sides."""
    parts = []
    for speed in SPEEDS:
        able = [clip for clip in clips if clip.duration >= (FRAMES - 1) / FPS * speed]
        for mirrored in (False, True) if able else ():
            cut = every_window(able, frames=FRAMES, fps=FPS, stride=stride, speed=speed, mirrored=mirrored)
            parts.append(measures.joints(cut.body_pose))
    return np.concatenate(parts) if parts else np.zeros((0, FRAMES, 21, 3), np.float32)


def distances(windows: Float[np.ndarray, "N F P 3"], near: Float[np.ndarray, "R F P 3"]) -> Float[np.ndarray, "N R"]:
    """Mean distance of joints between each window and each other one, metres."""
    return np.stack([np.linalg.norm(near - window, axis=-1).mean((1, 2)) for window in windows])


def sweep(joints: Float[np.ndarray, "N F 21 3"], axis: int) -> Float[np.ndarray, "N"]:
    """Mean range of the two ankles along an axis."""
    return np.ptp(joints[:, :, ANKLES, axis], axis=1).mean(-1)


class Judge:
    """Real windows of one action and what they have among themselves."""

    def __init__(self, train: Sequence[Clip], held_out: Sequence[Clip]) -> None:
        self.train, self.real = real_windows(train, 0.2), real_windows(held_out)
        some = self.real[:: max(1, len(self.real) // 60)]
        self.usual = float(np.mean(distances(some, self.train).min(1)))
        usual = (sweep(self.real, 0), sweep(self.real, 2), measures.speed(self.real, FPS))
        names = ("sideways", "foreaft", "speed")
        self.typical = {n: max(float(np.median(v)), 1e-6) for n, v in zip(names, usual, strict=True)}

    def __call__(self, body_pose: Float[np.ndarray, "T 21 3"]) -> dict[str, float]:
        """The measures of a motion at FPS, the mean over its windows."""
        starts = range(max(1, len(body_pose) - FRAMES + 1))
        windows = measures.joints(np.stack([body_pose[i : i + FRAMES] for i in starts]))
        apart = distances(windows, self.real)
        nearest = self.real[apart.argmin(1)]
        moves, others = np.diff(windows, axis=1), np.diff(nearest, axis=1)
        scale = np.linalg.norm(moves.reshape(len(moves), -1), axis=1) * np.linalg.norm(
            others.reshape(len(moves), -1), axis=1
        )
        cosine = (moves * others).sum((1, 2, 3)) / np.maximum(scale, 1e-9)
        return {
            "nn_cm": 100 * float(apart.min(1).mean()),
            "ratio": float(apart.min(1).mean()) / self.usual,
            "copying": float(distances(windows, self.train).min(1).mean()) / self.usual,
            "cosine": float(cosine.mean()),
            "sideways": float(sweep(windows, 0).mean() / self.typical["sideways"]),
            "foreaft": float(sweep(windows, 2).mean() / self.typical["foreaft"]),
            "speed": float(measures.speed(windows, FPS).mean() / self.typical["speed"]),
        }


def judges(actions: Sequence[str], mocap: str = "") -> dict[str, Judge]:
    """A judge of each action."""
    split = split_source(mocap or None, list(actions))
    sides = {a: [[c for c in side if c.action == a] for side in split[:2]] for a in actions}
    return {action: Judge(*both) for action, both in sides.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("motions", nargs="+", help="FILE=ACTION")
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    asked = [word.rsplit("=", 1) for word in args.motions]
    judge = judges(sorted({action for _, action in asked}))
    rows: list[dict[str, Any]] = []
    for file, action in asked:
        motion = load_motion(file)
        step = round(motion.fps / FPS)
        rows.append({"action": action, "file": file, **judge[action](np.asarray(motion.body_pose)[::step])})
    print_table(rows, judge)
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def print_table(rows: Sequence[dict[str, Any]], judge: dict[str, Judge]) -> None:
    """One line an action: means over its motions."""
    names = ("nn_cm", "ratio", "copying", "cosine", "sideways", "foreaft", "speed")
    print(f"{'action':26s} {'n':>2s} {'usual':>6s} " + " ".join(f"{n:>8s}" for n in names))
    for action in sorted({row["action"] for row in rows}):
        of = [row for row in rows if row["action"] == action]
        means = " ".join(f"{np.mean([row[n] for row in of]):8.2f}" for n in names)
        print(f"{action:26s} {len(of):2d} {100 * judge[action].usual:6.1f} {means}")


if __name__ == "__main__":
    main()
