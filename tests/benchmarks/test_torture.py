"""The torture test: a few of its trials, and that its report counts faults."""

import pytest

from benchmarks import torture


def test_the_report_counts_faults():
    text = torture.report([torture.Trial("one"), torture.Trial("two", "a traceback")], 0)
    assert "2 trials, 1 faults" in text and "| two | a traceback |" in text


@pytest.mark.slow
def test_interrupted_and_damaged_runs_end_alike():
    trials = list(torture.torture(kills=6, flips=6, disks=0, seed=1))
    assert len(trials) == 12 and [trial for trial in trials if trial.fault] == []
