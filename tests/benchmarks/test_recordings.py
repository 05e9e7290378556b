"""benchmarks.recordings: training recordings, judged as motions are."""

import numpy as np
import pytest

from benchmarks import recordings
from md_jax.evaluate import likeness
from md_jax.evaluate.yardstick import load_yardstick


def test_a_recording_is_judged_by_its_windows():
    """Of runs, against ratios taken here from the windows themselves."""
    yardstick = load_yardstick()
    found = recordings.judged(yardstick, "running")
    real = yardstick.reference("running", "turning")
    assert len(found) == len(np.unique(real.others.recording)) == 5
    wrists = likeness.sweep(real.others.joints, likeness.WRISTS, likeness.FORE_AFT)
    median = np.median(likeness.sweep(real.held_out.joints, likeness.WRISTS, likeness.FORE_AFT))
    expected = [np.median(wrists[real.others.recording == r]) / median for r in np.unique(real.others.recording)]
    assert [each["wrists_fore_aft_ratio"] for each in found] == pytest.approx(expected, rel=0.02)


def test_the_table_has_our_median_beside_the_recordings():
    found = {"walking": [dict.fromkeys(recordings.MEASURES, x) for x in (1.0, 2.0, 4.0)]}
    ours = [{"expected": "walking", **dict.fromkeys(recordings.MEASURES, x)} for x in (0.5, 0.7, 0.9)]
    ours.append({"expected": "running", **dict.fromkeys(recordings.MEASURES, 9.0)})
    table = recordings.report(found, ours)
    assert "walking, 3" in table and table.count("0.70 (1.00, 2.00, 4.00)") == len(recordings.MEASURES)
