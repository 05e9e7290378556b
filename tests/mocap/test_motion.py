"""Motions: round trips, resampling against scipy's slerp, other people's files, and bad input."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.errors import UserError
from md_jax.mocap.motion import Motion, load_motion, resample, save_motion


def random_motion(frames=10, fps=10.0, seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    return Motion(
        body_pose=size * rng.normal(size=(frames, 21, 3)),
        root_orient=0.2 * rng.normal(size=(frames, 3)),
        transl=rng.normal(size=(frames, 3)),
        fps=fps,
        face_and_hands=0.3 * rng.normal(size=(frames, 33, 3)),
        betas=rng.normal(size=10),
        gender="female",
        prompt="a person is walking, é",
    )


def assert_same(a, b, **tolerance):
    for name in ("body_pose", "root_orient", "transl", "face_and_hands", "betas"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), err_msg=name, **tolerance)
    assert (a.fps, a.gender, a.prompt) == (b.fps, b.gender, b.prompt)


def test_round_trip_keeps_every_number(tmp_path):
    motion = random_motion(frames=7, fps=30.0)
    save_motion(tmp_path / "new" / "motion.npz", motion)
    assert_same(load_motion(tmp_path / "new" / "motion.npz"), motion, atol=0)
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["motion.npz"]  # no temporary file stays


def test_file_has_the_amass_keys(tmp_path):
    save_motion(tmp_path / "m.npz", random_motion(frames=28, fps=30.0))
    with np.load(tmp_path / "m.npz", allow_pickle=False) as data:
        assert data["poses"].shape == (28, 165) and data["trans"].shape == (28, 3)
        shapes = {"root_orient": 3, "pose_body": 63, "pose_jaw": 3, "pose_eye": 6, "pose_hand": 90}
        assert {key: data[key].shape for key in shapes} == {key: (28, width) for key, width in shapes.items()}
        np.testing.assert_array_equal(np.concatenate([data[key] for key in shapes], axis=1), data["poses"])
        assert (str(data["surface_model_type"]), str(data["gender"]), str(data["up_axis"])) == ("smplx", "female", "y")
        assert float(data["mocap_frame_rate"]) == float(data["mocap_framerate"]) == 30
        assert float(data["mocap_time_length"]) == pytest.approx(0.9)
        assert data["betas"].shape == (10,) and int(data["num_betas"]) == 10


def test_z_up_files_hold_the_same_vertices_turned(tmp_path):
    """Posed by the full body model, z up: (x, y, z) of the y-up motion lies at (x, −z, y). And back again."""
    body = load_body()
    motion = dataclasses.replace(random_motion(frames=4, fps=30.0), betas=np.zeros(16))
    pelvis = np.asarray(body.J_regressor[0] @ body.v_template)
    assert np.abs(pelvis).max() > 0.1, "a pelvis at the origin would not show a forgotten offset"
    save_motion(tmp_path / "z.npz", motion, up="z", pelvis=pelvis)
    with np.load(tmp_path / "z.npz") as data:
        assert str(data["up_axis"]) == "z"
        poses = {"global_orient": data["root_orient"], "body_pose": data["pose_body"], "transl": data["trans"]}
        in_file, _ = lbs.forward(body, **poses)
    ours, _ = lbs.forward(body, global_orient=motion.root_orient, body_pose=motion.body_pose, transl=motion.transl)
    x, y, z = np.moveaxis(np.asarray(ours), -1, 0)
    np.testing.assert_allclose(in_file, np.stack([x, -z, y], axis=-1), atol=2e-5)
    again = load_motion(tmp_path / "z.npz")
    assert_same(again, motion, atol=2e-6)
    assert_same(load_motion(tmp_path / "z.npz", up="z"), motion, atol=2e-6)


def test_files_of_the_release_before_are_read_as_they_were(tmp_path):
    """y up, no `pelvis`, no `mocap_framerate`: nothing is turned or moved."""
    motion = random_motion(frames=4, fps=30.0)
    np.savez(
        tmp_path / "old.npz", poses=motion.poses.reshape(4, 165), trans=motion.transl, betas=motion.betas,
        gender=motion.gender, mocap_frame_rate=30.0, up_axis="y", prompt=motion.prompt,
    )  # fmt: skip
    assert_same(load_motion(tmp_path / "old.npz"), motion, atol=0)


def test_a_pelvis_of_another_shape_is_refused(tmp_path):
    save_motion(tmp_path / "m.npz", random_motion(frames=2, fps=30.0), up="z")
    data = dict(np.load(tmp_path / "m.npz"))
    np.savez(tmp_path / "bad.npz", **{**data, "pelvis": np.zeros(2)})
    with pytest.raises(UserError, match=r"pelvis as numbers of shape \(3\)"):
        load_motion(tmp_path / "bad.npz")


@pytest.mark.parametrize("fps", [30.0, 24.0, 7.0])
def test_resampling_is_slerp(fps):
    motion = random_motion(frames=10, fps=10.0)
    new = resample(motion, fps)
    times = np.arange(len(new.body_pose)) / fps
    assert times[-1] <= 0.9 + 1e-6 < times[-1] + 1 / fps + 1e-6
    for j in (0, 7, 21, 40):
        oracle = Slerp(np.arange(10) / 10, Rotation.from_rotvec(motion.poses[:, j]))(np.minimum(times, 0.9))
        error = (Rotation.from_rotvec(new.poses[:, j]) * oracle.inv()).magnitude()
        assert error.max() < 1e-5
    for axis in range(3):
        oracle = np.interp(times, np.arange(10) / 10, motion.transl[:, axis])
        np.testing.assert_allclose(new.transl[:, axis], oracle, atol=1e-5)


def test_turns_beyond_half_a_circle_stay_continuous():
    angle = np.linspace(2.0, 7.0, 10)
    body = np.zeros((10, 21, 3))
    body[:, 4, 1] = angle
    new = resample(Motion(body, np.zeros((10, 3)), np.zeros((10, 3)), fps=10), 40)
    np.testing.assert_allclose(new.body_pose[:, 4, 1], np.linspace(2.0, 7.0, 37), atol=1e-5)


def test_reads_smplh_amass(tmp_path):
    poses = 0.1 * np.random.default_rng(0).normal(size=(5, 156))
    np.savez(
        tmp_path / "poses.npz", poses=poses, trans=np.ones((5, 3)), betas=np.zeros(16), gender=b"male",
        mocap_framerate=120.0, dmpls=np.zeros((5, 8)), extra=np.array([{"pickled": 1}], dtype=object),
    )  # fmt: skip
    motion = load_motion(tmp_path / "poses.npz", up="y")
    assert motion.fps == 120 and motion.gender == "male"
    np.testing.assert_allclose(motion.poses[:, :22].reshape(5, 66), poses[:, :66], atol=1e-7)
    np.testing.assert_allclose(motion.face_and_hands[:, 3:].reshape(5, 90), poses[:, 66:], atol=1e-7)
    assert not motion.face_and_hands[:, :3].any()


def test_z_up_files_are_turned_to_y_up(tmp_path):
    """A person walking along the file's −y with z up walks along our +z with y up."""
    upright_in_z_up = Rotation.from_euler("x", 90, degrees=True)
    root = (upright_in_z_up * Rotation.from_euler("y", [[0], [20], [40]], degrees=True)).as_rotvec()
    trans = np.array([[0, 0, 1.0], [0, -1, 1], [0, -2, 1]])
    np.savez(tmp_path / "z.npz", root_orient=root, pose_body=np.zeros((3, 63)), trans=trans, mocap_frame_rate=30.0)
    motion = load_motion(tmp_path / "z.npz")
    np.testing.assert_allclose(
        motion.root_orient, Rotation.from_euler("y", [[0], [20], [40]], degrees=True).as_rotvec(), atol=1e-6
    )
    np.testing.assert_allclose(motion.transl, [[0, 1, 0], [0, 1, 1], [0, 1, 2]], atol=1e-6)
    unchanged = load_motion(tmp_path / "z.npz", up="y")
    np.testing.assert_allclose(unchanged.root_orient, root, atol=1e-6)


