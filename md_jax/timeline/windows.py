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


@dataclasses.dataclass(frozen=True, eq=False)
class Windows:
    """The windows of M motions of F frames each, and the sentence of each window."""

    length: int  # frames of a window: the prior's clip
    frames: int  # F
    loop: bool  # whether frame F is frame 0 again
    frame_stride: int  # frames to a latent, of a VAE that compresses time: windows begin at its multiples
    starts: Int[np.ndarray, "n"]  # first frames, of every motion
    sentences: Int[np.ndarray, "M n"]  # numbers among the run's sentences


def make_windows(
    stretches: Sequence[Sequence[Stretch]], *, length: int, frames: int, loop: bool, frame_stride: int = 1
) -> Windows | None:
    """The windows of M motions; None where each is one clip.

    Any window is judged. Where no frame comes before the first or after the last, the windows at the ends are listed
    half a clip's length more often, so that the end frames are seen half as often as others, and not a tenth.

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
    starts = list(range(0, frames if loop else frames - length + 1, frame_stride))
    if not loop:
        starts += [starts[0], starts[-1]] * (length // 2 // frame_stride)
    middles = [(start + length / 2) % frames for start in starts]
    sentences = [[_sentence_at(each, middle) for middle in middles] for each in stretches]
    if any({part.sentence for part in each} - set(own) for each, own in zip(stretches, sentences, strict=True)):
        raise UserError(
            f"a part of the prompt is too short to be seen: give each part about the {length} frames of the prior's"
            " clip or more (PART:SECONDS, or a larger --seconds)."
        )
    return Windows(length, frames, loop, frame_stride, np.array(starts, np.int32), np.array(sentences, np.int32))


def _sentence_at(stretches: Sequence[Stretch], frame: float) -> int:
    return next((each.sentence for each in stretches if frame < each.end), stretches[-1].sentence)
