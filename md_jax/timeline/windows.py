"""Motions longer than a prior's clip: which windows of them are judged, and what each window is told to show.

A video prior judges clips of its own length. A longer motion is seen through windows of that length, one a view and
step, so that neither memory nor the time of a step grows with the motion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from md_jax.errors import UserError


class Stretch(NamedTuple):
    """A part of a motion that shows one sentence."""

    sentence: int  # its number among the run's sentences
    first: float  # the frame at which it begins
    end: float  # the frame at which the next begins; F at the last
    repeat: float | None  # frames after which the action looks the same again, for a prior that knows one phase of it


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The windows of M motions of F frames each, and the sentence of each window."""

    length: int  # frames of a window: the prior's clip
    frames: int  # F
    loop: bool  # whether frame F is frame 0 again
    frame_stride: int  # frames to a latent, of a VAE that compresses time: windows begin at its multiples
    starts: Int[np.ndarray, "M n"]  # first frames; a row repeats its first entry from `count` on
    sentences: Int[np.ndarray, "M n"]  # numbers among the run's sentences
    count: Int[np.ndarray, "M"]


def make_windows(
    stretches: Sequence[Sequence[Stretch]], *, length: int, frames: int, loop: bool, frame_stride: int = 1
) -> Windows | None:
    """The windows of M motions; None where each is one clip.

    A prior of every phase judges any window. Where no frame comes before the first or after the last, the windows at
    the ends are listed half a clip's length more often, so that the end frames are seen half as often as others, and
    not a tenth. A prior that knows one phase of each action judges the windows that begin at that phase: one a repeat
    of the action. Frames between two such windows are the PoseField's, led by the smoothness term.

    Args:
        stretches: of each motion, in order; they cover its F frames.
        length: frames of the prior's clip.
        frames: F, at least `length`, but for a loop, whose windows may go round.
        loop: whether windows go on from the last frame to the first.
        frame_stride: frames to a latent.

    Raises:
        UserError: a stretch is too short for any window.
    """
    if frames == length and not loop and all(len(each) == 1 for each in stretches):
        return None
    rows = [_starts_of(each, length, frames, loop, frame_stride) for each in stretches]
    longest = max(len(starts) for starts, _ in rows)
    padded = [[np.r_[row, np.full(longest - len(row), row[0])] for row in pair] for pair in rows]
    starts, sentences = (np.array([pair[i] for pair in padded], np.int32) for i in (0, 1))
    count = np.array([len(row) for row, _ in rows], np.int32)
    return Windows(length, frames, loop, frame_stride, starts, sentences, count)


def _starts_of(
    stretches: Sequence[Stretch], length: int, frames: int, loop: bool, stride: int
) -> tuple[list[int], list[int]]:
    """First frames of a motion's windows, and the sentence of each: that of the frame in its middle."""
    last = frames - 1 if loop else frames - length
    if all(each.repeat is None for each in stretches):
        starts = list(range(0, last + 1, stride))
        if not loop:
            starts += [starts[0], starts[-1]] * (length // 2 // stride)
    else:
        found = (at for each in stretches for at in _repeats(each, length, loop and len(stretches) == 1))
        starts = [min(max(round(at / stride) * stride, 0), last // stride * stride) for at in found]
    sentences = [_sentence_at(stretches, (start + length / 2) % frames) for start in starts]
    if {each.sentence for each in stretches} - set(sentences):
        raise UserError(
            f"a part of the prompt is too short to be seen: give each part about the {length} frames of the prior's"
            " clip or more (PART:SECONDS, or a larger --seconds)."
        )
    return starts, sentences


def _repeats(stretch: Stretch, length: int, round_trip: bool) -> list[float]:
    """Where an action is at its one known phase again, evenly spaced, so that windows fill the stretch (frames)."""
    repeat, span = stretch.repeat or float(length), stretch.end - stretch.first
    room = span if round_trip else span - length
    times = max(1, round(room / repeat) + (not round_trip))
    step = room / max(times - (not round_trip), 1)
    return [stretch.first + (k * step if times > 1 else max(-room, 0) / -2) for k in range(times)]


def _sentence_at(stretches: Sequence[Stretch], frame: float) -> int:
    return next((each.sentence for each in stretches if frame < each.end), stretches[-1].sentence)
