"""The classifier of actions sees no pose; the one of real or not is at .5 where there is nothing to see."""

import numpy as np
import pytest

from md_jax.evaluate import judges

FPS = 10.0


def waves(label, seed=0):
    """Windows that swing at a rate each."""
    rng = np.random.default_rng(seed)
    t = np.arange(10)[None, :, None, None]
    rate = np.where(label == 0, 0.5, 1.5)[:, None, None, None]
    phase = rng.uniform(0, 6.28, size=(len(label), 1, 21, 3))
    return (0.3 * np.sin(rate * t + phase)).astype(np.float32)


@pytest.fixture(scope="module")
def trained():
    label = np.arange(120) % 2
    return [judges.train_classifier(waves(label), label, ("slow", "fast"), FPS) for _ in range(2)]


def test_training_is_deterministic_and_learns_what_it_is_shown(trained):
    label = np.arange(60) % 2
    said = [judges.probabilities(classifier, waves(label, seed=1), FPS) for classifier in trained]
    np.testing.assert_array_equal(*said)
    np.testing.assert_allclose(said[0].sum(axis=1), 1, rtol=1e-5)
    assert (said[0].argmax(axis=1) == label).mean() > 0.95


def test_it_sees_no_mean_pose_and_calls_a_frozen_one_static(trained):
    label = np.arange(20) % 2
    some = waves(label)
    moved = some + np.random.default_rng(0).normal(size=(20, 1, 21, 3)).astype(np.float32)
    np.testing.assert_allclose(*(judges.probabilities(trained[0], x, FPS) for x in (some, moved)), atol=1e-3)
    frozen = judges.probabilities(trained[0], np.repeat(some[:, :1], 10, axis=1), FPS)
    assert (frozen.argmax(axis=1) == 2).all()


# --- real or not ------------------------------------------------------------------------------------------------

ACTIONS = [f"action {n // 10}" for n in range(80)]
EACH = ([str(n) for n in range(80)], [str(n) for n in range(80)])  # every window a motion, or a recording, of its own


def features(seed, shift=0.0, count=80):
    values = np.random.default_rng(seed).normal(size=(count, 30)) + shift
    return np.concatenate([values, np.abs(values)], axis=1)


def test_motions_like_the_real_ones_cannot_be_told():
    told = [judges.real_or_not(features(seed), features(100 + seed), ACTIONS, EACH) for seed in range(12)]
    assert np.mean([t.auc for t in told]) == pytest.approx(0.5, abs=0.06)
    assert np.mean([t.interval[0] <= 0.5 <= t.interval[1] for t in told]) >= 0.75


def test_noise_is_always_told_and_a_slight_difference_sometimes():
    clear, slight = (judges.real_or_not(features(0, shift), features(1), ACTIONS, EACH) for shift in (2.0, 0.2))
    assert clear.auc > 0.99 and clear.interval[0] > 0.9
    assert 0.55 < slight.auc < clear.auc
    assert set(clear.by_action) == set(ACTIONS) and clear.count == 80


def test_what_is_wrong_with_one_action_alone_is_seen_in_it():
    """Shifted one way in half of the actions and the other way in the rest: nothing is common to all."""
    way = np.repeat([1.0, -1.0], 40)[:, None]
    told = judges.real_or_not(features(0, way), features(1), ACTIONS, EACH)
    assert told.auc > 0.9


def test_a_classifier_never_judges_a_recording_that_it_has_seen():
    """Ten copies of two recordings an action, and of two motions: by heart each is known, held out nothing is."""
    rng = np.random.default_rng(0)
    halves = [str(n % 2) for n in range(80)]
    found = []
    for _ in range(10):
        sides = [np.repeat(rng.normal(size=(8, 1, 2, 60)), 5, axis=1).reshape(80, 60) for _ in range(2)]
        found.append(judges.real_or_not(*sides, ACTIONS, (halves, halves)).auc)
    assert np.mean(found) < 0.65
    by_heart = judges.real_or_not(*sides, ACTIONS, EACH)
    assert by_heart.auc > 0.9


def test_the_one_recording_of_an_action_is_judged_by_other_actions():
    """Its pose gives nothing away: motions and recording alike are far from the others."""
    far = np.repeat(10.0 * np.random.default_rng(5).normal(size=(8, 1, 30)), 10, axis=1).reshape(80, 30)
    sides = [np.concatenate([x := features(seed)[:, :30] + far, np.abs(x)], axis=1) for seed in (0, 1)]
    told = judges.real_or_not(*sides, ACTIONS, (EACH[0], ["one"] * 80))
    assert told.interval[0] <= 0.5 <= told.interval[1]


def test_few_windows_say_nothing():
    few = features(0)[:6], features(1)[:6], ACTIONS[:6]
    assert judges.real_or_not(*few, (EACH[0][:6], EACH[1][:6])) is None
    one = features(0)[:10], features(1)[:10], ACTIONS[:10]
    assert judges.real_or_not(*one, (["same"] * 10, EACH[1][:10])) is None  # nothing is left to learn from


def test_typical_windows_are_near_zero_and_a_faster_one_is_not():
    rng = np.random.default_rng(0)
    real = np.cumsum(rng.normal(scale=0.1, size=(200, 10, 21, 3)), axis=1)
    away = judges.typical(real[:50], FPS, real[50:])
    signed = away[:, : away.shape[1] // 2]
    assert np.abs(signed.mean()) < 0.1 and 0.6 < signed.std() < 1.2
    assert np.abs(judges.typical(3 * real[:50], FPS, real[50:])).mean() > 2 * np.abs(away).mean()


def test_the_logistic_regression_is_at_the_minimum_of_its_loss():
    rng = np.random.default_rng(0)
    rows, targets, weight = rng.normal(size=(20, 50)), np.arange(20) % 2.0, rng.uniform(0.5, 2, size=20)
    kernel = rows @ rows.T / judges.RIDGE
    alpha = judges._logistic(kernel, targets, weight)
    # of the loss in the coefficients of the columns, which are rows.T @ alpha / RIDGE
    coefficients = rows.T @ alpha / judges.RIDGE
    gradient = rows.T @ (weight * (1 / (1 + np.exp(-rows @ coefficients)) - targets)) + judges.RIDGE * coefficients
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
