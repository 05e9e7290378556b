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


def features(seed, shift=0.0):
    values = np.random.default_rng(seed).normal(size=(80, 30))
    return np.concatenate([values + shift, np.abs(values + shift)], axis=1)


def test_motions_like_the_real_ones_cannot_be_told():
    told = [judges.real_or_not(features(seed), features(100 + seed), ACTIONS) for seed in range(8)]
    assert np.mean([t.auc for t in told]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([t.interval[0] <= 0.5 <= t.interval[1] for t in told]) >= 0.75


def test_noise_is_always_told_and_a_slight_difference_sometimes():
    clear, slight = (judges.real_or_not(features(0, shift), features(1), ACTIONS) for shift in (2.0, 0.15))
    assert clear.auc > 0.99 and clear.interval[0] > 0.9
    assert 0.55 < slight.auc < clear.auc
    assert set(clear.by_action) == set(ACTIONS) and clear.count == 80


def test_a_classifier_never_judges_what_it_has_seen():
    """Random labels of 16 windows in 60 dimensions are learned by heart; held out, nothing is known of them."""
    rng = np.random.default_rng(0)
    names = [f"action {n // 2}" for n in range(16)]
    found = [judges.real_or_not(rng.normal(size=(16, 60)), rng.normal(size=(16, 60)), names).auc for _ in range(20)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.1)


def test_few_actions_or_windows_say_nothing():
    assert judges.real_or_not(features(0, 2.0)[:30], features(1)[:30], ACTIONS[:30]) is None
    assert judges.real_or_not(features(0)[::12], features(1)[::12], ACTIONS[::12]) is None


def test_typical_windows_are_near_zero_and_a_faster_one_is_not():
    rng = np.random.default_rng(0)
    real = np.cumsum(rng.normal(scale=0.1, size=(200, 10, 21, 3)), axis=1)
    away = judges.typical(real[:50], FPS, real[50:])
    signed = away[:, : away.shape[1] // 2]
    assert np.abs(signed.mean()) < 0.1 and 0.6 < signed.std() < 1.2
    assert np.abs(judges.typical(3 * real[:50], FPS, real[50:])).mean() > 2 * np.abs(away).mean()


def test_the_logistic_regression_is_at_the_minimum_of_its_loss():
    rng = np.random.default_rng(0)
    inputs, targets = rng.normal(size=(20, 50)), np.arange(20) % 2.0
    weights = judges._logistic(inputs, targets)
    rows = np.concatenate([inputs, np.ones((20, 1))], axis=1)
    gradient = rows.T @ (1 / (1 + np.exp(-rows @ weights)) - targets) + judges.RIDGE * weights
    np.testing.assert_allclose(gradient, 0, atol=1e-6)
