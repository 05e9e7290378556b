"""What is asked beside the sentence, and what it costs: python -m benchmarks.control [--seeds=2].

The same sentences and seeds without control, with a pinned hand, with a keyframe taken from motion capture, with limbs
kept apart, and along a path: how far the motion's file is from what was asked, and what the yardstick says of it.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from benchmarks.motion import judge
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

HAND, PLACE, FIRST, LAST = "left_wrist", (0.2, 1.1, 0.4), 0.5, 0.8
WAY = np.array([(0.0, 0.0), (0.2, 0.5), (0.0, 1.1)])  # x and z, metres
KEY_TIME, KEY_AT = 0.5, 0.5  # seconds of the motion, and of the clip


def main() -> None:
    """Parse, run, judge, print."""
    options = parse_simple(
        __doc__,
        "benchmarks.control",
        actions=(["walking", "running"], "what the motions show"),
        seeds=(2, "motions of each"),
        out=("", "a JSON file of the figures"),
    )
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from md_jax.body import lbs
    from md_jax.body.model import JOINT_NAMES
    from md_jax.control.reading import Key
    from md_jax.evaluate import measures
    from md_jax.evaluate.yardstick import load_yardstick
    from md_jax.library import make_motions
    from md_jax.mocap.motion import Motion, save_motion
    from md_jax.prompts.vocabulary import prompt_of_action

    yardstick = load_yardstick()
    clip = next(clip for clip in yardstick.split.held_out if clip.action == options.actions[0])
    baked = measures.free_body()[1]
    sentences = [prompt_of_action(action) for action in options.actions]
    names = [action for action in options.actions for _ in range(options.seeds)]
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "clip.npz")
        save_motion(
            source, Motion(clip.body_pose, np.zeros_like(clip.root_orient), np.zeros_like(clip.root_orient), clip.fps)
        )
        keys = Path(folder, "keys.json")
        keys.write_text(json.dumps([{"time": KEY_TIME, "pose": source.name, "at": KEY_AT}]))
        way = Path(folder, "way.csv")
        way.write_text("\n".join(f"{x},{z}" for x, z in WAY))
        place = ",".join(map(str, PLACE))
        cases: dict[str, dict[str, Any]] = {
            "nothing asked": {},
            "a pinned hand": {"pin": f"{HAND}:{place}@{FIRST}-{LAST}"},
            "a keyframe": {"keyframes": str(keys)},
            "limbs apart": {"avoid": True},
            "a path": {"path": str(way)},
        }
        key = Key(KEY_TIME, clip.body_pose[round(KEY_AT * clip.fps)])
        for name, asked in cases.items():
            given: dict[str, Any] = {"num_motions": options.seeds, "action": "generic", "preview_every": 0, **asked}
            motions = make_motions(sentences, **given)
            pinned, posed, deep, passed = [], [], [], []
            for motion in motions:
                joints = np.asarray(lbs.joints_of(baked, motion.body_pose, motion.root_orient, motion.transl))
                at = np.linspace(0, len(joints) - 1, len(WAY)).round().astype(int)
                gone = joints[at, 0][:, [0, 2]] - joints[0, 0, [0, 2]]
                passed.append(100 * np.linalg.norm(gone - WAY, axis=-1).max())
                frames = range(round(FIRST * motion.fps), round(LAST * motion.fps) + 1)
                apart = joints[list(frames), JOINT_NAMES.index(HAND)] - PLACE
                pinned.append(100 * np.linalg.norm(apart, axis=-1).max())
                own = measures.joints(motion.body_pose[round(KEY_TIME * motion.fps)])
                posed.append(100 * np.linalg.norm(own - measures.joints(key.body_pose), axis=-1).mean())
                deep.append(100 * measures.self_penetration(measures.joints(motion.body_pose)).mean())
            said = judge(yardstick, [(f"{n}/{a}", a, m) for n, (a, m) in enumerate(zip(names, motions, strict=True))])
            results[name] = {
                "hand_cm": float(max(pinned)),
                "keyframe_cm": float(np.mean(posed)),
                "path_cm": float(max(passed)),
                "penetration_cm": float(np.mean(deep)),
                "judged": {key: value for key, value in said.items() if isinstance(value, int | float)},
            }
            print(name, json.dumps(results[name]), flush=True)
    if options.out:
        timing.write_json(options.out, results)


if __name__ == "__main__":
    run_program(main)
