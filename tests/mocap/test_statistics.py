"""Pose statistics against NumPy and scipy, the shipped table, and the reading of prompts."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from md_jax.errors import UserError
from md_jax.mocap.clips import Clip, load_clips, mirror_clip, moving_clips, pack_clips, unpack_clips
from md_jax.mocap.motion import Motion, save_motion
from md_jax.mocap.statistics import (
    GENERIC,
    MIN_STD,
    compute_statistics,
    known_actions,
    load_statistics,
    resolve_action,
    save_statistics,
)
from md_jax.prompts.vocabulary import shipped

MAIN = ("walking", "running", "jumping", "punching", "swordplay", "washwindow", "directing_traffic", "cartwheel")


def clip_of(body_pose, action="waving", root=None, transl=None, name="a"):
    root = np.zeros((len(body_pose), 3)) if root is None else root
    return Clip(name, action, name, "made up", 30.0, np.float32(body_pose), np.float32(root), transl)


def random_clip(frames, seed, action="waving", **keywords):
    rng = np.random.default_rng(seed)
    return clip_of(0.3 * rng.normal(size=(frames, 21, 3)) + 0.2 * rng.normal(size=(21, 3)), action, **keywords)


def test_matches_numpy():
    clips = [random_clip(40, 1), random_clip(60, 2), random_clip(50, 3, "hopping")]
    found = compute_statistics(clips, "waving")
    frames = np.concatenate([clips[0].body_pose, clips[1].body_pose])
    matrices = Rotation.from_rotvec(frames.reshape(-1, 3)).as_matrix()
    sixd = matrices[:, :, :2].transpose(0, 2, 1).reshape(100, 21, 6)
    assert (found.action, found.frames) == ("waving", 100)
    np.testing.assert_allclose(found.body_mean, frames.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.body_std, frames.std(0), atol=1e-5)
    np.testing.assert_allclose(found.body_mean_6d, sixd.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.body_std_6d, np.maximum(sixd.std(0), MIN_STD), atol=1e-5)


def test_pooled_statistics_weigh_actions_alike_and_favour_no_side():
    clips = [random_clip(40, 1), random_clip(200, 3, "hopping")]
    found = compute_statistics(clips, GENERIC)
    each = [np.concatenate([c.body_pose, mirror_clip(c).body_pose]) for c in clips]
    mean = (each[0].mean(0) + each[1].mean(0)) / 2
    variance = (((each[0] - mean) ** 2).mean(0) + ((each[1] - mean) ** 2).mean(0)) / 2
    np.testing.assert_allclose(found.body_mean, mean, atol=1e-5)
    np.testing.assert_allclose(found.body_std, np.sqrt(variance), atol=1e-5)
    mirrored = mirror_clip(clip_of(found.body_mean[None])).body_pose[0]
    np.testing.assert_allclose(found.body_mean, mirrored, atol=1e-5)


def test_the_same_pose_written_in_two_ways_counts_once():
    """An arm around π: −(2π − 3.3) about the same axis is the same rotation as 3.3."""
    angle = 3.2 + 0.1 * np.sin(np.arange(40))
    one, two = np.zeros((40, 21, 3)), np.zeros((40, 21, 3))
    one[:, 15, 2], two[:, 15, 2] = angle, angle - 2 * np.pi
    found = compute_statistics([clip_of(one), clip_of(two)], "waving")
    assert found.body_std[15, 2] == pytest.approx(angle.std(), abs=1e-4)
    assert abs(abs(found.body_mean[15, 2]) - np.pi) < 0.2


def test_joints_that_never_move_get_the_floor():
    found = compute_statistics([clip_of(np.full((40, 21, 3), 0.2))], "waving")
    for std in (found.body_std, found.body_std_6d, found.root_std, found.root_std_6d):
        np.testing.assert_array_equal(std, np.float32(MIN_STD))


def test_heading_does_not_count_but_tipping_over_does():
    turn = np.linspace(0, 5, 60)
    walk = clip_of(np.zeros((60, 21, 3)), root=np.stack([0 * turn, 2.0 + 0 * turn, 0 * turn], axis=1))
    still = compute_statistics([walk], "waving")
    np.testing.assert_allclose(still.root_mean, 0, atol=1e-5)
    np.testing.assert_allclose(still.root_mean_6d, [1, 0, 0, 0, 1, 0], atol=1e-5)
    roll = clip_of(np.zeros((60, 21, 3)), root=np.stack([turn, 0 * turn, 0 * turn], axis=1))
    over = compute_statistics([roll], "waving")
    assert over.root_std[0] > 0.7 and over.root_std[1] < 0.05


def test_translation_only_where_every_clip_has_it():
    path = np.stack([np.linspace(0, 2, 31), np.ones(31), np.zeros(31)], axis=1).astype(np.float32)
    moving = random_clip(31, 1, transl=path)
    found = compute_statistics([moving], "waving")
    np.testing.assert_allclose(found.transl_mean, [0.9, 0, 0], atol=1e-4)  # 2 m/s over windows of 0.9 s
    assert compute_statistics([moving, random_clip(31, 2)], "waving").transl_mean is None


def test_shipped_statistics_are_those_of_the_shipped_clips():
    for action in ("punching", GENERIC):
        fresh, shipped = compute_statistics(load_clips(), action), load_statistics(action)
        for name in ("body_mean", "body_std", "body_mean_6d", "body_std_6d", "root_mean", "root_std"):
            np.testing.assert_allclose(getattr(fresh, name), getattr(shipped, name), atol=1e-4, err_msg=name)
    assert set(known_actions()) >= set(MAIN)


def test_thirty_actions_have_translation():
    """From the first frame on, height included: a start is where the body at rest is, in the picture."""
    assert len(known_actions()) >= 30
    walking, moving = load_statistics("walking"), compute_statistics(moving_clips(), "walking")
    np.testing.assert_allclose(walking.transl_mean, moving.transl_mean, atol=1e-4)
    assert 0.4 < walking.transl_mean[2] < 1.0 and np.abs(walking.transl_mean[:2]).max() < 0.1
    assert load_statistics("walking_backward").transl_mean[2] < -0.3
    assert all(load_statistics(action).transl_mean is not None for action in (*known_actions(), GENERIC))
    cartwheel = load_statistics("cartwheel")  # without any in the capture: where hands and feet take the body
    assert np.hypot(*cartwheel.transl_mean[[0, 2]]) > 0.2 and 0.02 < cartwheel.transl_std[1] < 0.4


def test_recordings_of_both_files_are_told_apart():
    still, moving = load_clips(), moving_clips()
    assert {c.recording for c in still} & {c.recording for c in moving} == {"amp_hop"}  # other seconds of it
    assert not {c.name for c in still} & {c.name for c in moving}
    assert all(c.transl is not None and len(c.transl) == len(c.body_pose) for c in moving)
    assert all(c.transl is None for c in still) and {"cmu"} == {c.name[:3] for c in moving}
    back = unpack_clips(pack_clips(moving[:3]))
    np.testing.assert_allclose(back[1].transl, moving[1].transl, atol=1e-6)


def test_file_and_folder_as_source(tmp_path):
    clips = [random_clip(40, 1), random_clip(50, 3, "hopping")]
    statistics = [compute_statistics(clips, a) for a in ("waving", "hopping", GENERIC)]
    save_statistics(tmp_path / "own.npz", statistics)
    own = load_statistics("hopping", tmp_path / "own.npz")
    np.testing.assert_array_equal(own.body_mean, statistics[1].body_mean)
    assert own.transl_mean is None and known_actions(tmp_path / "own.npz") == ("hopping", "waving")
    for clip in clips:
        motion = Motion(clip.body_pose, clip.root_orient, np.zeros_like(clip.root_orient), fps=30)
        save_motion(tmp_path / "clips" / clip.action / "x.npz", motion)
    folder = load_statistics("hopping", tmp_path / "clips")
    np.testing.assert_allclose(folder.body_mean, own.body_mean, atol=1e-6)
    assert folder.transl_mean is not None


def test_errors_say_what_is_known(tmp_path):
    with pytest.raises(UserError, match="walking"):
        load_statistics("flying")
    np.savez(tmp_path / "other.npz", x=np.zeros(2))
    with pytest.raises(UserError, match=r"build_statistics"):
        load_statistics(GENERIC, tmp_path / "other.npz")
    with pytest.raises(UserError, match="no clips of the action"):
        compute_statistics([random_clip(5, 0)], "flying")
    with pytest.raises(UserError, match="--action=flying"):
        resolve_action("flying", "x")


def test_the_vocabulary_covers_the_shipped_actions():
    entries = shipped().entries
    assert set(known_actions()) <= set(entries)
    assert {name for name, entry in entries.items() if entry.main} == set(MAIN)


def test_resolve_action_says_why():
    assert resolve_action("auto", "a man is jogging") == (
        "running",
        "pose statistics: running, for the prompt says 'jogging'.",
    )
    assert resolve_action("generic", "a man is jogging")[0] == GENERIC
    assert resolve_action("punching", "a man is jogging")[0] == "punching"
    action, why = resolve_action("auto", "a man plays chess")
    assert action == GENERIC and "names none" in why
    action, why = resolve_action("auto", "a man is crawling")  # in the table, without shipped clips
    assert action == GENERIC and "none of crawling" in why
