"""How long a run's motions are, and which sentence each part of them shows."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.prompts.parts import Part, lasts_one_clip, seconds_of
from md_jax.timeline.windows import Stretch, Windows, make_windows


@dataclasses.dataclass(frozen=True)
class Clip:
    """The clip that a prior judges."""

    frames: int
    fps: float
    frame_stride: int = 1  # frames to a latent


@dataclasses.dataclass(frozen=True)
class Plan:
    """The frames of M motions and what they show."""

    frames: int  # of each motion
    stretches: list[list[Stretch]]  # of each motion; their sentences count through all motions
    windows: Windows | None  # None: a motion is one clip


def plan(config: Config, parts: Sequence[tuple[Part, ...]], clip: Clip) -> Plan:
    """The frames of the motions of a run.

    A motion of s seconds has its first frame at 0 and its last at s; a loop comes round to its first frame after s
    seconds.

    Args:
        config: the options.
        parts: of each motion's prompt.
        clip: of the prior.

    Raises:
        UserError: a motion is shorter than the clip, or the motions are of different lengths.
    """
    of_clip = clip.frames / clip.fps
    lengths = [_frames_of(config, each, clip) for each in parts]
    if len(set(lengths)) > 1:
        few, many = min(lengths) / clip.fps, max(lengths) / clip.fps
        raise UserError(f"the motions of a run are of one length, and these prompts ask for {few:.1f} to {many:.1f} s:"
                        " give --seconds, or make them in runs of their own.")  # fmt: skip
    frames, number = lengths[0], 0
    stretches: list[list[Stretch]] = []
    for each in parts:
        seconds = seconds_of(each, config.seconds, of_clip)
        scale, at, row = frames / sum(seconds), 0.0, []
        for lasts in seconds:
            row.append(Stretch(number, at, at + scale * lasts))
            at, number = at + scale * lasts, number + 1
        stretches.append(row)
    windows = make_windows(
        stretches, length=clip.frames, frames=frames, loop=config.loop, frame_stride=clip.frame_stride
    )
    return Plan(frames, stretches, windows)


def _frames_of(config: Config, parts: Sequence[Part], clip: Clip) -> int:
    of_clip = clip.frames / clip.fps
    if lasts_one_clip(parts, config.seconds):
        return _whole_latents(clip.frames, clip, config.loop)
    seconds = sum(seconds_of(parts, config.seconds, of_clip))
    frames = round(seconds * clip.fps) + (not config.loop)
    if frames < clip.frames:
        least = (clip.frames - (not config.loop)) / clip.fps
        raise UserError(f"a motion of {seconds:g} s is shorter than the prior's clip: expected at least {least:g} s;"
                        " leave the seconds out for one clip, or take fewer --frames where the prior can.")  # fmt: skip
    return _whole_latents(frames, clip, config.loop)


def _whole_latents(frames: int, clip: Clip, loop: bool) -> int:
    """The least number of frames, not below `frames`, whose windows can begin at whole latents up to the end."""
    beyond = frames if loop else frames - clip.frames
    return frames + -beyond % clip.frame_stride


def length_line(plan: Plan, clip: Clip, loop: bool) -> str:
    """How long a motion is, for the terminal."""
    frames, window = plan.frames, plan.windows
    seconds = (frames if loop else frames - 1) / clip.fps
    seen = "" if window is None else f", judged in windows of {clip.frames}"
    return f"{frames} frames, {math.floor(seconds * 100 + 0.5) / 100:g} s{', going round' if loop else ''}{seen}"
