"""motion.npz in aitviewer, by its own reader of AMASS files with its default arguments.

It needs a Python with aitviewer in an environment of its own, named by MD_JAX_AITVIEWER=/path/to/python.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from md_jax.body.model import BODY_JOINTS, FREE_BODY, JOINT_NAMES
from md_jax.mocap.motion import Motion, load_motion, save_motion
from md_jax.mocap.posing import rest_of, vertices_of

pytestmark = pytest.mark.slow
FRAMES, FPS = 31, 30.0


@pytest.fixture(scope="module")
def python():
    named = os.environ.get("MD_JAX_AITVIEWER", "")
    if not named and importlib.util.find_spec("aitviewer") is None:
        pytest.skip(
            "no aitviewer: pip install it in an environment of its own, and name its Python by MD_JAX_AITVIEWER"
        )
    return named or sys.executable


def read(python, path):
    """What aitviewer makes of a motion on the free body, which it takes for its neutral SMPL-X."""
    models = path.parent / "models" / "smplx"
    models.mkdir(parents=True, exist_ok=True)
    shutil.copy(FREE_BODY, models / "SMPLX_NEUTRAL.npz")
    out = path.with_name("out.npz")
    command = [python, str(Path(__file__).with_name("aitviewer_reads.py")), str(models.parent), str(path), str(out)]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=outside, cwd=path.parent)
    assert out.exists(), done.stdout[-2000:] + done.stderr[-2000:]
    with np.load(out) as data:
        return dict(data)


@pytest.mark.parametrize("hands", ["flat", "relaxed"])
def test_every_vertex_is_where_ours_is(hands, python, motion, body, tmp_path):
    """It reads the columns of SMPL-H, jaw and eyes as the first fingers: relaxed hands come out bent otherwise."""
    t = np.linspace(0, 2 * np.pi, FRAMES)[:, None]
    swing = 0.3 * np.sin(t[..., None] + np.random.default_rng(2).uniform(0, 6, (21, 3)))
    path = np.concatenate([0.2 * t, 0 * t, 0.3 * t], axis=1)
    rest = np.zeros((FRAMES, 33, 3)) if hands == "flat" else np.repeat(motion.face_and_hands[:1], FRAMES, axis=0)
    moves = Motion(swing, 0.4 * np.sin(t) * [0.2, 1.0, 0.1], path, FPS, face_and_hands=rest)
    lowest = vertices_of(body, moves)[..., 1].min()
    moves = Motion(swing, moves.root_orient, path - [0, lowest, 0], FPS, face_and_hands=rest)
    save_motion(tmp_path / "motion.npz", moves, up="z", pelvis=rest_of(body, moves)[1][0])
    ours = vertices_of(body, load_motion(tmp_path / "motion.npz"))
    theirs = read(python, tmp_path / "motion.npz")
    off = np.linalg.norm(theirs["vertices"] - ours, axis=-1).max(axis=0)
    of_the_body = np.asarray(body.weights)[:, len(BODY_JOINTS) :].sum(axis=1) == 0
    assert off[of_the_body if hands == "relaxed" else slice(None)].max() < 1e-4
    assert abs(theirs["vertices"][..., 1].min()) < 1e-3
    assert len(theirs["vertices"]) == FRAMES
    head, ankle = (theirs["joints"][:, JOINT_NAMES.index(name), 1] for name in ("head", "left_ankle"))
    assert (head > ankle + 1).all()
    assert theirs["frames_at_60"] == pytest.approx(2 * FRAMES, abs=1)
