"""The actions that sentences may name, with all their phrases: the one vocabulary, and the part of it a prior knows."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from md_jax.errors import UserError
from md_jax.files import is_file, read_json
from md_jax.prompts.tokens import ARTICLES, NO_ACTIONS, bases_of, tokens_of

# Words that a phrase does without, in the vocabulary and in sentences
SKIPPED = ARTICLES | {"his", "her", "their", "its", "some", "is", "are", "was", "were", "be", "of"}

ACTION = re.compile(r"\w[\w -]{0,59}")  # an action's name
MOST_MOMENTS = 1000  # of an action
MOST_ACTIONS = 1000  # of a prior


@dataclass(frozen=True)
class Entry:
    """One action.

    Attributes:
        phrase: how a sentence names it after "a person is": "washing a window".
        main: whether it is one of the main actions.
        synonyms: phrases that training captions use; a text encoder trained on them knows these very words.
        heard: more phrases that are understood; here and above, each word stands for all its forms.
        nouns: words and phrases that may also be a thing or a person, in exactly these forms ("box", "dancer"): where
            one does not stand as a verb, another action in the sentence wins over it.
        near: words for what is like it, which a refusal offers it for; each stands for all its forms.
        abroad: words for it in other languages, in exactly these forms; a refusal offers it for them.
    """

    phrase: str
    main: bool = False
    synonyms: tuple[str, ...] = ()
    heard: tuple[str, ...] = ()
    nouns: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    abroad: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Phrase:
    """A phrase of the vocabulary, ready to be looked for."""

    action: str  # "": what sounds like an action and is none of ours, such as "running a company"
    words: tuple[frozenset[str], ...]  # the bases of each word


class Vocabulary:
    """The actions by name, and their phrases by the bases of the first word, beside those of no action.

    Args:
        entries: {action: entry}, in the order in which they are listed to the user.
    """

    def __init__(self, entries: dict[str, Entry]) -> None:
        self.entries = entries
        self.nouns = frozenset(_words(noun) for entry in entries.values() for noun in entry.nouns)
        self._by_first: dict[str, list[Phrase]] = {}
        for action, entry in entries.items():
            self._add(action, (action.replace("_", " "), entry.phrase, *entry.synonyms, *entry.heard))
        self._add("", NO_ACTIONS)
        self.abroad = frozenset(word for entry in entries.values() for word in entry.abroad)

    def _add(self, action: str, texts: Iterable[str]) -> None:
        for words in dict.fromkeys(_words(text) for text in texts):
            phrase = Phrase(action, tuple(bases_of(word) for word in words))
            for base in phrase.words[0]:
                self._by_first.setdefault(base, []).append(phrase)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def starting_with(self, word: str) -> list[Phrase]:
        """The phrases whose first word is a form of `word`, each once."""
        found = [phrase for base in bases_of(word) for phrase in self._by_first.get(base, ())]
        return list(dict.fromkeys(found))

    def only(self, actions: Collection[str]) -> Vocabulary:
        """The part that speaks of `actions`; one that is not in the vocabulary is understood by its name alone."""
        return _part(self, tuple(actions))


@functools.lru_cache(maxsize=32)
def _part(whole: Vocabulary, actions: tuple[str, ...]) -> Vocabulary:
    return Vocabulary({name: whole.entries.get(name, Entry(name.replace("_", " "))) for name in actions})


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in tokens_of(text) if word not in SKIPPED)


@functools.lru_cache(maxsize=1)
def shipped() -> Vocabulary:
    """The vocabulary that ships, from assets/actions.json."""
    text = (resources.files("md_jax") / "assets" / "actions.json").read_text(encoding="utf-8")
    entries = json.loads(text)
    lists, words = ("synonyms", "heard", "nouns"), ("near", "abroad")
    return Vocabulary(
        {
            name: Entry(
                e["phrase"],
                e["main"],
                *(tuple(e[key]) for key in lists),
                *(tuple(e.get(key, "").split()) for key in words),
            )
            for name, e in entries.items()
        }
    )


def prompt_of_action(action: str) -> str:
    """The plain sentence of an action: "a person is washing a window".

    Raises:
        UserError: there is no such action.
    """
    entries = shipped().entries
    if action not in entries:
        raise UserError(f"unknown action {action!r}: the actions are {', '.join(entries)}.")
    return f"a person is {entries[action].phrase}"


@dataclass(frozen=True)
class PriorWords:
    """What a prior reads of a sentence.

    Attributes:
        actions: that a closed vocabulary names; None: an open prior, which takes any sentence.
        manner: phrases of `md_jax.prompts.manner`; a prior that names none reads sentences as they stand.
        moments: the share of each moment of an action in its training clips; none where captions name no moments.
    """

    actions: tuple[str, ...] | None = None
    manner: tuple[str, ...] = ()
    moments: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def words_of_prior(prior: str, path: str = "") -> PriorWords:
    """What a prior reads, from its folder, without loading it.

    Args:
        prior: its name, as in --prior.
        path: its folder, as in --prior_path; empty: the shipped one, if there is one.

    Raises:
        UserError: the folder's vocabulary.json cannot be read.
    """
    folder = Path(path) if path else Path(str(resources.files("bridge"))) / "priors" / prior / "assets"
    file = folder / "vocabulary.json"
    if not is_file(file):
        return PriorWords()
    value = read_json(file)
    if not isinstance(value, dict):
        raise UserError(f'{file} must hold {{"actions": [names]}}, found a {type(value).__name__}.')
    names = value.get("actions", value)  # as in bridge.priors.folder
    if not isinstance(names, list | dict) or not all(isinstance(name, str) for name in names):
        raise UserError(f'{file} must hold {{"actions": [names]}}, found {str(names)[:60]!r}.')
    if odd := [name for name in names if not ACTION.fullmatch(name) or not _words(name.replace("_", " "))]:
        raise UserError(f"{file} names the action {odd[0][:60]!r}: expected a word, or several joined by _.")
    if not 1 <= len(names) <= MOST_ACTIONS:
        raise UserError(f"{file} names {len(names)} actions: expected 1 to {MOST_ACTIONS}.")
    manner, moments = value.get("manner", []), value.get("moments", {})
    if not isinstance(manner, list) or not all(isinstance(phrase, str) for phrase in manner):
        raise UserError(f"{file}: expected manner to be a list of phrases, found {str(manner)[:60]!r}.")
    if not isinstance(moments, dict) or not all(map(_are_shares, moments.values())):
        raise UserError(f"{file}: expected moments as a list of 1 to {MOST_MOMENTS} shares (0 or more, some above 0) by"
                        f" action, found {str(moments)[:60]!r}.")  # fmt: skip
    return PriorWords(tuple(names), tuple(manner), {name: tuple(map(float, each)) for name, each in moments.items()})


def actions_of_prior(prior: str, path: str = "") -> tuple[str, ...] | None:
    """The actions that a prior of closed vocabulary knows; None for an open prior (see `words_of_prior`)."""
    return words_of_prior(prior, path).actions


def _are_shares(value: object) -> bool:
    return (
        isinstance(value, list)
        and 1 <= len(value) <= MOST_MOMENTS
        and all(isinstance(x, int | float) and not isinstance(x, bool) and 0 <= x <= 1 for x in value)
        and sum(value) > 0
    )
