"""The one reader of prompts: what a sentence says of the action, the view and the manner, and what it says besides."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from md_jax.prompts.tokens import ARTICLES, COMMA, STOPS, bases_of, is_word, tokens_of
from md_jax.prompts.views import PLACE, VIEWS, Arc, find_views, names_of_quarters
from md_jax.prompts.vocabulary import SKIPPED, Phrase, Vocabulary, shipped
from md_jax.prompts.wordlists import (
    ADVERBS,
    BARRIERS,
    BEFORE_VERBS,
    ENGLISH,
    FILLERS,
    FOREIGN,
    MANNER,
    NEGATING_PAIRS,
    NEGATIONS,
    NEGATIONS_OF_NEXT,
    THINGS_AFTER,
    TURNING,
)  # fmt: skip

_MAX_GAP = 4  # other words allowed between two words of a phrase: "washing a very big dirty window"
_MAX_REACH = 8  # ... and words of any kind, articles among them
_NEGATION_REACH = 4  # words between "not" and what it denies: "is not very quickly walking"


@dataclass(frozen=True)
class Heard:
    """An action that a sentence names."""

    action: str
    words: tuple[str, ...]  # of the sentence, in order: ("washing", "window")


@dataclass(frozen=True)
class Reading:
    """What was understood of a sentence.

    Attributes:
        sentence: as it was written.
        actions: in the order of the sentence; the first one decides.
        quarters: the views that it names (numbers in `views.VIEWS`, ascending); empty: none.
        manner: words on how and where to, in order: "slowly", "left".
        ignored: the other words that carry meaning and are not understood, in order.
        negated: it denies an action ("does not walk").
        foreign: it looks like another language than English.
    """

    sentence: str
    actions: tuple[Heard, ...] = ()
    quarters: tuple[int, ...] = ()
    manner: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    negated: bool = False
    foreign: bool = False

    @property
    def action(self) -> Heard | None:
        """The action that decides; None where the sentence names none."""
        return self.actions[0] if self.actions else None

    @property
    def arcs(self) -> list[Arc] | None:
        """The azimuths that the sentence asks for (`views.azimuth_arcs`); None: it names no view."""
        return [VIEWS[quarter].arc for quarter in self.quarters] or None

    @property
    def view(self) -> str:
        """The view as captions name it: "side view", "front view or back view"; "" where none is named."""
        return " or ".join(names_of_quarters(self.quarters))


@dataclass(frozen=True)
class _Match:
    phrase: Phrase
    places: tuple[int, ...]
    weak: bool  # a thing or a person, such as "a box": counts only where nothing else does


def read_prompt(sentence: str, vocabulary: Vocabulary | None = None) -> Reading:
    """Read a sentence; every text has a reading, and the time grows with its length.

    Phrases of more words win over shorter ones ("washing a window" over "washing"), words of a phrase may have others
    in between, and every word stands for all its forms. Case, punctuation, articles and hyphens do not matter.

    Args:
        sentence: any text; the placeholder {view} is passed over.
        vocabulary: the actions that may be heard; None: all of the shipped ones.
    """
    return _read(sentence, vocabulary or shipped())


@functools.lru_cache(maxsize=256)
def _read(sentence: str, vocabulary: Vocabulary) -> Reading:
    tokens = tokens_of(sentence.replace(PLACE, " "))
    quarters, of_view = find_views(tokens)
    matches = _without_overlap(_matches(tokens, vocabulary, of_view))
    used = of_view | {place for match in matches for place in match.places}
    manner = [place for place, token in enumerate(tokens) if place not in used and token in MANNER]
    for place in range(len(tokens) - 1):
        if tuple(tokens[place : place + 2]) in TURNING:
            manner += [place, place + 1]
    used.update(manner)
    ignored = [
        token
        for place, token in enumerate(tokens)
        if place not in used and is_word(token) and token not in FILLERS and token not in SKIPPED
    ]
    return Reading(
        sentence=sentence,
        actions=_in_order(tokens, matches),
        quarters=quarters,
        manner=tuple(tokens[place] for place in sorted(set(manner))),
        ignored=tuple(dict.fromkeys(ignored)),
        negated=_is_negated(tokens, matches),
        foreign=not matches and _looks_foreign(tokens),
    )


# --- actions ----------------------------------------------------------------------------------------------------


def _matches(tokens: Sequence[str], vocabulary: Vocabulary, taken: set[int]) -> list[_Match]:
    found = []
    for first, token in enumerate(tokens):
        if first in taken or not is_word(token):
            continue
        for phrase in vocabulary.starting_with(token):
            places = _find_in_order(tokens, phrase, first, taken)
            if places is not None:
                found.append(_Match(phrase, places, _is_thing(tokens, vocabulary, places)))
    return found


def _find_in_order(tokens: Sequence[str], phrase: Phrase, first: int, taken: set[int]) -> tuple[int, ...] | None:
    """Places of a phrase's words, in order from `first` on and close together; None if any is missing."""
    places = [first]
    for wanted in phrase.words[1:]:
        gap = 0
        for place in range(places[-1] + 1, min(places[-1] + 1 + _MAX_REACH, len(tokens))):
            token = tokens[place]
            if place not in taken and bases_of(token) & wanted:
                places.append(place)
                break
            if token in STOPS or token in BARRIERS or place in taken:
                return None
            gap += token not in SKIPPED
            if gap > _MAX_GAP:
                return None
        else:
            return None
    return tuple(places)


