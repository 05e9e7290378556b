"""The yardstick and its rows: real motion is recognised, frozen motion is called static, intervals are Wilson's."""

import numpy as np
import pytest

from md_jax.errors import UserError
from md_jax.evaluate import measures, reference, scores
from md_jax.evaluate.judges import STATIC, features, probabilities, train_classifier
from md_jax.mocap.motion import Motion

ACTIONS = ("walking", "punching", "directing_traffic")


@pytest.fixture(scope="module")
def yardstick():
    return reference.make_reference(None, ACTIONS)


def rows_of(yardstick, windows, action):
    return scores.score(yardstick, [scores.Entry("x", window[None], action) for window in windows])


def test_held_out_motion_is_recognised(yardstick):
    summary = scores.summarise(scores.score(yardstick, scores.real(yardstick, held_out=True, most=10)))
    assert summary["with_pose"]["rate"] > 0.8
    assert summary["motion_only"]["rate"] > 0.7
    assert summary["static"] <= 2  # a slow one may pass for still
    assert 0.8 < summary["speed_ratio"] < 1.2


def test_a_frozen_pose_is_static_by_every_measure_that_sees_motion(yardstick):
    for action in ACTIONS:
        (row,) = scores.score(yardstick, [scores.still(yardstick, action, action)])
        assert {row[by]["label"] for by in scores.BY} == {STATIC}, action
        assert row["speed"] == 0


def test_a_shrunken_motion_is_static_and_a_mirrored_one_keeps_its_action(yardstick):
    walking = yardstick.held_out[yardstick.held_out_label == 0][::40]
    centre = walking.mean(axis=1, keepdims=True)
    for row in rows_of(yardstick, centre + 0.05 * (walking - centre), "walking"):
        assert row["motion_only"]["label"] == STATIC


def test_swapped_sides_share_no_window_with_what_they_learned_from(yardstick):
    swapped = reference.make_reference(None, ACTIONS, swapped=True)
    assert len(swapped.held_out) > len(yardstick.held_out)  # most of the motion capture is the training side

    def rows(windows):
        return {window.tobytes() for window in windows.round(4)}

    assert not rows(swapped.held_out) & rows(yardstick.held_out)
    assert (
        scores.summarise(scores.score(swapped, scores.real(swapped, held_out=True, most=10)))["with_pose"]["rate"] > 0.7
    )


def test_motion_only_does_not_see_the_mean_pose(yardstick):
    walking = yardstick.held_out[yardstick.held_out_label == 0][::60]
    moved = walking + np.random.default_rng(0).normal(size=(len(walking), 1, 21, 3))
    before, after = (
        probabilities(yardstick.motion_only, windows.astype(np.float32), 10.0) for windows in (walking, moved)
    )
    np.testing.assert_allclose(before, after, atol=1e-3)
    near = reference.judge(yardstick, [w[None] for w in moved]).position_motion_only
    np.testing.assert_allclose(near, reference.judge(yardstick, [w[None] for w in walking]).position_motion_only,
                               atol=1e-4)  # fmt: skip


def test_a_reference_window_is_its_own_neighbour(yardstick):
    windows = yardstick.near[::50]
    said = reference.judge(yardstick, [w[None] for w in windows])
    own = yardstick.near_label[::50]
    for by in ("position", "position_motion_only", "velocity"):
        np.testing.assert_allclose(getattr(said, by)[np.arange(len(own)), own], 0, atol=1e-4)


def test_distances_equal_a_slow_twin(yardstick):
    window = yardstick.others[3]
    said = reference.judge(yardstick, [window[None]])
    for a in range(len(ACTIONS)):
        slow = min(
            np.mean([np.linalg.norm(window[f, j] - near[f, j]) for f in range(10) for j in range(21)])
            for near in yardstick.near[yardstick.near_label == a]
        )
        assert said.position[0, a] == pytest.approx(slow, rel=1e-4)


def test_no_held_out_window_overlaps_the_clips_that_train():
    from md_jax.mocap.clips import split_source

    split = split_source(None, ACTIONS, reference.HELD_OUT)
    everything = split_source(None, None, reference.HELD_OUT)
    assert [c.name for c in split.held_out] == [c.name for c in everything.held_out if c.action in ACTIONS]
    both = {c.recording for c in split.train} & {c.recording for c in split.held_out}
    assert all(split.how[c.action] == "time" for c in split.train if c.recording in both)


def test_a_long_motion_is_judged_by_many_windows_and_a_short_one_is_refused(yardstick):
    def motion(frames):
        return Motion(np.zeros((frames, 21, 3)), np.zeros((frames, 3)), np.zeros((frames, 3)), 30.0)

    assert len(reference.windows_of(yardstick, motion(28))) == 1
    assert len(reference.windows_of(yardstick, motion(400))) == reference.MAX_WINDOWS
    with pytest.raises(UserError, match=r"0\.90 s"):
        reference.windows_of(yardstick, motion(20))


def test_too_little_motion_capture_to_hold_out_is_an_error():
    with pytest.raises(UserError, match="backflip"):
        reference.make_reference(None, ("walking", "backflip"))


def test_training_is_deterministic_and_learns_what_it_is_shown():
    rng = np.random.default_rng(0)
    t = np.arange(10)[None, :, None, None]
    label = np.arange(120) % 2
    rate = np.where(label == 0, 0.5, 1.5)[:, None, None, None]
    phase = rng.uniform(0, 6.28, size=(120, 1, 21, 3))
    joints = (0.3 * np.sin(rate * t + phase)).astype(np.float32)
    trained = [train_classifier(joints, label, ("slow", "fast"), 10.0, motion_only=True) for _ in range(2)]
    said = [probabilities(classifier, joints, 10.0) for classifier in trained]
    np.testing.assert_array_equal(*said)
    assert (said[0].argmax(axis=1) == label).mean() > 0.95
    assert features(joints, 10.0, True).shape[1] < features(joints, 10.0, False).shape[1]


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998, table I, method 3 (without continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(right, count, low, high):
    assert scores.wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_no_observation_is_no_knowledge():
    assert scores.wilson(0, 0) == (0.0, 1.0)


def test_controls_are_wrong_and_real_motion_is_right(yardstick):
    table = scores.baselines(yardstick, seeds=2)
    assert table["own mean pose, still"]["static"] == len(ACTIONS)
    assert table["pooled mean, still"]["with_pose"]["rate"] == 0
    assert table["real motion"]["motion_only"]["rate"] > table["random in own range"]["motion_only"]["rate"]
    assert table["chance"]["motion_only"]["rate"] == pytest.approx(1 / 4)


def test_reference_free_measures_leave_out_contact_without_translation():
    pose = np.zeros((12, 21, 3), np.float32)
    flat = Motion(pose, np.zeros((12, 3)), np.zeros((12, 3)), 10.0)
    assert scores.reference_free(flat)["foot_skate_metres_per_second"] is None
    sliding = Motion(pose, np.zeros((12, 3)), np.linspace(0, 1.1, 12)[:, None] * np.array([1.0, 0, 0]), 10.0)
    assert scores.reference_free(sliding)["foot_skate_metres_per_second"] == pytest.approx(1.0, rel=1e-3)
    assert scores.reference_free(sliding)["ground_penetration_metres"] == pytest.approx(0, abs=1e-5)


def test_speed_of_the_reference_is_that_of_real_walking(yardstick):
    walking = measures.speed(yardstick.held_out[yardstick.held_out_label == 0], 10.0)
    assert yardstick.speed[0] == pytest.approx(np.median(walking), rel=0.25)