def test_defaults_are_zeros():
    motion = Motion(np.zeros((2, 21, 3)), np.zeros((2, 3)), np.zeros((2, 3)), fps=30)
    assert motion.poses.shape == (2, 55, 3) and motion.betas.shape == (16,) and motion.poses.dtype == np.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body_pose": np.zeros((3, 63))}, r"body_pose has the shape \(frames, 21, 3\).*\(3, 63\)"),
        ({"root_orient": np.zeros((4, 3))}, r"root_orient .*\(4, 3\) beside 3 frames"),
        ({"transl": np.full((3, 3), np.nan)}, "transl must be finite"),
        ({"fps": 0}, "positive number"),
        ({"fps": float("nan")}, "positive number"),
        ({"body_pose": np.zeros((0, 21, 3)), "root_orient": np.zeros((0, 3)), "transl": np.zeros((0, 3))}, "one frame"),
    ],
)
def test_malformed_motions_are_refused(change, message):
    good = {"body_pose": np.zeros((3, 21, 3)), "root_orient": np.zeros((3, 3)), "transl": np.zeros((3, 3)), "fps": 10}
    with pytest.raises(UserError, match=message):
        Motion(**{**good, **change})


def test_bad_files_get_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        load_motion(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(UserError, match="cannot be read"):
        load_motion(tmp_path / "text.npz")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"no motion.*found x \(3,\)"):
        load_motion(tmp_path / "other.npz")
    np.savez(tmp_path / "norate.npz", poses=np.zeros((2, 165)))
    with pytest.raises(UserError, match="mocap_frame_rate"):
        load_motion(tmp_path / "norate.npz")
    np.savez(tmp_path / "shapes.npz", root_orient=np.zeros((2, 3)), pose_body=np.zeros((3, 63)), fps=30)
    with pytest.raises(UserError, match="expected pose arrays"):
        load_motion(tmp_path / "shapes.npz")
    with pytest.raises(UserError, match="cannot be written"):
        save_motion(tmp_path / "text.npz" / "m.npz", random_motion(frames=2, fps=30))
    with pytest.raises(UserError, match="up axis"):
        load_motion(tmp_path / "other.npz", up="x")
