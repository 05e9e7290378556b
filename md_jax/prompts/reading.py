"""The one reader of prompts: what a sentence says of the action, the view and the manner, and what it says besides."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from md_jax.prompts.negation import is_denied, negates
from md_jax.prompts.tokens import (
    ADVERBS,
    ARTICLES,
    AUXILIARIES,
    BARRIERS,
    BEFORE_VERBS,
    COMMA,
    CONJUNCTIONS,
    ENGLISH,
    FILLERS,
    FOREIGN,
    LOANS,
    MANNER,
    STOPS,
    SUBJECTS,
    THINGS_AFTER,
    TURNING,
    bases_of,
    is_word,
    tokens_of,
)  # fmt: skip
from md_jax.prompts.views import PLACE, VIEWS, Arc, find_views, names_of_quarters
from md_jax.prompts.vocabulary import SKIPPED, Phrase, Vocabulary, shipped

_MAX_GAP = 4  # other words allowed between two words of a phrase: "washing a very big dirty window"
_MAX_REACH = 8  # ... and words of any kind, articles among them
_ING = 4  # letters: a longer word that ends with "ing" looks English
# Words between "after" or "before" and the action that it is said of: "after having walked"
_BEFORE_TIMED = SUBJECTS | AUXILIARIES | SKIPPED | {"having", "he's", "she's", "short", "long"}


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
        actions: in the order in which they happen; the first one decides.
        quarters: the views that it names (numbers in `views.VIEWS`, ascending); empty: none.
        manner: words on how and where to, in order: "slowly", "left".
        ignored: the other words that carry meaning and are not understood, in order.
        negated: it denies an action ("does not walk").
        denied: the actions that it denies.
        foreign: it looks like another language than English.
    """

    sentence: str
    actions: tuple[Heard, ...] = ()
    quarters: tuple[int, ...] = ()
    manner: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    negated: bool = False
    denied: tuple[str, ...] = ()
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
    found = _without_overlap(_matches(tokens, vocabulary, of_view))
    matches = _refined(tokens, found)
    denied = tuple(match.phrase.action for match in matches if is_denied(tokens, match.places[0]))
    used = of_view | {place for match in found for place in match.places}
    manner = [place for place, token in enumerate(tokens) if place not in used and token in MANNER]
    for place in range(len(tokens) - 1):
        if tuple(tokens[place : place + 2]) in TURNING:
            manner += [place, place + 1]
    used.update(manner)
    ignored = [
        token
        for place, token in enumerate(tokens)
        if place not in used and is_word(token) and token not in FILLERS | SKIPPED and not token.endswith("n't")
    ]
    return Reading(
        sentence=sentence,
        actions=_in_order(tokens, _as_they_happen(tokens, matches)),
        quarters=quarters,
        manner=tuple(tokens[place] for place in sorted(set(manner))),
        ignored=tuple(dict.fromkeys(ignored)),
        negated=bool(denied) or (not matches and any(negates(tokens, place) for place in range(len(tokens)))),
        denied=denied,
        foreign=not matches and _looks_foreign(tokens, vocabulary),
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
    kept = [match for match in kept if match.phrase.action]
    strong = [match for match in kept if not match.weak]
    return sorted(strong or kept, key=lambda match: match.places)


def _as_they_happen(tokens: Sequence[str], matches: list[_Match]) -> list[_Match]:
    """The matches in order of time: "sits down after walking" and "before sitting down, a person walks" walk first."""

    def says(word: str, place: int) -> bool:
        for before in range(place - 1, -1, -1):
            if tokens[before] not in _BEFORE_TIMED:
                return tokens[before] == word
        return False

    ordered: list[_Match] = []
    for number, match in enumerate(matches):
        later = number > 0 and says("after", match.places[0])
        if number == 1 and says("before", matches[0].places[0]):
            later = True
        ordered.insert(len(ordered) - later, match)
    return ordered


def _refined(tokens: Sequence[str], matches: list[_Match]) -> list[_Match]:
    """Without those that the next one says more of: "walking" in "walking quickly on rough ground"."""

    def says_more(match: _Match, after: _Match) -> bool:
        between = tokens[match.places[-1] : after.places[0]]
        named = after.phrase.action.startswith(f"{match.phrase.action}_")
        return named and not any(token in STOPS or token == COMMA or token in CONJUNCTIONS for token in between)

    return [
        match
        for match, after in itertools.zip_longest(matches, matches[1:])
        if after is None or not says_more(match, after)
    ]


def _in_order(tokens: Sequence[str], matches: list[_Match]) -> tuple[Heard, ...]:
    """The actions, each once where it is named twice in a row."""
    heard: list[Heard] = []
    for match in matches:
        if not heard or heard[-1].action != match.phrase.action:
            heard.append(Heard(match.phrase.action, tuple(tokens[place] for place in match.places)))
    return tuple(heard)


# --- what a sentence must not be --------------------------------------------------------------------------------


def _looks_foreign(tokens: Sequence[str], vocabulary: Vocabulary) -> bool:
    """Mostly letters outside the Latin alphabet, more words of other languages than of English, or none of either."""
    words = [token for token in tokens if token.isalpha() or "'" in token]
    letters = [letter for word in words for letter in word if letter.isalpha()]
    if sum(ord(letter) > 0x24F for letter in letters) * 2 > len(letters):
        return True
    abroad = [word in FOREIGN or word in vocabulary.abroad or not (word.isascii() or word in LOANS) for word in words]
    english = sum(word in ENGLISH for word in words)
    if sum(abroad) != english:
        return sum(abroad) > english
    if english:
        return abroad[0]  # "de man rent"
    like_english = any(word in ARTICLES or (word.endswith("ing") and len(word) > _ING) for word in words)
    return len(words) > 2 and not like_english
