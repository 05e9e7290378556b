"""The options and files of control: what is understood, and the one line for what is not."""

import json

import numpy as np
import pytest

from md_jax.config import Config
from md_jax.control.reading import END, Pin, asked_of
from md_jax.errors import UserError
from md_jax.mocap.motion import Motion, save_motion


@pytest.fixture
def motion(tmp_path):
    pose = np.random.default_rng(0).normal(size=(11, 21, 3)).astype(np.float32) * 0.2
    made = Motion(body_pose=pose, root_orient=np.zeros((11, 3)), transl=np.zeros((11, 3)), fps=10.0)
    save_motion(tmp_path / "other.npz", made)
    return tmp_path / "other.npz", pose


def test_nothing_is_asked():
    assert not asked_of(Config())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("left_hand:0.2,1.1,0.4@0.5-0.8", [Pin(20, (0.2, 1.1, 0.4), 0.5, 0.8)]),
        (" head : 0, 1.6 ,0 ", [Pin(15, (0.0, 1.6, 0.0), 0.0, END)]),
        ("right_wrist:-.1,1,.2@.3", [Pin(21, (-0.1, 1.0, 0.2), 0.3, 0.3)]),
        ("left_foot:0,0,0@0-1;right_foot:1,0,0@1-2", [Pin(10, (0, 0, 0), 0, 1), Pin(11, (1, 0, 0), 1, 2)]),
    ],
)
def test_pins(text, expected):
    assert list(asked_of(Config(pin=text)).pins) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("left_hand", "expected JOINT:X,Y,Z"),
        ("left_hand:1,2", "expected JOINT:X,Y,Z"),
        ("left_hand:1,2,x", "expected JOINT:X,Y,Z"),
        ("left_hand:1,2,nan", "expected JOINT:X,Y,Z"),
        ("left_hand:1,2,3@1-2-3", "expected JOINT:X,Y,Z"),
        ("left_hand:1,2,3@1.2.3", "expected JOINT:X,Y,Z"),
        ("tail:1,2,3", "there is no joint 'tail'; the joints are left_hand, "),
        ("left_hand:1,2,3@2-1", "lies before the first"),
        ("left_hand:1,2000,3", "within 100 of the origin"),
    ],
)
def test_wrong_pins(text, message):
    with pytest.raises(UserError, match=message) as info:
        asked_of(Config(pin=text))
    assert "\n" not in str(info.value)


def test_keyframes_of_json_and_of_a_motion(motion, tmp_path):
    file, pose = motion
    frames = [{"time": 0.4, "pose": file.name, "at": 0.3}, {"time": 0.2, "joints": {"left_hand": [0.2, 1, 0.3]}}]
    (tmp_path / "keys.json").write_text(json.dumps({"keyframes": frames}))
    asked = asked_of(Config(keyframes=str(tmp_path / "keys.json")))
    assert asked.pins == (Pin(20, (0.2, 1.0, 0.3), 0.2, 0.2),)
    assert asked.keys[0].time == 0.4
    np.testing.assert_allclose(asked.keys[0].body_pose, pose[3], atol=1e-5)
    asked = asked_of(Config(keyframes=str(file)))
    np.testing.assert_allclose([key.time for key in asked.keys], np.arange(11) / 10)


def test_start_and_end(motion):
    file, pose = motion
    start, end = asked_of(Config(start=str(file), end=str(file))).keys
    assert (start.time, end.time) == (0.0, END)
    np.testing.assert_allclose([start.body_pose, end.body_pose], [pose[-1], pose[0]], atol=1e-6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected .*keyframes"),
        ({"frames": []}, "expected .*keyframes"),
        ([{"time": 1}], "keyframe 0: expected"),
        ([{"time": 1, "joint": {}}], "keyframe 0: expected"),
        ([{"time": "soon", "joints": {}}], "expected a time in seconds, found 'soon'"),
        ([{"joints": {"head": [0, 0, 0]}}], "expected a time in seconds, found 'None'"),
        ([{"time": 1, "joints": [1]}], "joints must be places by name"),
        ([{"time": 1, "joints": {"head": [0, 0]}}], r"head must be \[x, y, z\]"),
        ([{"time": 1, "joints": {"head": {"x": 0}}}], r"head must be \[x, y, z\]"),
        ([{"time": 1, "pose": 3}], "pose must name a motion file"),
        ([{"time": 1, "pose": "nowhere.npz"}], "nowhere.npz"),
    ],
)
def test_wrong_keyframes(value, message, tmp_path):
    (tmp_path / "keys.json").write_text(json.dumps(value))
    with pytest.raises(UserError, match=message) as info:
        asked_of(Config(keyframes=str(tmp_path / "keys.json")))
    assert "\n" not in str(info.value)


def test_a_pose_after_the_end_of_its_motion(motion, tmp_path):
    (tmp_path / "keys.json").write_text(json.dumps([{"time": 0, "pose": "other.npz", "at": 1.5}]))
    with pytest.raises(UserError, match="is 1 s long"):
        asked_of(Config(keyframes=str(tmp_path / "keys.json")))


@pytest.mark.parametrize("text", ["x,z\n0,0\n1.5,2\n", "0,0\r\n1.5,2\r\n\r\n", "\ufeff0,0\n1.5,2"])
def test_path(text, tmp_path):
    (tmp_path / "way.csv").write_text(text, encoding="utf-8")
    assert asked_of(Config(path=str(tmp_path / "way.csv"), root="full")).path == ((0.0, 0.0), (1.5, 2.0))


@pytest.mark.parametrize("text", ["", "x,z\n", "0,0\n", "0,0\n1,2,3\n", "0,0\n1,far\n", "0,0\n1,inf\n"])
def test_wrong_path(text, tmp_path):
    (tmp_path / "way.csv").write_text(text)
    with pytest.raises(UserError, match="expected at least two lines x,z"):
        asked_of(Config(path=str(tmp_path / "way.csv"), root="full"))


@pytest.mark.parametrize("text", ["0," + "1" * 200_000 + "\n1,1\n", "[" * 200_000])
def test_a_path_that_is_no_csv(text, tmp_path):
    (tmp_path / "way.csv").write_text(text)
    with pytest.raises(UserError, match="it is no CSV file"):
        asked_of(Config(path=str(tmp_path / "way.csv"), root="full"))


def test_a_path_needs_a_root_that_moves(tmp_path):
    (tmp_path / "way.csv").write_text("0,0\n1,1\n")
    with pytest.raises(UserError, match="add --root=full"):
        asked_of(Config(path=str(tmp_path / "way.csv"), root="fixed"))


def test_the_floor_moves_no_place_that_is_asked_for(tmp_path):
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps([{"time": 0.5, "joints": {"head": [0, 1.6, 0]}}]))
    for asked in ({"pin": "left_hand:0,1,0"}, {"keyframes": str(keys)}):
        for ground in ("travel", "inplace"):
            with pytest.raises(UserError, match=f"--ground={ground} moves the body"):
                asked_of(Config(ground=ground, **asked))
        assert asked_of(Config(ground="none", **asked)).pins and asked_of(Config(**asked)).pins
    assert asked_of(Config(ground="travel", avoid=True))
