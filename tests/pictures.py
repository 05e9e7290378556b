"""What a test can say of a picture that a program drew."""

from pathlib import Path

import numpy as np
from PIL import Image


def colours(path: Path) -> set[tuple[int, int, int]]:
    """The colours of a picture file; reading it whole checks that it is complete."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    return {tuple(int(c) for c in colour) for colour in np.unique(pixels.reshape(-1, 3), axis=0)}


def assert_drawn(path: Path, *, least: float = 0.01, most: float = 0.9) -> None:
    """Some of the picture, and not all of it, differs from its background (the colour of its corner)."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    share = float((np.abs(pixels - pixels[0, 0]).max(axis=-1) > 24).mean())
    assert least < share < most, f"{path.name}: {share:.3f} of the picture differs from its background"
    rows, columns = (np.ptp(np.flatnonzero((np.abs(pixels - pixels[0, 0]).max(axis=-1) > 24).any(axis=axis)))
                     for axis in (1, 0))  # fmt: skip
    assert rows > pixels.shape[0] / 3 and columns > pixels.shape[1] / 3, f"{path.name}: drawn in one corner only"
