"""Pack a folder of motion capture into the small file that ships.

    python -m tools.pack_mocap MOCAP_FOLDER [--moving] [--out=md_jax/assets/mocap.npz]

The folder holds <action>/<clip>.npz as `md_jax.mocap.clips.load_clips` reads it. Only clips whose names begin with
cmu_ or amp_ are packed: they come from the CMU Graphics Lab motion capture database, which may be
redistributed. Recordings that are there twice are packed once, and frames are dropped where the root is
plainly wrong. With --moving, those clips are packed that have translation (md_jax/assets/mocap_moving.npz), else those
without: the embedded prior and the yardstick were made from the latter, and know nothing of the former.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.spatial.transform import Rotation

from md_jax.mocap.clips import Clip, load_clips, pack_clips, unpack_clips
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program

# The same recording under two names (knee and elbow angles correlate at .985 or more, frame by frame).
DUPLICATES = {
    "cmu_train_basketball_1": "cmu_006_02",
    "cmu_train_basketball_2": "cmu_006_03",
    "cmu_train_basketball_4": "cmu_006_05",
    "cmu_train_basketball_5": "cmu_006_06",
    "cmu_train_walking_1": "cmu_02_01",
}
# Sentences could not tell these apart: a punch is called boxing, too, and so is getting up standing up.
RELABELLED = {"boxing": "sparring", "standing_up": "rising_from_seat"}
SAME_RECORDING = {"cmu_001_01": "amp_hop"}  # under another name among the clips without translation
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


def main() -> None:
    args = parse_simple(
        __doc__, "tools.pack_mocap", rest="mocap_folder",
        moving=(False, "pack the clips with translation, instead of those without"),
        out=("md_jax/assets/mocap.npz", "the file to write"),
    )  # fmt: skip
    if len(args.mocap_folder) != 1:
        stop(f"one folder of motion capture is expected, got {len(args.mocap_folder)}.")
    every = [c for c in load_clips(args.mocap_folder[0]) if c.name.startswith(("cmu_", "amp_"))]
    every = [
        replace(
            c,
            action=RELABELLED.get(c.action, c.action),
            recording=SAME_RECORDING.get(c.recording, c.recording),
        )
        for c in every
        if (c.transl is not None) == args.moving
    ]
    clips = [piece for clip in every if clip.name not in DUPLICATES for piece in clean(clip)]
    packed: dict = pack_clips(clips)
    np.savez_compressed(args.out, **packed)

    back = unpack_clips(packed)
    error = max(np.abs(a.body_pose - b.body_pose).max() for a, b in zip(clips, back, strict=True))
    turn = max(
        (Rotation.from_rotvec(a.root_orient) * Rotation.from_rotvec(b.root_orient).inv()).magnitude().max()
        for a, b in zip(clips, back, strict=True)
    )
    print(f"{len(every)} clips in, {len(clips)} pieces out; largest error {error:.1e} rad a component,", end=" ")
    print(f"{turn:.1e} rad of the root's rotation.")
    for action in sorted({clip.action for clip in every}):
        before = sum(len(c.body_pose) / c.fps for c in every if c.action == action)
        kept = [c for c in clips if c.action == action]
        after = sum(len(c.body_pose) / c.fps for c in kept)
        print(f"{action:20s} {before:6.1f} s -> {after:6.1f} s, {len({c.recording for c in kept})} recordings")


if __name__ == "__main__":
    run_program(main)
