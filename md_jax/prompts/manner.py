"""How an action is done, in the words of training captions: "slowly", "turning left", "with the right hand".

A text encoder of closed vocabulary reads these phrases and no others, so a sentence is put in them as far as it can be.
The phrase for a moment, one of the looks that an action goes through, is drawn: a seed decides where a walk begins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from md_jax.prompts.negation import negates
from md_jax.prompts.tokens import tokens_of
from md_jax.prompts.views import find_views

_TEMPO = {
    "slowly": ("slowly", "slow", "slower", "gently", "lazily", "calmly", "unhurriedly", "leisurely", "sluggishly"),
    "quickly": (
        "quickly",
        "quick",
        "fast",
        "faster",
        "rapidly",
        "swiftly",
        "briskly",
        "hastily",
        "energetically",
        "hurriedly",
        "speedily",
    ),
}
_LEFT = ("left", "leftward", "leftwards")
_RIGHT = ("right", "rightward", "rightwards")
_HAND = (
    "hand",
    "hands",
    "arm",
    "arms",
    "fist",
    "fists",
    "hook",
    "hooks",
    "jab",
    "jabs",
    "uppercut",
    "punch",
    "punches",
)
_FOOT = ("foot", "feet", "leg", "legs", "knee", "kick", "kicks")
_TURNS = ("turning left", "turning right")
_TURNING = ("turn", "turns", "turned", "turning")


def manner_of(sentence: str, known: Collection[str]) -> dict[str, tuple[str, ...]]:
    """What a sentence says of the manner, among the phrases that a prior knows: each, and the words that say so.

    Words of a view ("left side view") say nothing of the manner. What is denied ("not too fast") is not said, and
    neither is a turn to both sides ("from left to right").
    """
    tokens = tokens_of(sentence)
    in_view = find_views(tokens)[1]
    found: dict[str, tuple[str, ...]] = {}
    for place, token in enumerate(tokens):
        if place in in_view or any(negates(tokens, before) for before in range(max(place - 2, 0), place)):
            continue
        after = tokens[place + 1] if place + 1 < len(tokens) else ""
        for phrase, words in _phrases_at(token, after):
            if phrase in known and phrase not in found:
                found[phrase] = words
    if found.keys() >= set(_TURNS):
        return {phrase: words for phrase, words in found.items() if phrase not in _TURNS}
    return {phrase: (*words, *_TURNING) if phrase in _TURNS else words for phrase, words in found.items()}


def _phrases_at(token: str, after: str) -> list[tuple[str, tuple[str, ...]]]:
    tempo: list[tuple[str, tuple[str, ...]]] = [
        (phrase, (token,)) for phrase, words in _TEMPO.items() if token in words
    ]
    side = "left" if token in _LEFT else "right" if token in _RIGHT else ""
    if not side:
        return tempo
    for limb, words in (("hand", _HAND), ("foot", _FOOT)):
        if after in words:
            return [(f"with the {side} {limb}", (token, after))]
    return [(f"turning {side}", (token,))]


def moment_phrase(action: str, moment: int) -> str:
    """What captions call a moment of an action, counted from 1: one word for each, "moment washwindow3"."""
    return f"moment {action.replace('_', '')}{moment}"


def draw_moment(action: str, shares: Sequence[float], *seed: int) -> str:
    """The phrase of a moment, each as likely as its share of the training clips; nothing where there are none."""
    if not len(shares):
        return ""
    weights = np.asarray(shares, float)
    rng = np.random.default_rng(seed)
    return moment_phrase(action, 1 + int(rng.choice(len(weights), p=weights / weights.sum())))
