"""Pictures laid out with Pillow: the sheet (frames × rows, as the paper's Fig. 3), video frames, previews."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from md_jax.mocap.windows import evenly

INK, GREY, ACCENT, PAPER = (28, 32, 40), (112, 119, 130), (37, 99, 189), (255, 255, 255)
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
LONGEST_TEXT = 1000  # characters that a picture begins to lay out: more fit into none
MAX_FRAMES = 10  # columns of a sheet
PANEL = (240, 243, 247)  # background of the rendered tiles; the panels around them have the same


@dataclasses.dataclass(frozen=True)
class Row:
    """One strip of frames and what stands to its left."""

    label: str
    note: str
    tiles: UInt8[np.ndarray, "F H W 3"]
    accent: bool = False  # the run itself, not a control


def draw_sheet(
    title: str, subtitle: str, rows: Sequence[Row], seconds: Sequence[float], *, max_frames: int = MAX_FRAMES
) -> Image.Image:
    """The sheet: a title, labelled rows of frames, and the time under each column.

    Args:
        title: the prompt.
        subtitle: one line of small print under it.
        rows: strips whose tiles all have one size and whose frames were taken at the same times.
        seconds: time of each frame.
        max_frames: columns shown at most, evenly spread.

    Returns:
        An RGB image.

    Raises:
        ValueError: the rows do not fit together.
    """
    shapes = {row.tiles.shape for row in rows}
    if len(shapes) != 1 or len(seconds) != next(iter(shapes))[0]:
        raise ValueError(f"rows need one shape of tiles and {len(seconds)} frames, got {sorted(shapes)}.")
    count, height, width, _ = rows[0].tiles.shape
    shown = evenly(count, max_frames)
    panel_width = width * len(shown)
    # Type grows with the width, to be legible when the sheet is shown small, as far as three lines fit a row.
    unit = float(np.clip(panel_width / 140, height / 24, height / 13))
    margin, gap, label_width = round(2.4 * unit), round(0.9 * unit), round(20 * unit)
    total_width = 2 * margin + label_width + panel_width
    top = margin + round(8.2 * unit)
    total_height = top + len(rows) * (height + gap) + round(2.4 * unit) + margin
    image = Image.new("RGB", (total_width, total_height), PAPER)
    draw = ImageDraw.Draw(image)

    inner = total_width - 2 * margin
    text, font = _fit(draw, f"“{title}”", inner, size=3.8 * unit, smallest=2.4 * unit)
    draw.text((margin, margin + 1.7 * unit), text, INK, font=font, anchor="lm")
    text, font = _fit(draw, subtitle, inner, size=1.9 * unit, smallest=1.6 * unit)
    draw.text((margin, margin + 5.2 * unit), text, GREY, font=font, anchor="lm")

    left = margin + label_width
    for i, row in enumerate(rows):
        y = top + i * (height + gap)
        strip = np.concatenate(list(row.tiles[shown]), axis=1)
        image.paste(_rounded(strip, radius=round(0.9 * unit)), (left, y))
        bar = (margin, y, margin + round(0.35 * unit), y + height - 1)
        draw.rectangle(bar, fill=ACCENT if row.accent else (205, 210, 217))
        _label(draw, row, margin + 1.4 * unit, y + height / 2, label_width - 2.2 * unit, unit)
    for column, frame in enumerate(shown):
        x = left + width * (column + 0.5)
        y = top + len(rows) * (height + gap) + 0.6 * unit
        draw.text((x, y), f"{seconds[frame]:.1f} s", GREY, font=_font(1.8 * unit), anchor="mt")
    return image


def draw_views(views: dict[str, UInt8[np.ndarray, "F H W 3"]], title: str) -> UInt8[np.ndarray, "F h w 3"]:
    """Frames of a video: views side by side, the title above, labels and a line that grows with time below.

    Args:
        views: frames by label, all of one shape.
        title: the prompt.

    Returns:
        Frames of even height and width.
    """
    count, height, width, _ = next(iter(views.values())).shape
    head, foot, line = height // 7, height // 11, max(3, height // 60)
    total_width, total_height = len(views) * width, head + height + foot + line
    canvas = Image.new("RGB", (total_width + total_width % 2, total_height + total_height % 2), PANEL)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, canvas.width, head - 1), fill=PAPER)
    text, font = _fit(draw, title, total_width - head, size=0.45 * head, smallest=0.28 * head)
    draw.text((head / 2, head / 2), text, INK, font=font, anchor="lm")
    small = _font(0.55 * foot)
    for i, name in enumerate(views):
        draw.text(((i + 0.5) * width, head + height + 0.55 * foot), name, GREY, font=small, anchor="ms")
    frames = np.repeat(np.asarray(canvas)[None], count, axis=0)
    for i, tiles in enumerate(views.values()):
        frames[:, head : head + height, i * width : (i + 1) * width] = tiles
    for f in range(count):
        frames[f, -line:, : round(canvas.width * (f + 1) / count)] = ACCENT
    return frames


def draw_preview(strips: UInt8[np.ndarray, "M F H W 3"], caption: str, prompts: Sequence[str] = ()) -> Image.Image:
    """A small picture of M motions in the making: one row a motion, under its prompt, and a caption below.

    Args:
        strips: the rows.
        caption: one line.
        prompts: of the motions; one that is the same as that of the row above is not written again.
    """
    count, frames, height, width, _ = strips.shape
    line = max(14, height // 6)
    titles = [prompts[m] if m < len(prompts) and prompts[m] not in prompts[m - 1 : m] else "" for m in range(count)]
    total = count * height + line * (1 + sum(map(bool, titles)))
    image = Image.new("RGB", (frames * width, total), PAPER)
    draw, font, y = ImageDraw.Draw(image), _font(0.75 * line), 0

    def write(text: str, color: tuple[int, int, int]) -> None:
        draw.text((line / 3, y + line / 2), _cut(draw, text, font, image.width - line), color, font=font, anchor="lm")

    for strip, title in zip(strips, titles, strict=True):
        if title:
            write(title, INK)
            y += line
        image.paste(Image.fromarray(np.concatenate(list(strip), axis=1)), (0, y))
        y += height
    write(caption, GREY)
    return image


def encode_png(image: Image.Image, colors: int | None = 256) -> bytes:
    """PNG bytes; with a palette of `colors` a sheet takes a third of the room and looks the same."""
    buffer = io.BytesIO()
    if colors:
        image = image.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    image.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# --- helpers ------------------------------------------------------------------------------------------------


def _font(size: float) -> Font:
    return ImageFont.load_default(size=max(6.0, size))


def _fit(draw: ImageDraw.ImageDraw, text: str, width: float, *, size: float, smallest: float) -> tuple[str, Font]:
    """The text and the largest font in which it fits `width`; cut short if even `smallest` is too large."""
    text = text[:LONGEST_TEXT]
    while size > smallest and draw.textlength(text, font=_font(size)) > width:
        size *= 0.95
    return _cut(draw, text, _font(size), width), _font(size)


def _cut(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> str:
    """The text, or as much of its beginning as fits with an ellipsis, found by bisection."""
    text = text[:LONGEST_TEXT]
    if draw.textlength(text, font=font) <= width:
        return text
    fits, too_long = 0, len(text)  # characters
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        short = draw.textlength(text[:middle] + "…", font=font) <= width
        fits, too_long = (middle, too_long) if short else (fits, middle)
    return text[:fits].rstrip() + "…"


def _wrap(draw: ImageDraw.ImageDraw, text: str, font: Font, width: float) -> list[str]:
    """As few lines at most `width` wide as possible, of about equal length."""

    def broken(limit: float) -> list[str]:
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if not lines[-1] or draw.textlength(longer, font=font) <= limit:
                lines[-1] = longer
            else:
                lines.append(word)
        return lines

    text = text[:LONGEST_TEXT]
    lines, limit = broken(width), width
    while limit > 0 and len(broken(limit)) == len(lines):
        lines, limit = broken(limit), limit - width / 40
    return [_cut(draw, line, font, width) for line in lines]


def _label(draw: ImageDraw.ImageDraw, row: Row, x: float, middle: float, width: float, unit: float) -> None:
    """Label and note of a row, centred on its middle."""
    sizes = ((row.label, 2.4 * unit, ACCENT if row.accent else INK), (row.note, 1.9 * unit, GREY))
    lines = [
        (line, _font(size), size, color)
        for text, size, color in sizes
        for line in _wrap(draw, text, _font(size), width)
    ]
    y = middle - sum(1.3 * size for _, _, size, _ in lines) / 2
    for line, font, size, color in lines:
        draw.text((x, y + 0.65 * size), line, color, font=font, anchor="lm")
        y += 1.3 * size


def _rounded(strip: UInt8[np.ndarray, "H W 3"], radius: int) -> Image.Image:
    """The strip with its corners cut round."""
    height, width, _ = strip.shape
    image = Image.new("RGB", (width, height), PAPER)
    image.paste(Image.fromarray(strip), (0, 0), _round_corners(width, height, radius))
    return image


@functools.lru_cache(maxsize=2)
def _round_corners(width: int, height: int, radius: int) -> Image.Image:
    """A mask with smooth edges: drawn four times as large, then scaled down."""
    mask = Image.new("L", (4 * width, 4 * height), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * width - 1, 4 * height - 1), 4 * radius, fill=255)
    return mask.resize((width, height), Image.Resampling.LANCZOS)
