"""Bar charts as PNG files, by Pillow alone."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

WIDTH, LABELS, ROW, MARGIN = 1000, 230, 30, 24  # pixels
INK, SOFT, WEAK, STRONG = "#202020", "#707070", "#9db4c8", "#d9713c"


class Bar(NamedTuple):
    """One bar, with a whisker from low to high."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    strong: bool = False  # in the colour that stands out


class Panel(NamedTuple):
    """Bars on one scale, which starts at zero."""

    title: str
    bars: Sequence[Bar]


def bars(path: Path, panels: Sequence[Panel], words: str = "") -> None:
    """Draw the panels below each other, and `words` in small print at the end."""
    text, small = ImageFont.load_default(15), ImageFont.load_default(12)
    print_lines = textwrap.wrap(words, 150)
    height = 2 * MARGIN + 17 * len(print_lines) + sum(ROW * (len(panel.bars) + 2) for panel in panels)
    image = Image.new("RGB", (WIDTH, height), "white")
    pen = ImageDraw.Draw(image)
    y = MARGIN
    for panel in panels:
        pen.text((MARGIN, y), panel.title, INK, text)
        y += ROW
        longest = max([max(bar.value, bar.high or 0) for bar in panel.bars], default=0) or 1.0
        scale = (WIDTH - LABELS - MARGIN - 110) / longest
        for bar in panel.bars:
            end, middle = LABELS + scale * bar.value, y + ROW / 2
            pen.text((MARGIN, middle), bar.label, INK, text, anchor="lm")
            pen.rectangle((LABELS, y + 4, max(end, LABELS + 1), y + ROW - 4), STRONG if bar.strong else WEAK)
            if bar.low is not None and bar.high is not None:
                low, high = LABELS + scale * bar.low, LABELS + scale * bar.high
                pen.line((low, middle, high, middle), INK, 2)
                end = max(end, high)
            pen.text((end + 8, middle), _number(bar.value), SOFT, text, anchor="lm")
            y += ROW
        y += ROW
    for line in print_lines:
        pen.text((MARGIN, y), line, SOFT, small)
        y += 17
    image.save(path, optimize=True)


def _number(value: float) -> str:
    """Three digits, never 1e+03."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
