"""Frames as H.264 in an mp4, by PyAV."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from jaxtyping import UInt8

from md_jax.errors import UserError
from md_jax.files import replacing

MIN_SECONDS = 4.0  # players that do not loop should show a short motion more than once
# Without mbtree: in about one file of five it gave other bytes for the same pictures, even on one thread.
_CODECS = {"libx264": {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"}, "mpeg4": {"qscale": "3"}}


def write_mp4(
    path: Path, frames: UInt8[np.ndarray, "F H W 3"], fps: float, *, min_seconds: float = MIN_SECONDS
) -> None:
    """Write frames as an mp4, played from the start again until it lasts `min_seconds` (never backwards).

    Args:
        path: the file.
        frames: sRGB, row 0 at the top; a last odd row or column is cut off, since 4:2:0 video has none.
        fps: frames a second.
        min_seconds: shortest duration; whole repeats only.

    Raises:
        ValueError: the frames are not (F, H, W, 3) uint8, or too small.
        UserError: the file cannot be written, or this PyAV has no encoder for it.
    """
    _check(frames)
    frames = np.ascontiguousarray(frames[:, : frames.shape[1] // 2 * 2, : frames.shape[2] // 2 * 2])
    loops = max(1, math.ceil(min_seconds * fps / len(frames)))
    codec = _codec()
    rate = Fraction(fps).limit_denominator(1001)
    faststart = {"movflags": "faststart"}  # the index in front: browsers play before they have it all
    with replacing(path) as part, av.open(str(part), "w", format="mp4", options=faststart) as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=_CODECS[codec]))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # how x264 cuts a picture into slices depends on it: the same bytes on every machine
        for _ in range(loops):
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def _codec() -> str:
    for name in _CODECS:
        try:
            av.Codec(name, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
        return name
    raise UserError(
        f"this PyAV ({av.__version__}) can encode none of {', '.join(_CODECS)}: install the wheel of `av`"
        " that the package index offers."
    )


def _check(frames: np.ndarray) -> None:
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or min(frames.shape[:3]) < 1:
        raise ValueError(f"expected frames (F, H, W, 3) uint8, got {frames.shape} {frames.dtype}.")
