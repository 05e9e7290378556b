"""Clips and windows: packing, mirrors, splits without leaks, and windows against a slow scipy twin."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation, Slerp

from md_jax.errors import UserError
from md_jax.mocap import windows as w
from md_jax.mocap.clips import (
    Clip,
    load_clips,
    mirror_clip,
    mirror_pose,
    pack_clips,
    recording_of,
    split_clips,
    unpack_clips,
)
from md_jax.mocap.motion import Motion, save_motion

LEFT = {1: 2, 4: 5, 7: 8, 10: 11, 13: 14, 16: 17, 18: 19, 20: 21}  # SMPL-X joint ids, left to right
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]
MAIN = {"walking", "running", "jumping", "punching", "swordplay", "washwindow", "directing_traffic", "cartwheel"}


def make_clip(name="walk_01", action="walking", frames=40, fps=30.0, seed=0, recording=None, transl=False):
    rng = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / fps
    pose = rng.normal(size=(1, 22, 3)) * 0.4 + 0.3 * np.sin(5 * t + rng.uniform(0, 6, (1, 22, 3)))
    pose[:, 0] = Rotation.from_euler("yx", np.stack([2.5 + t[:, 0, 0], 0.1 * t[:, 0, 0]], 1)).as_rotvec()
    path = np.stack([t[:, 0, 0], 0.9 + 0.1 * t[:, 0, 0], 2 * t[:, 0, 0]], axis=1).astype(np.float32) if transl else None
    pose = pose.astype(np.float32)
    return Clip(name, action, recording or name, "made up", fps, pose[:, 1:], pose[:, 0], path)


@pytest.fixture(scope="module")
def shipped():
    return load_clips()


def test_shipped_clips_are_sane(shipped):
    assert {c.action for c in shipped} >= MAIN
    assert all(c.name.startswith(("cmu_", "amp_")) for c in shipped)  # what may be redistributed
    assert all("DeepMimic" not in c.source and c.source for c in shipped)
    for clip in shipped:
        assert clip.fps == 30 and len(clip.body_pose) >= 15 and clip.body_pose.shape[1:] == (21, 3)
        up = Rotation.from_rotvec(clip.root_orient).as_matrix()[:, 1, 1]
        if clip.action not in ("backflip", "cartwheel", "dancing"):
            assert up.min() > 0.7, clip.name
        steps = (
            Rotation.from_rotvec(clip.body_pose[1:].reshape(-1, 3))
            * Rotation.from_rotvec(clip.body_pose[:-1].reshape(-1, 3)).inv()
        )
        assert steps.magnitude().max() < 1.1, clip.name


def test_packing_keeps_rotations_to_a_hundredth_of_a_degree():
    clips = [make_clip("a", seed=1), make_clip("b", "running", seed=2, frames=17)]
    back = unpack_clips(pack_clips(clips))
    for clip, other in zip(clips, back, strict=True):
        assert (other.name, other.action, other.recording, other.fps) == (clip.name, clip.action, clip.recording, 30.0)
        np.testing.assert_allclose(other.body_pose, clip.body_pose, atol=1.3e-4)
        np.testing.assert_allclose(other.root_orient, clip.root_orient, atol=1.3e-4)
    with pytest.raises(UserError, match="pose_steps"):
        unpack_clips({"lengths": np.zeros(1)})


def test_folder_of_amass_files(tmp_path):
    clip = make_clip(frames=12, transl=True)
    motion = Motion(clip.body_pose, clip.root_orient, clip.transl, fps=30)
    save_motion(tmp_path / "hopping" / "05_01_stageii.npz", motion)
    np.savez(tmp_path / "hopping" / "shape.npz", betas=np.zeros(16))  # AMASS puts bodies beside motions
    data = {"pose_body": clip.body_pose.reshape(12, 63), "root_orient": clip.root_orient, "mocap_frame_rate": 30}
    (tmp_path / "x").mkdir()
    np.savez(tmp_path / "x" / "cmu_005_13_1.npz", **data, action="waving", source="CMU")
    hop, wave = load_clips(tmp_path)
    assert (hop.action, hop.fps) == ("hopping", 30)
    assert (wave.action, wave.source, wave.recording, wave.transl) == ("waving", "CMU", "cmu_005_13", None)
    np.testing.assert_allclose(hop.transl, clip.transl, atol=1e-6)
    assert [c.name for c in load_clips(tmp_path, ["waving"])] == ["cmu_005_13_1"]
    with pytest.raises(UserError, match="hopping, waving"):
        load_clips(tmp_path, ["flying"])
    with pytest.raises(UserError, match="holds no clips"):
        load_clips(tmp_path / "nowhere")


def test_recordings_by_name():
    assert recording_of("cmu_005_13_1") == "cmu_005_13"
    assert recording_of("cmu_train_soccer_5_0") == "cmu_train_soccer_5"
    for whole in ("cmu_02_04", "cmu_train_walking_3", "cmu_train_extrawalking_13", "amp_hop", "05_01_stageii"):
        assert recording_of(whole) == whole


def world_positions(body_pose, root_orient):
    """Joint positions of a symmetric toy skeleton by a loop over joints."""
    offsets = np.zeros((22, 3))
    for j in range(1, 22):
        side = 1 if j in LEFT else -1 if j in LEFT.values() else 0
        offsets[j] = [0.2 * side, -0.3 if j in (4, 5, 7, 8, 10, 11) else 0.2, 0.05]
    local = Rotation.from_rotvec(np.concatenate([root_orient[None], body_pose]))
    turns, places = [local[0]], [np.zeros(3)]
    for j in range(1, 22):
        turns.append(turns[PARENTS[j]] * local[j])
        places.append(places[PARENTS[j]] + turns[PARENTS[j]].apply(offsets[j]))
    return np.array(places)


def test_mirror_swaps_left_and_right_in_space():
    clip = make_clip(transl=True)
    mirrored = mirror_clip(clip)
    order = list(range(22))
    for left, right in LEFT.items():
        order[left], order[right] = right, left
    for f in (0, 17, 39):
        ours = world_positions(mirrored.body_pose[f], mirrored.root_orient[f])
        original = world_positions(clip.body_pose[f], clip.root_orient[f])
        np.testing.assert_allclose(ours, original[order] * [-1, 1, 1], atol=1e-6)
    np.testing.assert_allclose(mirrored.transl, clip.transl * [-1, 1, 1])
    np.testing.assert_allclose(mirror_pose(mirrored.body_pose), clip.body_pose, atol=0)


@pytest.mark.parametrize("mirrored", [False, True])
def test_windows_equal_a_slow_twin(mirrored):
    clips = [make_clip(seed=1, frames=40, transl=True), make_clip(seed=2, frames=50, fps=24.0, transl=True)]
    index, start, speed = np.array([1, 0, 1]), np.array([0.3, 0.05, 0.77]), np.array([1.1, 0.9, 1.0])
    cut = w.cut_windows(clips, index, start, frames=8, fps=9.0, speed=speed, mirrored=mirrored, root="full")
    for n in range(3):
        clip = mirror_clip(clips[index[n]]) if mirrored else clips[index[n]]
        times = start[n] + np.arange(8) / 9.0 * speed[n]
        keys = np.arange(len(clip.body_pose)) / clip.fps
        for j in range(21):
            oracle = Slerp(keys, Rotation.from_rotvec(clip.body_pose[:, j]))(times)
            assert (Rotation.from_rotvec(cut.body_pose[n, :, j]) * oracle.inv()).magnitude().max() < 1e-5
        root = Slerp(keys, Rotation.from_rotvec(clip.root_orient))(times)
        _, y, _, scalar = root[0].as_quat()
        back = Rotation.from_rotvec([0, -2 * np.arctan2(y, scalar), 0])  # the twist about +y, undone
        assert (Rotation.from_rotvec(cut.root_orient[n]) * (back * root).inv()).magnitude().max() < 1e-5
        path = np.stack([np.interp(times, keys, clip.transl[:, a]) for a in range(3)], axis=1)
        np.testing.assert_allclose(cut.transl[n], back.apply(path - path[0]), atol=1e-5)


def test_root_options():
    clip = make_clip(transl=True)
    place = ([clip], np.array([0]), np.array([0.0]))
    fixed = w.cut_windows(*place, frames=5, fps=10, root="fixed")
    assert not fixed.root_orient.any() and not fixed.transl.any()
    orient = w.cut_windows(*place, frames=5, fps=10, root="orient")
    assert orient.root_orient.any() and not orient.transl.any()
    with pytest.raises(UserError, match="has 40"):
        w.cut_windows([clip], np.array([0]), np.array([1.0]), frames=10, fps=10)


def test_sampling_is_balanced_repeatable_and_inside(shipped):
    arguments = {"frames": 10, "fps": 10.0}
    one, two = (w.sample_windows(np.random.default_rng(4), shipped, 1500, **arguments) for _ in range(2))
    np.testing.assert_array_equal(one.body_pose, two.body_pose)
    actions = np.array([shipped[i].action for i in one.clip])
    names = sorted({c.action for c in shipped})
    for name in names:  # six standard deviations of a fair draw
        assert abs((actions == name).mean() - 1 / len(names)) < 6 * np.sqrt(1 / len(names) / 1500)
    end = one.start + 0.9 * one.speed
    assert np.all(one.start >= 0) and np.all(end <= np.array([shipped[i].duration for i in one.clip]) + 1e-4)
    assert np.all((one.speed > 0.84) & (one.speed < 1.16)) and 0.4 < one.mirrored.mean() < 0.6
    assert np.all(np.isfinite(one.body_pose)) and not one.root_orient.any()
    only = w.sample_windows(np.random.default_rng(0), shipped, 20, share={"running": 1.0}, **arguments)
    assert {shipped[i].action for i in only.clip} == {"running"}
    with pytest.raises(UserError, match="backflip"):
        w.sample_windows(np.random.default_rng(0), shipped, 200, frames=30, fps=10.0)


def test_every_window_counts_starts():
    clips = [make_clip(frames=61), make_clip(frames=10)]  # 2 s and 0.3 s
    every = w.every_window(clips, frames=11, fps=10, stride=0.25)  # 1 s each
    np.testing.assert_allclose(every.start, [0, 0.25, 0.5, 0.75, 1.0])
    assert set(every.clip) == {0}
    with pytest.raises(UserError, match="longest lasts"):
        w.every_window(clips, frames=100, fps=10, stride=0.25)


def test_split_by_recording_does_not_leak(shipped):
    split = split_clips(shipped, fraction=0.25, seed=1)
    assert {split.how[a] for a in ("walking", "running", "jumping")} == {"recording"}
    for action in {c.action for c in shipped}:
        train, held_out = ([c for c in side if c.action == action] for side in split[:2])
        assert train and (held_out or split.how[action] == "none")
        if split.how[action] == "recording":
            assert not {c.recording for c in train} & {c.recording for c in held_out}
    walking = [sum(c.duration for c in side if c.action == "walking") for side in split[:2]]
    assert 0.1 < walking[1] / sum(walking) < 0.35
    assert {split.how[a] for a in ("punching", "washwindow", "directing_traffic", "swordplay", "cartwheel")} == {"time"}
    assert split.how["backflip"] == "none"  # under two seconds


@pytest.mark.parametrize("pieces", [1, 3])
def test_split_in_time_leaves_a_gap(pieces):
    """Frames carry their own number, so that what is left out can be counted."""
    clips = []
    for i in range(pieces):
        clip = make_clip(f"punch_{i}", "punching", frames=300 // pieces, recording="punch")
        clip.root_orient[:, 0] = np.arange(len(clip.root_orient)) + i * len(clip.root_orient)
        clips.append(clip)
    train, held_out, how = split_clips(clips, fraction=0.3, gap=1.0)
    first, last = (np.concatenate([c.root_orient[:, 0] for c in side]) for side in (train, held_out))
    assert how == {"punching": "time"}
    np.testing.assert_array_equal(first, np.arange(180))
    np.testing.assert_array_equal(last, np.arange(210, 300))
