"""Few windows, frames or pictures of many."""

import numpy as np
import pytest

from md_jax.mocap.windows import evenly


@pytest.mark.parametrize(("count", "most"), [(0, 8), (1, 8), (8, 8), (9, 8), (20, 8), (1000, 7), (5, 1)])
def test_first_and_last_are_there_and_the_gaps_are_alike(count, most):
    chosen = evenly(count, most)
    assert len(chosen) == min(count, most) == len(set(chosen.tolist()))
    if len(chosen) > 1:
        assert chosen[0] == 0 and chosen[-1] == count - 1
        assert np.ptp(np.diff(chosen)) <= 1
