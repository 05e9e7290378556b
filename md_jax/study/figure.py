"""The study's figure, as the paper's Figs. 3 and 4: rows prompts x priors (pose, then latent mode), columns frames.

Columns are moments: all rows are shown at the same times, from the start to the end of the shortest clip.

Source: Janson et al. 2024, Figs. 3 and 4.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from md_jax.errors import UserError

logging.getLogger("matplotlib").setLevel(logging.WARNING)  # it announces the fonts that it finds

TILE = 128  # pixels
COLUMNS = 10
SLANTED = math.pi / 4  # the camera's azimuth where the prompt names no view


@dataclasses.dataclass(frozen=True)
class Strip:
    """One row: what it is, and its frames."""

    prompt: str
    label: str
    fps: float
    vertices: Float[np.ndarray, "F V 3"] | None = None  # of a motion
    video: UInt8[np.ndarray, "F H W 3"] | None = None  # of latent mode
    body: tuple[str, str] = ("free", "neutral")

    @property
    def duration(self) -> float:
        """Seconds from the first frame to the last."""
        clip = self.video if self.vertices is None else self.vertices
        assert clip is not None
        return (len(clip) - 1) / self.fps


def draw(folder: Path, records: Sequence[dict[str, Any]], path: Path, *, columns: int = COLUMNS) -> None:
    """Draw the first seed of every prompt, prior and mode.

    Args:
        folder: the study's.
        records: of finished cells (`study_report.read_records`).
        path: the picture.
        columns: moments shown.

    Raises:
        UserError: a run's file is missing, or the picture cannot be written.
    """
    from matplotlib.figure import Figure

    first: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        first.setdefault(tuple(record[k] for k in ("prompt", "prior", "prior_path", "mode")), record)
    chosen = list(first.values())
    strips = [read_strip(folder / r["folder"], r) for r in chosen]
    times = np.linspace(0, min(strip.duration for strip in strips), columns)
    pictures = render_strips(strips, times)
    figure = Figure(figsize=(2.6 + 0.95 * columns, 0.5 + 0.98 * len(strips)), dpi=130)
    axes = figure.subplots(len(strips), 1, squeeze=False)[:, 0]
    for place, (axis, strip, picture) in enumerate(zip(axes, strips, pictures, strict=True)):
        axis.imshow(np.concatenate(list(picture), axis=1))
        axis.set_xticks([])
        axis.set_yticks([])
        for side in axis.spines.values():
            side.set_visible(False)
        new = place == 0 or strips[place - 1].prompt != strip.prompt
        beside = functools.partial(axis.text, transform=axis.transAxes, ha="right")
        if new:
            beside(-0.01, 0.46, "\n".join(textwrap.wrap(f"“{strip.prompt}”", 28)), va="bottom", fontsize=9)
        beside(-0.01, 0.4 if new else 0.5, strip.label, va="top" if new else "center", fontsize=8, color="#2563bd")
    axes[-1].set_xticks([TILE * (i + 0.5) for i in range(columns)], [f"{t:.1f} s" for t in times], fontsize=8)
    axes[-1].tick_params(length=0)
    figure.subplots_adjust(left=2.3 / figure.get_figwidth(), right=0.995, top=0.995, hspace=0.03,
                           bottom=0.3 / figure.get_figheight())  # fmt: skip
    try:
        figure.savefig(path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}.") from error


def read_strip(folder: Path, record: dict[str, Any]) -> Strip:
    """The clip of a finished run.

    Raises:
        UserError: its file is missing or of another version.
    """
    from md_jax.mocap.motion import load_motion
    from md_jax.mocap.posing import vertices_of
    from md_jax.options.flags import from_flagfile

    label = f"{record['prior']}, {record['mode']} mode"
    if record["mode"] == "latent":
        try:
            data = np.load(folder / "latents.npz")
            return Strip(record["prompt"], label, float(data["fps"]), video=data["video"])
        except (OSError, KeyError, ValueError) as error:
            raise UserError(
                f"{folder / 'latents.npz'} cannot be read: {error}. Remove the folder to run it anew."
            ) from error
    config = from_flagfile(folder / "run.flags")
    motion = load_motion(folder / "motion.npz")
    body = (config.body, config.gender)
    return Strip(record["prompt"], label, motion.fps, vertices=vertices_of(_body(*body), motion), body=body)


def render_strips(strips: Sequence[Strip], times: Float[np.ndarray, "T"]) -> list[UInt8[np.ndarray, "T H W 3"]]:
    """Square tiles of each strip at the given times (the nearest frame).

    Bodies are all shown at one scale. Where one travels far, the camera goes along with all.
    """
    from md_jax.output.pictures import frame_closer, make_renderer
    from md_jax.prompts.views import azimuth_arcs

    def at(clip: np.ndarray, fps: float) -> np.ndarray:
        return clip[np.minimum((times * fps).round().astype(int), len(clip) - 1)]

    azimuths = []
    for strip in strips:
        arcs = azimuth_arcs(strip.prompt)
        azimuths.append(sum(arcs[0]) / 2 if arcs else SLANTED)
    bodies = [strip.vertices for strip in strips if strip.vertices is not None]
    seen, framing = frame_closer(bodies, sorted(set(azimuths)), TILE) if bodies else ([], None)
    filmed, pictures = iter(seen), []
    for strip, azimuth in zip(strips, azimuths, strict=True):
        if strip.vertices is not None:
            assert framing is not None
            square = dataclasses.replace(framing, height=TILE, width=TILE)
            renderer = make_renderer(_body(*strip.body))
            pictures.append(renderer(at(next(filmed), strip.fps), azimuth, square))
        else:
            assert strip.video is not None
            pictures.append(squares(at(strip.video, strip.fps)))
    return pictures


def squares(video: UInt8[np.ndarray, "F H W 3"]) -> UInt8[np.ndarray, "F h w 3"]:
    """A video in square tiles, whole, on the colour of its first corner."""
    _, height, width, _ = video.shape
    scale = TILE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    tiles = np.empty((len(video), TILE, TILE, 3), np.uint8)
    tiles[:] = video[:, :1, :1]
    top, left = (TILE - size[1]) // 2, (TILE - size[0]) // 2
    for tile, frame in zip(tiles, video, strict=True):
        tile[top : top + size[1], left : left + size[0]] = np.asarray(Image.fromarray(frame).resize(size, how))
    return tiles


@functools.cache
def _body(source: str, gender: str) -> Any:
    from md_jax.body.model import load_body

    return load_body(source, gender)  # type: ignore[arg-type]
