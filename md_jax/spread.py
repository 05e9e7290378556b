"""Few of many: which frames, windows or pictures stand for all of them."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int


def evenly(count: int, most: int) -> Int[np.ndarray, "n"]:
    """Indices of at most `most` of `count` things, evenly spread from the first to the last, each once."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int)
