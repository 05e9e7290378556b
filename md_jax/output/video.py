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
    if len(frames) == 1:  # two whole pictures in a row would need to be numbered apart
        frames = np.repeat(frames, 2, axis=0)
    loops = max(1, math.ceil(min_seconds * fps / len(frames)))
    codec = _codec()
    rate = Fraction(fps).limit_denominator(1001)
    faststart = {"movflags": "faststart"}  # the index in front: browsers play before they have it all
    with replacing(path) as part, av.open(str(part), "w", format="mp4", options=faststart) as container:
        stream = cast(av.VideoStream, container.add_stream(codec, rate=rate, options=_CODECS[codec]))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.thread_count = 1  # how x264 cuts a picture into slices depends on it: the same bytes on every machine
        once = [packet for frame in frames for packet in stream.encode(_picture(frame))] + stream.encode(None)
        for n in range(loops):
            container.mux([_later(packet, n * len(frames) / rate, stream) for packet in once])


def _picture(frame: UInt8[np.ndarray, "H W 3"]) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(frame, format="rgb24")


def _later(packet: av.Packet, seconds: Fraction, stream: av.VideoStream) -> av.Packet:
    """A copy of an encoded packet, some time later. A clip begins with a whole picture, so it can follow on itself."""
    assert packet.pts is not None and packet.dts is not None and packet.time_base is not None
    copy, ticks = av.Packet(bytes(packet)), int(seconds / packet.time_base)
    copy.stream, copy.time_base, copy.duration = stream, packet.time_base, packet.duration
    copy.pts, copy.dts, copy.is_keyframe = packet.pts + ticks, packet.dts + ticks, packet.is_keyframe
    return copy


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
