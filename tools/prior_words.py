"""Captions of `tools.prior_scenes`: the action, how, to which side, at which moment, and from where it is seen."""

from __future__ import annotations

import math
import random
from typing import Any, NamedTuple

from tools.prior_text import OPENINGS, SUBJECTS, VIEW_NAMES, VIEW_SYNONYMS

LENGTH = 32  # tokens
MOST_MOMENTS = 16
ENDINGS = ("",) * 8 + (
    " around", " outside", " in the street", " on a beach", " in a park", " happily", " alone", ", full body",
    " at home",
)  # fmt: skip
SLOWLY = ("slowly", "slowly", "slowly", "slow", "calmly", "at a slow pace")
QUICKLY = ("quickly", "quickly", "quickly", "fast", "briskly", "energetically", "at a fast pace")
# What else the tokenizer must know.
WORDS = (*SLOWLY, *QUICKLY, "turning left turning right to the left to the right", "left handed right handed",
         "moment of " + " ".join(map(str, range(1, MOST_MOMENTS + 1))), *ENDINGS)  # fmt: skip


class Facts(NamedTuple):
    """What is known of a clip."""

    azimuth: float  # radians
    moment: int = -1  # counted from 0; -1: any
    moments: int = 0  # how many its action has
    side: str = ""  # "left" or "right"; "" for actions of both
    own_side: str = ""  # the side as recorded, which goes without saying
    tempo: str = ""  # "slowly" or "quickly"
    turn: str = ""  # "left" or "right"
    text: str = ""  # the database's own words


def moment_phrase(moment: int, moments: int) -> str:
    """How a caption and a prompt name a moment counted from 0."""
    return f"moment {moment + 1} of {moments}"


def caption(entry: dict[str, Any], facts: Facts, rng: random.Random) -> str:
    """A sentence for a clip; what it says is true, and what is true it does not always say."""
    words = rng.choice([entry["phrase"], entry["phrase"], *entry["synonyms"]])
    if facts.text and rng.random() < 0.2:
        words = f"{words}, {facts.text}"
    verb = rng.choice((" is ", " is ", " is ", " ", " who is ", ", ", " are "))
    text = rng.choice(OPENINGS) + rng.choice(SUBJECTS) + verb + words + rng.choice(ENDINGS)
    if rng.random() < 0.15:
        text = words  # the bare action
    if facts.tempo and rng.random() < 0.4:
        text += " " + rng.choice(SLOWLY if facts.tempo == "slowly" else QUICKLY)
    if facts.turn and rng.random() < 0.4:
        text += f" turning {facts.turn}"
    if facts.side and (facts.side != facts.own_side or rng.random() < 0.3):
        text += f", {facts.side}-handed"
    if facts.moment >= 0 and rng.random() < 0.9:
        text += f", {moment_phrase(facts.moment, facts.moments)}"
    quarter = math.floor(facts.azimuth / (math.pi / 2) + 0.5) % 4
    kind = rng.random()
    if kind < 0.65:
        text = f"{text}, {VIEW_NAMES[quarter]}"
    elif kind < 0.85:
        name = rng.choice(VIEW_SYNONYMS[quarter])
        text = f"{text}, {name}" if rng.random() < 0.7 else f"{name} of {text}"
    return text
