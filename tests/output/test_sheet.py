"""Layout of the pictures, checked on tiles of flat colour."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from md_jax.output import sheet

COLORS = ((200, 30, 30), (30, 200, 30), (30, 30, 200))


def _tiles(color, count=5, height=120, width=80):
    """A bar of `color` that moves right from frame to frame on the panel's background."""
    tiles = np.full((count, height, width, 3), sheet.PANEL, np.uint8)
    for f in range(count):
        tiles[f, 40:80, 10 * f + 5 : 10 * f + 15] = color
    return tiles


def _rows(count=5):
    return [sheet.Row(f"row {i}", "a note", _tiles(c, count), accent=i == 0) for i, c in enumerate(COLORS)]


def _boxes(image, color):
    """Left edges of the runs of `color` along the picture's busiest line."""
    hit = (np.asarray(image) == color).all(-1)
    line = hit[hit.sum(1).argmax()]
    return np.flatnonzero(np.diff(line.astype(int)) == 1) + 1, hit


def test_every_frame_of_every_row_is_there_in_order():
    image = sheet.draw_sheet("a person is walking", "seed 0", _rows(), [0.1 * f for f in range(5)])
    tops = []
    for color in COLORS:
        lefts, hit = _boxes(image, color)
        assert len(lefts) == 5
        assert (np.diff(lefts) == 80 + 10).all(), "tiles lie side by side, and the bar moves on by 10"
        assert hit.sum() == 5 * 40 * 10
        tops.append(np.flatnonzero(hit.any(1))[0])
    assert (np.diff(tops) > 120).all(), "rows one below the other, with a gap"


def test_title_labels_and_times_leave_ink_and_margins_stay_free():
    pixels = np.asarray(sheet.draw_sheet("a person is walking", "seed 0", _rows(), [0.1] * 5)).astype(int)
    dark = pixels.sum(-1) < 300
    assert dark[:40, :300].sum() > 100, "the title"
    panel = np.flatnonzero((pixels == sheet.PANEL).all(-1).sum(0) > 50)[0]
    assert dark[60:-40, 15:panel].sum() > 50, "the labels"
    assert (pixels[-40:] < 200).all(-1).sum() > 50, "the times"
    assert (pixels[:, -8:] == 255).all() and (pixels[:5] == 255).all() and (pixels[-5:] == 255).all()


def test_many_frames_are_thinned_evenly_with_both_ends():
    rows = [sheet.Row("row", "", np.stack([np.full((60, 40, 3), f, np.uint8) for f in range(31)]))]
    pixels = np.asarray(sheet.draw_sheet("a", "", rows, list(range(31)), max_frames=4))
    present = [f for f in range(31) if (pixels == f).all(-1).sum() > 2000]
    assert present == [0, 10, 20, 30]


@pytest.mark.parametrize("title", ["x", "a very long prompt " * 30, "W" * 400, "Ünïcode “quotes” …"])
def test_any_title_stays_within_the_margins(title):
    pixels = np.asarray(sheet.draw_sheet(title, title, _rows(2), [0.0, 0.1]))
    assert (pixels[:, -8:] == 255).all()


def test_rows_that_do_not_fit_together_are_refused():
    rows = [sheet.Row("a", "", _tiles(COLORS[0], 5)), sheet.Row("b", "", _tiles(COLORS[1], 4))]
    with pytest.raises(ValueError, match="one shape of tiles"):
        sheet.draw_sheet("a", "", rows, [0.0] * 5)


def test_labels_wrap_into_lines_of_about_equal_length():
    draw, font = ImageDraw.Draw(Image.new("RGB", (10, 10))), ImageFont.load_default(size=20)
    width = draw.textlength("mean pose, held", font=font) + 1
    assert sheet._wrap(draw, "mean pose, held still", font, width) == ["mean pose,", "held still"]
    assert sheet._wrap(draw, "guidance 0", font, width) == ["guidance 0"]
    assert sheet._wrap(draw, "", font, width) == [""]
    (cut,) = sheet._wrap(draw, "incomprehensibilities", font, width)
    assert cut.endswith("…") and draw.textlength(cut, font=font) <= width


def test_video_frames_hold_the_views_side_by_side_with_a_line_that_grows():
    views = dict(zip(("front", "left", "back"), map(_tiles, COLORS), strict=True))
    frames = sheet.draw_views(views, "a person is walking")
    assert frames.dtype == np.uint8 and frames.shape[0] == 5
    assert frames.shape[1] % 2 == 0 and frames.shape[2] % 2 == 0
    for f, frame in enumerate(frames):
        for i, color in enumerate(COLORS):
            columns = np.flatnonzero((frame == color).all(-1).any(0))
            assert columns[0] == 80 * i + 10 * f + 5 and len(columns) == 10
        assert (frame[-1] == sheet.ACCENT).all(-1).sum() == pytest.approx(frame.shape[1] * (f + 1) / 5, abs=1)


def test_a_preview_says_its_prompts_each_once():
    strips = np.stack([_tiles(c) for c in COLORS])
    plain = sheet.draw_preview(strips, "step 1")
    for prompts, lines in ((["walks"] * 3, 1), (["walks", "runs", "runs"], 2), (["a", "b", "a"], 3), (["walks"], 1)):
        titled = sheet.draw_preview(strips, "step 1", prompts)
        assert titled.height - plain.height == lines * 20, prompts
        pixels = np.asarray(titled).astype(int)
        assert (pixels[:20].sum(-1) < 300).sum() > 20, "the first prompt stands on top"
        for color in COLORS:
            assert (pixels == color).all(-1).sum() == 5 * 40 * 10, "no line covers a picture"


def test_preview_and_png_round_trip():
    strips = np.stack([_tiles(c) for c in COLORS])
    image = sheet.draw_preview(strips, "step 100 of 300")
    assert image.width == 5 * 80 and image.height > 3 * 120
    back = Image.open(io.BytesIO(sheet.encode_png(image))).convert("RGB")
    assert back.size == image.size
    assert np.abs(np.asarray(back).astype(int) - np.asarray(image)).mean() < 1.0
