"""A motion on characters of other names, rest poses, axes and legs, played back by the glTF rules alone."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from md_jax.body.model import JOINT_NAMES
from md_jax.mocap.posing import vertices_of
from md_jax.retarget.names import FINGERS
from tests.retarget.characters import (
    A_POSE,
    BONES,
    MIXAMO_ARMATURE,
    NAMINGS,
    affine,
    directions,
    joints_of,
    moved,
    worst_angle,
    write_character,
)


@pytest.mark.parametrize("convention", NAMINGS)
def test_every_convention_is_found_and_moves_as_the_source(convention, motion, body, tmp_path):
    naming = NAMINGS[convention]
    path = write_character(tmp_path / "a.glb", naming)
    played = moved(path, motion, body)
    assert worst_angle(played, motion, naming)[0] < 0.01
    np.testing.assert_allclose(played.times, np.arange(9) / 30, atol=1e-6)
    assert played.name == "it moves"
    hips = played.place(naming["pelvis"])
    ours = joints_of(motion)[:, 0]
    np.testing.assert_allclose(hips - hips[0] * [1, 0, 1], ours - ours[0] * [1, 0, 1], atol=1e-4)


REST_POSES = {
    "A-pose": {"pose": A_POSE},
    "bones with axes of any orientation": {"axes": 3},
    "both, below Mixamo's armature": {"pose": A_POSE, "axes": 4, "armature": MIXAMO_ARMATURE},
    "in centimetres": {"armature": affine(scale=100.0), "axes": 1},
    "nodes in the middle of a walk": {"standing": {"left_hip": [0.7, 0, 0], "pelvis": [0, 0.5, 0.1],
                                                   "left_shoulder": [0.2, 0.3, 1.2]}, "pose": A_POSE, "axes": 8},
    "the same below Mixamo's armature": {"standing": {"right_knee": [0.9, 0, 0], "spine2": [0, 0.5, 0.1]},
                                         "armature": MIXAMO_ARMATURE, "axes": 9},
    "every bone right below the armature": {"flat": True, "axes": 6, "pose": A_POSE},
    "no bind matrices": {"axes": 2, "pose": A_POSE, "bind": False},
}  # fmt: skip


@pytest.mark.parametrize("case", REST_POSES)
def test_rest_poses_are_corrected(case, motion, body, tmp_path):
    naming = NAMINGS["mixamo"]
    played = moved(write_character(tmp_path / "a.glb", naming, **REST_POSES[case]), motion, body)
    angle, where = worst_angle(played, motion, naming)
    assert angle < 0.02, where
    if REST_POSES[case].get("bind", True):  # without, this mesh is not where its bones are
        np.testing.assert_allclose(played.place(naming["pelvis"]), joints_of(motion)[:, 0], atol=3e-3)


@pytest.mark.parametrize("yaw", [180, 90, 37])
def test_a_character_that_faces_elsewhere_moves_its_own_way(yaw, motion, body, tmp_path):
    turn = Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    naming = NAMINGS["unreal"]
    path = write_character(tmp_path / "a.glb", naming, where=affine(turn, (3, 0, -2)), axes=7)
    played = moved(path, motion, body)
    assert worst_angle(played, motion, naming, turned=turn)[0] < 0.02
    start = joints_of(motion)[0, 0] * [1, 0, 1] @ turn.T + [3, 0, -2]
    np.testing.assert_allclose(played.place("pelvis")[0] * [1, 0, 1], start, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"pose": A_POSE, "axes": 1, "armature": MIXAMO_ARMATURE}])
@pytest.mark.parametrize("legs", [0.7, 1.3])
def test_other_legs_keep_their_feet_on_the_floor(legs, options, motion, body, tmp_path):
    path = write_character(tmp_path / "a.glb", NAMINGS["mixamo"], legs=legs, **options)
    played = moved(path, motion, body)
    naming = NAMINGS["mixamo"]
    assert worst_angle(played, motion, naming)[0] < 0.02
    feet = np.asarray(body.weights)[:, [7, 8, 10, 11]].sum(axis=1) > 0.5
    theirs = played.vertices()[:, feet, 1].min(axis=1)
    ours = vertices_of(body, motion)[:, feet, 1].min(axis=1)
    assert np.ptp(ours) > 0.1, "it leaves the floor"
    np.testing.assert_allclose(theirs, legs * (ours - ours.min()), atol=0.01)
    travelled = np.diff(played.place(naming["pelvis"])[:, [0, 2]], axis=0)
    np.testing.assert_allclose(travelled, legs * np.diff(motion.transl[:, [0, 2]], axis=0), atol=1e-4)


@pytest.mark.parametrize("bones", [1, 2, 3])
def test_a_shorter_spine_carries_the_same_chest(bones, motion, body, tmp_path):
    left_out = ["spine2", "spine1"][: 3 - bones] + ["neck"] * (bones < 3)
    path = write_character(tmp_path / "a.glb", NAMINGS["mixamo"], leave_out=left_out, axes=2)
    played = moved(path, motion, body)
    ours = joints_of(motion)
    chest = [JOINT_NAMES.index(f"{side}_collar") for side in ("left", "right")]
    wanted = directions(ours[:, chest[0]], ours[:, chest[1]])
    found = directions(*(played.place(NAMINGS["mixamo"][f"{side}_collar"]) for side in ("left", "right")))
    np.testing.assert_allclose(found, wanted, atol=2e-4)
    limbs = [pair for pair in BONES if not {"spine1", "spine2", "neck"} & set(pair)]
    assert worst_angle(played, motion, NAMINGS["mixamo"], limbs)[0] < 0.02


def test_toes_collars_and_fingers_may_be_missing(motion, body, tmp_path):
    fingers = [name for name in JOINT_NAMES if any(f in name for f in FINGERS)]
    gone = [*fingers, "left_foot", "right_foot", "left_collar", "right_collar", "jaw", "left_eye", "right_eye"]
    naming = {joint: name for joint, name in NAMINGS["unreal"].items() if joint not in gone}
    played = moved(write_character(tmp_path / "a.glb", naming, leave_out=gone), motion, body)
    assert worst_angle(played, motion, naming)[0] < 0.02


def test_fingers_stay_where_the_motion_has_none(motion, body, tmp_path):
    plain = dataclasses.replace(motion, face_and_hands=np.zeros((9, 33, 3)))
    naming = NAMINGS["mixamo"]
    played = moved(write_character(tmp_path / "a.glb", naming, pose=A_POSE), plain, body)
    moving = {played.document.nodes[node].name for node, _ in played.curves}
    assert moving == {naming[j] for j in naming if not any(f in j for f in FINGERS)}
