"""The Blender steps of docs/open-in.md, in Blender itself: size, place, axis, rate, and a rig of Blender's own.

They need a Blender of any kind: `blender` on the path, or a Python with bpy (`pip install bpy` in an environment of its
own: it wants an older NumPy than ours) that MD_JAX_BLENDER=/path/to/python names.
"""

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from md_jax.body.model import BODY_JOINTS, JOINT_NAMES
from md_jax.mocap.motion import Motion
from md_jax.output.export import write_skeleton, write_skinned
from tests.retarget.characters import BONES, MIXAMO_ARMATURE, NAMINGS, directions, joints_of, moved, write_character

pytestmark = pytest.mark.slow
Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Blender's world seen from a y-up file
FRAMES = 31


def blender():
    """The command that runs a script inside Blender; None where there is none."""
    named = os.environ.get("MD_JAX_BLENDER", "")
    if named:
        return [named] if "python" in Path(named).name else [named, "--background", "--python"]
    if importlib.util.find_spec("bpy"):
        return [sys.executable]
    found = shutil.which("blender")
    return [found, "--background", "--python"] if found else None


def in_blender(tasks, folder):
    command = blender()
    if command is None:
        pytest.skip("no Blender: install it, or name a Python that has bpy by MD_JAX_BLENDER")
    listed = folder / "tasks.json"
    listed.write_text(json.dumps(tasks))
    script = [str(Path(__file__).with_name("blender.py")), *(["--"] if len(command) > 1 else []), str(listed)]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*command, *script], capture_output=True, text=True, timeout=600, env=outside)
    assert listed.with_name("tasks.json.out").exists(), done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(listed.with_name("tasks.json.out").read_text())


@pytest.fixture(scope="module")
def clip(motion):
    """A second at 30 frames a second, that walks and turns."""
    t = np.linspace(0, 2 * np.pi, FRAMES)[:, None, None]
    rng = np.random.default_rng(2)
    swing = 0.4 * np.sin(t + rng.uniform(0, 6, (21, 1))) * rng.normal(0, 1, (21, 3))
    path = np.concatenate([0.2 * t[:, 0], 1.3 + 0 * t[:, 0], 0.3 * t[:, 0]], axis=1)
    return Motion(swing, 0.5 * np.sin(t[:, 0]) * [0.2, 1.0, 0.1], path, 30.0, prompt="it walks")


@pytest.fixture(scope="module")
def opened(clip, motion, body, tmp_path_factory):
    """What Blender says of every file, from one start of it."""
    folder = tmp_path_factory.mktemp("blender")
    write_skeleton(folder / "motion.bvh", clip, body)
    write_skinned(folder / "motion.glb", clip, body)
    naming = NAMINGS["mixamo"]
    figure = write_character(folder / "hero.glb", naming, armature=MIXAMO_ARMATURE, axes=3, legs=1.3)
    moved(figure, clip, body)
    as_the_page_says = {"update_scene_fps": True, "update_scene_duration": True}
    return in_blender(
        [
            {"do": "import", "file": str(folder / "motion.bvh"), "options": as_the_page_says},
            {"do": "import", "file": str(folder / "motion.glb"), "fps": 30},
            {"do": "import", "file": str(folder / "out.glb"), "fps": 30, "action": "it walks"},
            {"do": "metarig", "file": str(folder / "metarig.glb")},
        ],
        folder,
    ), folder


def heads(result, names):
    return np.array([[frame[name] for name in names] for frame in result["heads"]])


@pytest.mark.parametrize("file", ["motion.bvh", "motion.glb"])
def test_a_motion_opens_upright_in_metres_and_at_its_rate(file, opened, clip):
    result = opened[0][["motion.bvh", "motion.glb"].index(file)]
    first, last = result["frames"]
    assert result["fps"] == pytest.approx(30, abs=1e-3) and last - first == FRAMES - 1
    ours = joints_of(clip)[:, : len(BODY_JOINTS)] @ Z_UP.T
    np.testing.assert_allclose(heads(result, BODY_JOINTS), ours, atol=2e-4)


def test_a_character_opens_with_the_motion_and_its_feet_on_the_floor(opened, clip):
    result, naming = opened[0][2], NAMINGS["mixamo"]
    assert "it walks" in result["actions"]
    found, ours = heads(result, naming.values()), joints_of(clip) @ Z_UP.T
    order = list(naming)
    for a, b in BONES:
        if a in naming and b in naming and not a[-1].isdigit():
            wanted = directions(ours[:, JOINT_NAMES.index(b)], ours[:, JOINT_NAMES.index(a)])
            np.testing.assert_allclose(
                directions(found[:, order.index(b)], found[:, order.index(a)]), wanted, atol=2e-3
            )
    assert abs(min(result["lowest"])) < 0.01


def test_rigify_s_own_skeleton_is_found_and_moves_as_the_source(opened, motion, body):
    """Not one of ours: bones, axes and rest pose as Blender ships and exports them."""
    folder = opened[1]
    played = moved(folder / "metarig.glb", dataclasses.replace(motion, prompt="rig"), body)
    assert "thigh.L" in opened[0][3]["bones"]
    ours = joints_of(motion)
    rig = {
        "hip": "thigh",
        "knee": "shin",
        "ankle": "foot",
        "shoulder": "upper_arm",
        "elbow": "forearm",
        "wrist": "hand",
    }
    for side in ("left", "right"):
        for a, b in (("hip", "knee"), ("knee", "ankle"), ("shoulder", "elbow"), ("elbow", "wrist")):
            names = [f"{rig[joint]}.{side[0].upper()}" for joint in (b, a)]
            wanted = directions(*(ours[:, JOINT_NAMES.index(f"{side}_{joint}")] for joint in (b, a)))
            np.testing.assert_allclose(directions(*map(played.place, names)), wanted, atol=2e-3)
    assert abs(played.vertices()[..., 1].min()) < 0.05, "its feet are points at the ends of bones"
