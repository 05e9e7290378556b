"""The controls: a pose held still, and random motion that uses its whole range."""

import numpy as np

from md_jax.evaluate import measures
from md_jax.mocap.statistics import load_statistics
from tools import build_yardstick

WALK = "walking"


def test_a_still_pose_is_the_mean_pose():
    entry = build_yardstick.still(WALK, WALK, 10)
    pose = load_statistics(WALK).body_mean
    np.testing.assert_allclose(entry.windows[0, 7], measures.joints(pose), atol=1e-6)


def test_random_motion_uses_its_range_and_stays_in_it(monkeypatch):
    made = []
    monkeypatch.setattr(build_yardstick, "joint_windows", lambda poses: made.append(poses) or poses)
    entries = build_yardstick.random_in_range(WALK, WALK, range(4), 10)
    statistics = load_statistics(WALK)
    away = (made[0] - statistics.body_mean) / statistics.body_std
    assert len(entries) == 4 and away.shape == (4, 10, 21, 3)
    assert 2.5 < np.abs(away).max() < 3 + 1e-3  # ±3σ, as --bound_sigma says, and not ±1σ
    assert 1.5 < np.sqrt((away**2).mean()) < 2.2
    assert np.abs(np.diff(made[0], axis=1)).max() > 0.05  # and it moves
    assert not np.allclose(made[0][0], made[0][1])
