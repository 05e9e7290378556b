"""Pack a folder of motion capture into the small file that ships.

    python -m tools.pack_mocap MOCAP_FOLDER [--out=md_jax/assets/mocap.npz]

The folder holds <action>/<clip>.npz as `md_jax.clips.load_clips` reads it. Only clips whose names begin with
cmu_ or amp_ are packed: they come from the CMU Graphics Lab motion capture database, which may be
redistributed. Recordings that are there twice are packed once or share their name (a split keeps them together),
and frames are dropped where the root is plainly wrong. Some recordings are marked as held out: nothing learns from
them, neither a prior nor a judge.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from md_jax.clips import Clip, load_clips, pack_clips, recording_of, unpack_clips

# The same recording under two names, in two conversions that agree: packed once.
DUPLICATES = {
    "cmu_train_basketball_1": "cmu_006_02",
    "cmu_train_basketball_2": "cmu_006_03",
    "cmu_train_basketball_4": "cmu_006_05",
    "cmu_train_basketball_5": "cmu_006_06",
    "cmu_train_walking_1": "cmu_02_01",
}
# Clips that are trials of the database under other names: what the trial is called.
RECORDINGS = {
    "cmu_train_walking_2": "cmu_005_01",
    "cmu_train_walking_3": "cmu_006_01",
    "cmu_train_walking_4": "cmu_007_01",
    "cmu_train_walking_5": "cmu_007_02",
    "cmu_train_directing_traffic_1": "cmu_013_26",
    "cmu_train_jumping_1": "cmu_013_11",
    "cmu_train_jumping_3": "cmu_013_19",
    "cmu_train_jumping_4": "cmu_013_32",
    "cmu_train_jumping_5": "cmu_013_39",
    "cmu_test_washwindow_1": "cmu_014_12",
    "amp_hop": "cmu_001_01",
    **{f"cmu_train_soccer_{i}": f"cmu_010_0{trial}" for i, trial in zip(range(1, 6), (1, 2, 3, 5, 6), strict=True)},
    **{f"cmu_train_extrawalking_{i}": trial for i, trial in zip(range(13, 22), (
        "cmu_008_02", "cmu_008_03", "cmu_008_08", "cmu_008_09", "cmu_008_10", "cmu_010_04", "cmu_012_01", "cmu_012_02",
        "cmu_012_03"), strict=True)},
}  # fmt: skip
RELABELLED = {"cmu_006_01": "walking"}  # it lies in basketball
# What nothing learns from. The first two lines' recordings were held out of the priors before this file had the others.
HELD_OUT = frozenset({
    "cmu_006_03", "cmu_006_06", "cmu_006_14", "cmu_train_basketball_signal_4", "cmu_005_03", "cmu_005_05",
    "cmu_005_06", "cmu_005_15", "cmu_005_17", "cmu_013_32", "cmu_013_39", "cmu_02_03", "cmu_010_02", "cmu_007_06",
    "cmu_007_09", "cmu_02_02", "cmu_008_03", "cmu_008_10", "cmu_012_03", "cmu_train_extrawalking_28",
    "cmu_train_extrawalking_34", "cmu_train_extrawalking_35", "cmu_train_extrawalking_37", "cmu_train_extrawalking_51",
    "cmu_008_05", "cmu_008_11", "cmu_009_03", "cmu_009_09", "cmu_013_42", "cmu_013_30", "cmu_014_08", "cmu_014_17",
    "cmu_014_05", "cmu_013_38", "cmu_014_22", "cmu_014_29", "cmu_014_35",
})  # fmt: skip
MAY_TIP_OVER = {
    "backflip",
    "cartwheel",
    "dancing",
    "stretching",
}  # elsewhere a pelvis tilted by more than 45° is a capture error
MAX_ROOT_STEP = 0.5  # radians between frames at 30 a second; more is a flip of the solver
MARGIN, SHORTEST = 2, 15  # frames dropped around a bad one; frames of the shortest piece kept


def clean(clip: Clip) -> list[Clip]:
    """The pieces of a clip that are left when bad frames are dropped."""
    root = Rotation.from_rotvec(clip.root_orient)
    bad = np.zeros(len(clip.root_orient), bool)
    if clip.action not in MAY_TIP_OVER:
        bad |= root.as_matrix()[:, 1, 1] < np.cos(np.pi / 4)
    jumps = np.flatnonzero((root[1:] * root[:-1].inv()).magnitude() > MAX_ROOT_STEP)
    bad[jumps] = bad[jumps + 1] = True
    bad = np.convolve(bad, np.ones(2 * MARGIN + 1), mode="same") > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[True], bad, [True]]).astype(int)))
    spans = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a >= SHORTEST]
    if len(spans) == 1 and spans[0] == (0, len(bad)):
        return [clip]
    return [
        replace(
            clip,
            name=f"{clip.name}_part{i}",
            body_pose=clip.body_pose[a:b],
            root_orient=clip.root_orient[a:b],
            transl=None if clip.transl is None else clip.transl[a:b],
        )
        for i, (a, b) in enumerate(spans)
    ]


def named(clip: Clip) -> Clip:
    """The clip with its recording's true name, its action put right and its side of the split."""
    recording = RECORDINGS.get(recording_of(clip.name), RECORDINGS.get(clip.name, clip.recording))
    action = RELABELLED.get(clip.name, clip.action)
    return replace(clip, recording=recording, action=action, held_out=recording in HELD_OUT)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--out", default="md_jax/assets/mocap.npz")
    args = parser.parse_args()
    every = [named(c) for c in load_clips(args.folder) if c.name.startswith(("cmu_", "amp_"))]
    every.sort(key=lambda clip: (clip.action, clip.name))
    if unknown := HELD_OUT - {clip.recording for clip in every}:
        raise SystemExit(f"{args.folder} has no clips of the recordings {', '.join(sorted(unknown))}.")
    clips = [piece for clip in every if clip.name not in DUPLICATES for piece in clean(clip)]
    packed: dict = pack_clips(clips)
    np.savez_compressed(args.out, **packed)

    back = unpack_clips(packed)
    error = max(np.abs(a.body_pose - b.body_pose).max() for a, b in zip(clips, back, strict=True))
    turn = max(
        (Rotation.from_rotvec(a.root_orient) * Rotation.from_rotvec(b.root_orient).inv()).magnitude().max()
        for a, b in zip(clips, back, strict=True)
    )
    moved = [(a.transl, b.transl) for a, b in zip(clips, back, strict=True) if a.transl is not None]
    shift = max((np.abs(a - b).max() for a, b in moved), default=0.0)
    print(f"{len(every)} clips in, {len(clips)} pieces out; largest error {error:.1e} rad a component,", end=" ")
    print(f"{turn:.1e} rad of the root's rotation, {shift:.1e} m of {len(moved)} clips that move.")
    for action in sorted({clip.action for clip in every}):
        before = sum(len(c.body_pose) / c.fps for c in every if c.action == action)
        kept = [c for c in clips if c.action == action]
        after = sum(len(c.body_pose) / c.fps for c in kept)
        names, aside = {c.recording for c in kept}, {c.recording for c in kept if c.held_out}
        print(f"{action:26s} {before:6.1f} s -> {after:6.1f} s, {len(names)} recordings, {len(aside)} held out")


if __name__ == "__main__":
    main()