def _is_thing(tokens: Sequence[str], vocabulary: Vocabulary, places: tuple[int, ...]) -> bool:
    """Whether a match names a thing or a person rather than what is done: "a box", "running shoes", "the dancer"."""
    if len(places) == 1 and places[0] + 1 < len(tokens) and tokens[places[0] + 1] in THINGS_AFTER:
        return True
    if tuple(tokens[place] for place in places) not in vocabulary.nouns:
        return False
    before = places[0] - 1
    while before >= 0 and tokens[before] in ADVERBS:
        before -= 1
    return before < 0 or tokens[before] not in BEFORE_VERBS


def _without_overlap(matches: list[_Match]) -> list[_Match]:
    """The best matches that share no word: those of more words first, then the closer and the earlier ones."""

    def rank(match: _Match) -> tuple[bool, int, int, int]:
        span = match.places[-1] - match.places[0]
        return match.weak and len(match.places) == 1, -len(match.places), span, match.places[0]

    used: set[int] = set()
    kept = []
    for match in sorted(matches, key=rank):
        if used.isdisjoint(match.places):
            used.update(match.places)
            kept.append(match)
    strong = [match for match in kept if not match.weak]
    return sorted(strong or kept, key=lambda match: match.places)


def _in_order(tokens: Sequence[str], matches: list[_Match]) -> tuple[Heard, ...]:
    """The actions, each once where it is named twice in a row."""
    heard: list[Heard] = []
    for match in matches:
        if not heard or heard[-1].action != match.phrase.action:
            heard.append(Heard(match.phrase.action, tuple(tokens[place] for place in match.places)))
    return tuple(heard)


# --- what a sentence must not be --------------------------------------------------------------------------------


def _is_negated(tokens: Sequence[str], matches: list[_Match]) -> bool:
    """Whether an action is denied; where none is heard, whether anything is."""
    if not matches:
        return any(_negates(tokens, place) for place in range(len(tokens)))
    return any(_denied(tokens, match.places[0]) for match in matches)


def _denied(tokens: Sequence[str], place: int) -> bool:
    reach = 0
    for before in range(place - 1, max(place - 1 - 2 * _NEGATION_REACH, -1), -1):
        token = tokens[before]
        of_next = token in NEGATIONS_OF_NEXT or tuple(tokens[before : before + 2]) in NEGATING_PAIRS
        if of_next and reach == 0:  # "without walking", "no walking", "instead of walking"
            return True
        if _negates(tokens, before):
            return True
        if token in STOPS or token == COMMA or token in ("but", "and", "then", "while", "who", "that"):
            return False
        reach += token not in SKIPPED and token not in ("than", "to")  # "rather than walking", "refuses to walk"
        if reach > _NEGATION_REACH:
            return False
    return False


def _negates(tokens: Sequence[str], place: int) -> bool:
    token = tokens[place]
    if token == "no":
        return tokens[place + 1 : place + 2] == ["one"]
    if token == "not":
        return tokens[place + 1 : place + 2] != ["only"]
    return token in NEGATIONS or token.endswith("n't")


def _looks_foreign(tokens: Sequence[str]) -> bool:
    """Mostly letters outside the Latin alphabet, or three words and more with none that is English and not foreign."""
    words = [token for token in tokens if token.isalpha() or "'" in token]
    letters = [letter for word in words for letter in word if letter.isalpha()]
    if sum(ord(letter) > 0x24F for letter in letters) * 2 > len(letters):
        return True
    if len(words) < 3:
        return any(word in FOREIGN for word in words) and not any(word in ENGLISH for word in words)
    english = sum(word in ENGLISH for word in words)
    return (english == 0 and not all(word in ARTICLES for word in words)) or english < sum(w in FOREIGN for w in words)
