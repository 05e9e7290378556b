"""The yardstick can say no: real motion passes every measure, each kind of unreal motion fails the one meant for it."""

import numpy as np
import pytest

from md_jax.evaluate import likeness, reference, scores, yardstick

WALK = "walking"


@pytest.fixture(scope="module")
def shipped():
    return yardstick.load_yardstick()


@pytest.fixture(scope="module")
def walks(shipped):
    """Real walks of the training side: other recordings than those that they are compared with."""
    return reference.some_of(shipped.reference(WALK, "fixed").others, 12).joints


def judged(shipped, windows, action=WALK):
    entries = [scores.Entry(str(i), window[None], action) for i, window in enumerate(windows)]
    summary = scores.summarise(scores.score(shipped, entries))
    together = scores.compare(shipped, entries)
    return summary, {v.measure: v.good for v in scores.verdicts(shipped, summary, together, "fixed")}


def test_real_walks_pass_every_measure(shipped, walks):
    summary, verdict = judged(shipped, walks)
    assert summary["nn_ratio"] == pytest.approx(1.0, abs=0.35)
    assert summary["cosine"] > 0.85
    assert summary["motion_only"]["rate"] > 0.8
    failed = {measure for measure, good in verdict.items() if not good}
    assert failed <= {"no copy"}  # they are training windows: the next test


def test_a_training_window_is_called_a_copy_and_a_held_out_one_is_not(shipped, walks):
    assert not judged(shipped, walks)[1]["no copy"]
    held_out = reference.some_of(shipped.reference(WALK, "fixed").held_out, 12).joints
    summary, verdict = judged(shipped, held_out)
    assert summary["copying"] == pytest.approx(1.0, abs=0.35) and verdict["no copy"]
    almost = walks + np.random.default_rng(0).normal(scale=1e-3, size=walks.shape).astype(np.float32)
    assert judged(shipped, almost)[0]["copying"] < scores.COPY


def test_a_held_out_window_is_as_near_to_other_recordings_as_real_motion_is(shipped):
    """Leaving out its own recording, a held-out window is a real motion like any other."""
    real = shipped.reference(WALK, "fixed")
    some = reference.some_of(real.held_out, 12)
    apart = likeness.distances(some.joints, real.near.joints)
    apart[some.recording[:, None] == real.near.recording] = np.inf
    assert np.median(apart.min(axis=1)) / shipped.norms["fixed", WALK].at("nn") == pytest.approx(1.0, abs=0.5)


def test_a_frozen_pose_fails_whatever_is_seen_to_move(shipped, walks):
    summary, verdict = judged(shipped, np.repeat(walks[:, :1], 10, axis=1))
    assert summary["static"] == 12 and summary["cosine"] == 0
    for measure in ("moves the same way", "ankles fore aft", "lower foot speed", "speed", "motion alone names it"):
        assert not verdict[measure], measure


def test_a_walk_played_backwards_moves_the_wrong_way(shipped, walks):
    summary, verdict = judged(shipped, walks[:, ::-1])
    assert summary["cosine"] < 0.5 and not verdict["moves the same way"]
    assert verdict["speed"] and verdict["ankles fore aft"]  # what time does not turn round


def test_legs_that_swing_out_twice_as_far_are_seen(shipped, walks):
    wild = walks.copy()
    legs = [0, 1, 3, 4, 6, 7, 9, 10]
    centre = wild[:, :, legs, :1].mean(axis=1, keepdims=True)
    wild[:, :, legs, :1] = centre + 2.5 * (wild[:, :, legs, :1] - centre)
    summary, verdict = judged(shipped, wild)
    assert summary["ankles_sideways_ratio"] > 1.9 and not verdict["ankles sideways"]
    assert verdict["ankles fore aft"] and verdict["wrists sideways"]


@pytest.mark.parametrize(("factor", "high"), [(0.4, False), (2.0, True)])
def test_too_slow_and_too_fast_are_seen(shipped, factor, high):
    """The same walks played at another speed: cut by a rate at which the same frames last longer or shorter."""
    split = shipped.split
    slow = reference.make_reference(split, WALK, frames=10, fps=10.0 / factor)
    summary, verdict = judged(shipped, reference.some_of(slow.others, 12).joints)
    assert not verdict["speed"] and not verdict["lower foot speed"]
    assert (summary["speed_ratio"] > 1) == high


def test_an_exaggerated_walk_is_far_from_real_and_does_not_gain(shipped, walks):
    centre = walks.mean(axis=1, keepdims=True)
    summary, verdict = judged(shipped, centre + 2.0 * (walks - centre))
    assert summary["nn_ratio"] > scores.FAR and not verdict["nearest real window"]


def test_another_action_fails(shipped, walks):
    summary, verdict = judged(shipped, walks, "jumping")
    assert summary["motion_only"]["rate"] < 0.2 and not verdict["motion alone names it"]


def test_seeds_that_are_all_the_same_are_too_alike_and_real_ones_are_not(shipped, walks):
    same = walks[:1] + np.random.default_rng(0).normal(scale=0.002, size=(5, *walks.shape[1:])).astype(np.float32)
    assert not judged(shipped, same)[1]["seeds differ"]
    summary = scores.compare(shipped, [scores.Entry("", w[None], WALK) for w in walks])
    assert scores.VARIED[0] < summary["diversity"] < scores.VARIED[1]
    assert summary["coverage"] > scores.compare(shipped, [scores.Entry("", w[None], WALK) for w in same])["coverage"]


def test_real_windows_are_not_told_from_real_ones_and_noise_is(shipped):
    told = shipped.controls["real motion"]["together"]["real_or_not"]
    assert told["interval"][0] <= 0.5 <= told["interval"][1]
    noise = shipped.controls["random in range"]["together"]["real_or_not"]
    assert noise["auc"] > 0.9


def test_a_motion_of_unknown_action_has_a_row_and_no_summary(shipped, walks):
    rows = scores.score(shipped, [scores.Entry("x", walk[None], "") for walk in walks])
    assert sum(row["motion_only"]["label"] == WALK for row in rows) > 8
    assert not any("nn_ratio" in row for row in rows)
    assert scores.summarise(rows)["count"] == 0
    assert scores.verdicts(shipped, scores.summarise(rows), scores.compare(shipped, []), "fixed") == []


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    # Newcombe 1998, table I, method 3 (without continuity correction)
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(right, count, low, high):
    assert scores.wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_no_observation_is_no_knowledge():
    assert scores.wilson(0, 0) == (0.0, 1.0)
