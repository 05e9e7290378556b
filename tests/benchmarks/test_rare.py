"""The common-against-rare experiment: its design, and what it makes of rows."""

import itertools

import pytest

from benchmarks import rare
from md_jax.evaluate.command import MAIN_ACTIONS
from tests.pictures import assert_drawn


def test_every_action_is_met_once_at_each_frequency():
    for action in range(len(MAIN_ACTIONS)):
        assert sorted(rare.share_of(action, prior) for prior in range(4)) == sorted(rare.SHARES)
        assert {rare.share_of(action, 0) / rare.share_of(action, 2)} <= {16.0, 1 / 16}


def rows(probability):
    """Two priors, two seeds."""
    made = []
    for prior, seed, (i, action) in itertools.product((0, 2), ("a", "b"), enumerate(MAIN_ACTIONS)):
        share = rare.share_of(i, prior)
        own = probability(i, share)
        made.append({"action": action, "share": share, "seed": seed, "own_probability": own, "right": own > 0.5,
                     "right_with_pose": True, "speed_ratio": 1.0})  # fmt: skip
    return made


def test_the_gain_is_paired_by_action():
    # what an action is like (i / 10) is far larger than what its frequency does (0.05), and cancels out
    made = rows(lambda i, share: i / 10 + 0.05 * (share >= 0.25))
    assert rare.gain(made)["mean"] == pytest.approx(0.05)
    assert rare.gain(made)["interval"] == pytest.approx([0.05, 0.05])
    flat = rows(lambda i, share: i / 10)
    assert rare.gain(flat)["mean"] == 0


def test_the_table_has_a_row_a_frequency_and_the_figure_is_drawn(tmp_path):
    made = rows(lambda i, share: share)
    table = rare.summary(made)
    assert [row["share"] for row in table] == list(rare.SHARES)
    assert [row["own_probability"] for row in table] == pytest.approx(rare.SHARES, abs=1e-3)
    assert [row["motions"] for row in table] == [8, 8, 8, 8]
    rare.draw(made, table, tmp_path / "rare.png")
    assert_drawn(tmp_path / "rare.png")
