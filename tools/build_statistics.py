"""Compute pose statistics and write them to one npz: each action, and all of them pooled.

    python -m tools.build_statistics [CLIPS] [--out=md_jax/assets/statistics.npz]

CLIPS is a folder of AMASS-style .npz files in one sub-folder an action, or a file of tools.pack_mocap; the
default is the shipped motion capture. `python -m md_jax.main --statistics=FILE` uses the result.
"""

from __future__ import annotations

import numpy as np

from md_jax.mocap.clips import load_clips
from md_jax.mocap.statistics import GENERIC, compute_statistics, save_statistics
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program


def main() -> None:
    args = parse_simple(
        __doc__, "tools.build_statistics", rest="clips", out=("md_jax/assets/statistics.npz", "the file to write")
    )
    if len(args.clips) > 1:
        stop(f"one folder or file of clips is expected, got {len(args.clips)}: {' '.join(args.clips)}.")
    clips = load_clips(args.clips[0] if args.clips else None)
    actions = [*sorted({clip.action for clip in clips}), GENERIC]
    statistics = [compute_statistics(clips, action) for action in actions]
    save_statistics(args.out, statistics)
    print(f"{'action':20s} {'seconds':>8s} {'clips':>6s} {'joint std':>10s} {'largest':>8s} {'root std':>9s}")
    for action, found in zip(actions, statistics, strict=True):
        of = [clip for clip in clips if action in (GENERIC, clip.action)]
        seconds = sum(len(clip.body_pose) / clip.fps for clip in of)
        spread = np.sqrt((found.body_std**2).sum(axis=-1))
        print(
            f"{action:20s} {seconds:8.1f} {len(of):6d} {spread.mean():10.3f} {spread.max():8.3f}"
            f" {np.sqrt((found.root_std**2).sum()):9.3f}"
        )


if __name__ == "__main__":
    run_program(main)
