"""BVH, read back by a parser that knows only the format, against skinning's own joints and scipy."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from md_jax.body import lbs
from md_jax.body.model import BODY_JOINTS, load_body
from md_jax.mocap.motion import Motion
from md_jax.output.bvh import euler_zxy, write_bvh
from md_jax.output.export import write_skeleton


def _parse(text):
    """(names, parents, offsets, channels of each joint, frame time, values (F, C)); end sites are named None."""
    tokens = text.split()
    names, parents, offsets, channels, stack = [], [], [], [], []
    i = tokens.index("HIERARCHY") + 1
    while tokens[i] != "MOTION":
        if tokens[i] in ("ROOT", "JOINT", "End"):
            names.append(None if tokens[i] == "End" else tokens[i + 1])
            parents.append(stack[-1] if stack else -1)
            channels.append([])
            i += 2
        elif tokens[i] == "{":
            stack.append(len(names) - 1)
            i += 1
        elif tokens[i] == "}":
            stack.pop()
            i += 1
        elif tokens[i] == "OFFSET":
            offsets.append([float(x) for x in tokens[i + 1 : i + 4]])
            i += 4
        elif tokens[i] == "CHANNELS":
            count = int(tokens[i + 1])
            channels[-1] = tokens[i + 2 : i + 2 + count]
            i += 2 + count
        else:
            raise AssertionError(f"unexpected {tokens[i]}")
    assert not stack
    assert tokens[i + 1] == "Frames:" and tokens[i + 3 : i + 5] == ["Frame", "Time:"]
    frames, time = int(tokens[i + 2]), float(tokens[i + 5])
    return names, parents, np.array(offsets), channels, time, np.array(tokens[i + 6 :], float).reshape(frames, -1)


def _positions(names, parents, offsets, channels, values):
    """World positions in metres; rotations apply in the order of the channels, left to right."""
    out = np.zeros((len(values), len(names), 3))
    for f, row in enumerate(values):
        turns, at = [], 0
        for j, parent in enumerate(parents):
            place, turn = offsets[j].copy(), Rotation.identity()
            for channel in channels[j]:
                axis = "XYZ".index(channel[0])
                if channel.endswith("position"):
                    place[axis] += row[at]
                else:
                    turn = turn * Rotation.from_euler("xyz"[axis], row[at], degrees=True)
                at += 1
            if parent >= 0:
                place, turn = out[f, parent] + turns[parent].apply(place), turns[parent] * turn
            out[f, j] = place
            turns.append(turn)
        assert at == len(row)
    return out


def _motion(frames=6, seed=0):
    rng = np.random.default_rng(seed)
    return Motion(
        body_pose=rng.normal(0, 0.7, (frames, 21, 3)),
        root_orient=rng.normal(0, 1.5, (frames, 3)),
        transl=rng.normal(0, 1.0, (frames, 3)),
        fps=30.0,
        betas=rng.normal(0, 1, 10),
    )


def test_joints_read_back_are_where_skinning_puts_them(tmp_path):
    body, motion = load_body(), _motion()
    write_skeleton(tmp_path / "a.bvh", motion, body)
    names, parents, offsets, channels, time, values = _parse((tmp_path / "a.bvh").read_text())
    assert {n for n in names if n} == set(BODY_JOINTS) and names.count(None) == 5
    assert channels[0] == ["Xposition", "Yposition", "Zposition", "Zrotation", "Xrotation", "Yrotation"]
    assert all(c == ["Zrotation", "Xrotation", "Yrotation"] for c, n in zip(channels[1:], names[1:], strict=True) if n)
    assert time == pytest.approx(1 / 30, abs=1e-7) and len(values) == 6

    found = _positions(names, parents, offsets, channels, values)
    _, wanted = lbs.forward(
        body,
        betas=motion.betas,
        global_orient=motion.root_orient,
        body_pose=motion.body_pose,
        transl=motion.transl,
    )
    for j, name in enumerate(BODY_JOINTS):
        np.testing.assert_allclose(found[:, names.index(name)], np.asarray(wanted)[:, j], atol=2e-5)


def test_euler_angles_give_back_the_rotation_and_move_smoothly():
    rng = np.random.default_rng(1)
    steps = Rotation.from_rotvec(rng.normal(0, 0.15, (200, 3)))
    turns = [Rotation.identity()]
    for step in steps:
        turns.append(turns[-1] * step)
    matrices = Rotation.concatenate(turns).as_matrix()
    angles = euler_zxy(matrices)
    back = Rotation.from_euler("ZXY", angles).as_matrix()
    np.testing.assert_allclose(back, matrices, atol=1e-9)
    naive = Rotation.from_matrix(matrices).as_euler("ZXY")
    assert np.abs(np.diff(angles, axis=0)).max() < np.abs(np.diff(naive, axis=0)).max()
    assert np.abs(angles).max() > np.pi, "it walked far enough to need whole turns"


@pytest.mark.parametrize("noise", [0.0, 1e-7, 1e-4])
@pytest.mark.parametrize("x", [90.0, -90.0])
def test_euler_angles_at_gimbal_lock(x, noise):
    rng = np.random.default_rng(2)
    matrices = Rotation.from_euler("ZXY", [[a, x, b] for a, b in rng.uniform(-180, 180, (50, 2))], degrees=True)
    matrices = (matrices * Rotation.from_rotvec(rng.normal(0, noise, (50, 3)))).as_matrix()
    back = Rotation.from_euler("ZXY", euler_zxy(matrices)).as_matrix()
    np.testing.assert_allclose(back, matrices, atol=1e-7)


def test_arrays_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"rotations \(F, 22, 3, 3\)"):
        write_bvh(
            tmp_path / "a.bvh",
            joints=np.zeros((55, 3)),
            parents=load_body().parents,
            rotations=np.zeros((4, 55, 3, 3)),
            transl=np.zeros((4, 3)),
            fps=30.0,
        )
    assert not list(tmp_path.iterdir())
