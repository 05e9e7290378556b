"""benchmarks.bridge: every arm ends at the same parameters (checked inside), and ours copy nothing."""

from benchmarks import bridge as benchmark


def test_arms_agree_and_ours_copy_nothing():
    rows = {row["step"]: row for row in benchmark.measure(steps=3, warm_up=2)}
    assert all(row["recompiles"] == 0 for row in rows.values())
    ours = [row for name, row in rows.items() if name not in ("JAX alone (no torch)", benchmark.PEER)]
    assert len(ours) == 3
    assert all((row["calls"], row["copied"]) == (1, 0) and row["aliased"] > 2.5e6 for row in ours)
    assert rows[benchmark.PEER]["copied"] > 2.5e6
    assert "pure_callback" in benchmark.report(list(rows.values()))
