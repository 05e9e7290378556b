"""Frames as H.264 in an mp4, by PyAV, and as a small looping GIF or WebP, by Pillow."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from md_jax.errors import UserError
from md_jax.files import replacing, write_bytes

MIN_SECONDS = 4.0  # players that do not loop should show a short motion more than once
_CODECS = {"libx264": {"crf": "20", "preset": "veryfast"}, "mpeg4": {"qscale": "3"}}


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


def write_loop(path: Path, frames: UInt8[np.ndarray, "F H W 3"], fps: float) -> None:
    """Write frames as a picture that moves without end: GIF (up to 50 fps) or WebP, by the file's ending.

    Args:
        path: a .gif or .webp file.
        frames: sRGB.
        fps: frames a second; a GIF counts in hundredths of a second.

    Raises:
        ValueError: the frames are not (F, H, W, 3) uint8, or the ending is another one.
        UserError: the file cannot be written.
    """
    _check(frames)
    milliseconds = 1000 / fps
    buffer = io.BytesIO()
    if path.suffix == ".gif":
        # One palette for all frames: with one each, flat colours would flicker.
        sample = frames[:: max(1, len(frames) // 8)]
        strip = Image.fromarray(sample.reshape(-1, *sample.shape[2:]))
        palette = strip.quantize(128, method=Image.Quantize.MEDIANCUT)
        images = [Image.fromarray(f).quantize(palette=palette, dither=Image.Dither.NONE) for f in frames]
        duration = 10 * max(2, round(milliseconds / 10))
        options: dict = {"format": "GIF", "duration": duration, "optimize": False}
    elif path.suffix == ".webp":
        images = [Image.fromarray(f) for f in frames]
        options = {"format": "WEBP", "duration": round(milliseconds), "quality": 80, "method": 4}
    else:
        raise ValueError(f"a looping picture is a .gif or a .webp, got {path.name}.")
    images[0].save(buffer, save_all=True, append_images=images[1:], loop=0, **options)
    write_bytes(path, buffer.getvalue())


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
