"""Compute pose statistics and write them to one npz: each action, and all of them pooled.

    python -m tools.build_statistics [CLIPS] [--out=md_jax/assets/statistics.npz]

CLIPS is a folder of AMASS-style .npz files in one sub-folder an action, or a file of tools.pack_mocap; the default is
the shipped motion capture: poses of an action come from the clips that the embedded prior and the yardstick know, where
they have any of it; translation comes from the clips that have some, or is where their feet take the others.
`python -m md_jax.main --statistics=FILE` uses the result.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from md_jax.mocap.clips import load_clips, moving_clips
from md_jax.mocap.statistics import GENERIC, PoseStatistics, compute_statistics, save_statistics
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program
from tools.standing import on_their_feet


def with_translation(poses: PoseStatistics, moved: PoseStatistics | None) -> PoseStatistics:
    """The statistics with the translation of others, if there are any."""
    if moved is None:
        return poses
    return dataclasses.replace(poses, transl_mean=moved.transl_mean, transl_std=moved.transl_std)


def main() -> None:
    args = parse_simple(
        __doc__, "tools.build_statistics", rest="clips", out=("md_jax/assets/statistics.npz", "the file to write")
    )
    if len(args.clips) > 1:
        stop(f"one folder or file of clips is expected, got {len(args.clips)}: {' '.join(args.clips)}.")
    clips = load_clips(args.clips[0] if args.clips else None)
    actions = [*sorted({clip.action for clip in clips}), GENERIC]
    statistics = [compute_statistics(clips, action) for action in actions]
    if not args.clips:
        moving = moving_clips()
        captured = {clip.action for clip in moving}
        moving += on_their_feet([clip for clip in clips if clip.action not in captured])
        new = sorted({clip.action for clip in moving} - set(actions))
        moved = {action: compute_statistics(moving, action) for action in {c.action for c in moving} | {GENERIC}}
        statistics = [with_translation(each, moved.get(each.action)) for each in statistics]
        statistics[-1:-1] = [moved[action] for action in new]
        actions[-1:-1] = new
        clips = clips + [clip for clip in moving if clip.action in new]
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
