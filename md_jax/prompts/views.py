"""The four views of a body: what they are called, where their cameras stand, and how a sentence reads from each.

The one table of views: prompts, training captions, cameras and figures all take theirs from here. Azimuth 0 looks at
the body's face, +90° stands at its left side (`bridge.render.camera`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from md_jax.prompts.tokens import ARTICLES, tokens_of

Arc = tuple[float, float]  # lowest and highest azimuth, radians
PLACE = "{view}"  # in a sentence: "front", "side" or "back" stands here
_QUARTER = math.pi / 2
_CIRCLE = (-math.pi, math.pi)


@dataclass(frozen=True)
class View:
    """One quarter of the circle.

    Attributes:
        name: what is added to a sentence: "left side view".
        place: what the placeholder {view} becomes: "side".
        azimuth: radians, the middle of the quarter.
        captions: how training captions name it; the plain "side view" stands for left and right.
    """

    name: str
    place: str
    azimuth: float
    captions: tuple[str, ...]

    @property
    def arc(self) -> Arc:
        """The azimuths of the quarter."""
        return (self.azimuth - _QUARTER / 2, self.azimuth + _QUARTER / 2)


# "side view" is listed twice: captions choose among these at random
VIEWS = (
    View("front view", "front", 0.0, ("front view", "from the front", "frontal view", "facing the camera")),
    View("left side view", "side", _QUARTER,
         ("left side view", "side view", "side view", "from the left", "from the side", "in profile")),
    View("back view", "back", 2 * _QUARTER, ("back view", "from behind", "from the back", "rear view")),
    View("right side view", "side", 3 * _QUARTER,
         ("right side view", "side view", "side view", "from the right", "from the side", "in profile")),
)  # fmt: skip

# What people write, and the quarters (numbers in VIEWS) that it allows. Without articles; "*" stands for "view" and
# its synonyms. Of phrases that begin at the same word the longest counts: "left side view" is no plain "side view".
_NOUNS = ("view", "shot", "angle", "perspective")
_PHRASES: dict[tuple[int, ...], tuple[str, ...]] = {
    (0,): (
        "front *", "frontal *", "from front", "from front side", "from in front", "facing camera", "facing to camera",
        "facing towards camera", "facing toward camera", "faces camera", "facing viewer", "faces viewer",
        "facing forward to camera", "head on *", "from ahead", "from his front", "from her front", "from their front",
        "frontally", "front facing", "front side *",
    ),
    (1,): ("left *", "left side *", "left hand side *", "left profile", "left profile *", "from left",
           "from left side", "from left hand side"),
    (2,): (
        "back *", "rear *", "back side *", "rear side *", "from back", "from rear", "from back side", "from rear side",
        "from behind", "behind *", "facing away", "facing away from camera", "faces away from camera",
        "back to camera", "back to viewer", "back facing camera", "back turned to camera",
    ),
    (3,): ("right *", "right side *", "right hand side *", "right profile", "right profile *", "from right",
           "from right side", "from right hand side"),
    (1, 3): (
        "side *", "from side", "from one side", "in profile", "profile *", "sideways *", "lateral *", "sidelong *",
        "side on", "side on *", "from sideways", "in side *", "from either side", "from both sides",
    ),
}  # fmt: skip
_OWNERS = ("his", "her", "its", "their")  # "from his left side"


def _phrase_table() -> dict[tuple[str, ...], tuple[int, ...]]:
    table = {}
    for quarters, phrases in _PHRASES.items():
        for phrase in phrases:
            for noun in _NOUNS if "*" in phrase else ("",):
                table[tuple(phrase.replace("*", noun).split())] = quarters
    return table


_TABLE = _phrase_table()
_LONGEST = max(map(len, _TABLE))


def find_views(tokens: Sequence[str]) -> tuple[tuple[int, ...], set[int]]:
    """The quarters (numbers in `VIEWS`, ascending) that a sentence names, and the places of the words that say so."""
    quarters: set[int] = set()
    places: set[int] = set()
    at = 0
    while at < len(tokens):
        end, found = _view_at(tokens, at)
        if found:
            quarters.update(found)
            places.update(range(at, end))
        at = end
    return tuple(sorted(quarters)), places


def _view_at(tokens: Sequence[str], at: int) -> tuple[int, tuple[int, ...]]:
    """(end, quarters) of the longest view phrase that begins here; (at + 1, ()) where none does."""
    best: tuple[int, tuple[int, ...]] = (at + 1, ())
    words: list[str] = []
    if tokens[at] in ARTICLES:
        return best
    for end, token in enumerate(tokens[at : at + 2 * _LONGEST], at + 1):
        skipped = token in ARTICLES or (token in _OWNERS and words[-1:] == ["from"])
        if not skipped:
            words.append(token)
            found = _TABLE.get(tuple(words))
            # "from the left to the right" says where somebody goes
            if found and not (words[0] == "from" and tokens[end : end + 1] == ["to"]):
                best = (end, found)
    return best


def azimuth_arcs(sentence: str) -> list[Arc] | None:
    """The azimuths that a sentence asks for, when it names a view.

    Args:
        sentence: e.g. "a man is running, side view".

    Returns:
        None when no view is named, else the (low, high) radians of each allowed quarter, by ascending azimuth; a
        plain "side view" allows both sides.
    """
    quarters, _ = find_views(tokens_of(sentence))
    return [VIEWS[quarter].arc for quarter in quarters] or None


def arcs_of(sentences: Sequence[str], azimuths: Sequence[float] = ()) -> list[list[Arc]]:
    """Where each sentence's cameras may stand: anywhere in the view that it names, or on the circle.

    Args:
        sentences: one a motion.
        azimuths: degrees, as in --azimuths: the only places; of these, those in the view that a sentence names, or all
            where none is.
    """
    places = [math.radians(azimuth) for azimuth in azimuths]

    def arcs(sentence: str) -> list[Arc]:
        named = azimuth_arcs(sentence)
        if not places:
            return named or [_CIRCLE]
        inside = [place for place in places if named and view_of(place).arc in named]
        return [(place, place) for place in inside or places]

    return [arcs(sentence) for sentence in sentences]


def view_of(azimuth: float) -> View:
    """The view from an azimuth (radians, any value): four quarters centred at 0, 90, 180 and 270 degrees."""
    return VIEWS[math.floor(azimuth / _QUARTER + 0.5) % len(VIEWS)]


def names_of_quarters(quarters: Sequence[int]) -> list[str]:
    """What captions call these quarters (ascending numbers in `VIEWS`); left and right together are the "side view"."""
    sides = {1, 3} <= set(quarters)
    return ["side view" if sides and q == 1 else VIEWS[q].name for q in quarters if not (sides and q == 3)]


def as_seen(sentence: str, view_prompts: bool = True) -> tuple[str, ...]:
    """A sentence as it reads from the front, the left, the back and the right: "a man walks, left side view".

    A sentence with the placeholder {view} gets "front", "side" or "back" there; one that names a view itself is left
    as it is, and so is every other one where `view_prompts` is off.
    """
    if PLACE in sentence:
        return tuple(sentence.replace(PLACE, view.place) for view in VIEWS)
    if not view_prompts or azimuth_arcs(sentence) is not None:
        return (sentence,) * len(VIEWS)
    return tuple(f"{sentence.rstrip(' .,')}, {view.name}" for view in VIEWS)
