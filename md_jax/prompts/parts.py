"""A timeline of sentences: ``a person is walking: 2 | a person is punching: 1.5``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from md_jax.errors import UserError

BAR = "|"
LONGEST = 600.0  # seconds of a motion
_SECONDS = re.compile(r"^(?P<sentence>.*?)\s*:\s*(?P<seconds>\d+(?:\.\d*)?|\.\d+)\s*(?:s|sec|seconds)?$")


class PromptError(UserError):
    """A sentence that no motion can be made from."""


@dataclass(frozen=True)
class Part:
    """A sentence and the seconds that show it; None: as many as the others leave, or one clip of the prior."""

    sentence: str
    seconds: float | None = None


def parts_of(prompt: str) -> tuple[Part, ...]:
    """The parts of a prompt, in order; a prompt without a bar is one part, as it stands.

    Raises:
        PromptError: a part is empty, or its seconds are not between 0 and LONGEST.
    """
    if BAR not in prompt:
        return (Part(prompt),)
    return tuple(_part(text.strip(), prompt) for text in prompt.split(BAR))


def _part(text: str, prompt: str) -> Part:
    match = _SECONDS.match(text)
    sentence, seconds = (match["sentence"], float(match["seconds"])) if match else (text, None)
    if not sentence:
        raise PromptError(f"the prompt {_short(prompt)!r} has an empty part: expected SENTENCE | SENTENCE, with"
                          " :SECONDS after each if you like.")  # fmt: skip
    if seconds is not None and not 0 < seconds <= LONGEST:
        raise PromptError(f"the prompt's part {_short(text)!r} must last between 0 and {LONGEST:g} seconds.")
    return Part(sentence, seconds)


def lasts_one_clip(parts: Sequence[Part], whole: float | None) -> bool:
    """Whether a motion is as long as the prior's clip, for nobody says how long it is; arguments as in `seconds_of`."""
    return whole is None and len(parts) == 1


def seconds_of(parts: Sequence[Part], whole: float | None, clip: float) -> list[float]:
    """The seconds of each part.

    Args:
        parts: of a prompt.
        whole: seconds of the motion (--seconds); None: what the parts add up to.
        clip: seconds of the prior's clip, which a part without a number lasts where nothing else is said.

    Raises:
        PromptError: the parts do not fit into the whole.
    """
    given = sum(part.seconds or 0.0 for part in parts)
    silent = sum(part.seconds is None for part in parts)
    if whole is None:
        return [clip if part.seconds is None else part.seconds for part in parts]
    rest = whole - given
    if (silent and rest <= 0) or (not silent and abs(rest) > 1e-6):
        raise PromptError(f"--seconds={whole:g}, and the parts of the prompt take {given:g} s"
                        + (f" without the {silent} that have no number" if silent else "")
                        + ": leave --seconds out, or change a part.")  # fmt: skip
    return [rest / silent if part.seconds is None else part.seconds for part in parts]


def joined(lines: Sequence[str]) -> str:
    """The prompt of a timeline file's lines."""
    return f" {BAR} ".join(lines)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
