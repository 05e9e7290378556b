"""A run's prompts before anything heavy loads: what was heard, what is refused, and the text that goes to the prior."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from md_jax.prompts.manner import manner_of
from md_jax.prompts.parts import PromptError, joined, parts_of
from md_jax.prompts.reading import Reading, read_prompt
from md_jax.prompts.tokens import ARTICLES, FOREIGN, bases_of, is_word, tokens_of
from md_jax.prompts.views import PLACE, as_seen, names_of_quarters
from md_jax.prompts.vocabulary import Vocabulary, shipped

_NEAREST = 3  # sentences that a refusal offers
_LISTED = 20  # actions, at most
_ALIKE = 0.6  # difflib's ratio: "dansing" and "dancing" have 0.86
_COMPARED = 20  # words of a refused sentence that are compared with the vocabulary
_SHOWN = 60  # characters of a refused sentence that are shown
_MOST_WORDS = 20  # a text encoder of closed vocabulary reads 24 tokens, two of them marks; a view takes up to three


def check_prompt(sentence: str, known: Collection[str] | None = None) -> Reading:
    """The reading of a sentence that a run can go by.

    Args:
        sentence: the prompt.
        known: the actions of a prior of closed vocabulary (`vocabulary.actions_of_prior`); None: an open prior.

    Returns:
        Its reading; for a closed vocabulary, only known actions are heard.

    Raises:
        PromptError: it denies an action, or names none that a closed vocabulary knows; the message is one line.
    """
    words = shipped() if known is None else shipped().only(known)
    reading = read_prompt(sentence, words)
    if not sentence.strip():
        raise PromptError(_refusal(reading, words))
    if reading.negated:
        raise PromptError(_refused_negation(reading, words))
    if known is not None and reading.action is None:
        raise PromptError(_refusal(reading, words))
    return reading


def hear(sentences: Sequence[str], known: Collection[str] | None = None, manner: Collection[str] = ()) -> str:
    """Check the prompts of a run; what was heard in each different one, a line each.

    Raises:
        PromptError: no motion can be made from one of them.
    """
    lines = []
    for sentence in dict.fromkeys(sentences):
        parts = parts_of(sentence)
        several = len(parts) > 1
        lines.append(
            "; then ".join(
                heard_line(check_prompt(part.sentence, known), known, several, manner_of(part.sentence, manner))
                for part in parts
            )
        )
    return "\n".join(dict.fromkeys(lines))


def heard_line(
    reading: Reading,
    known: Collection[str] | None = None,
    part: bool = False,
    manner: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> str:
    """What was understood, for the start of a run: "washing a window, side view; not used: big, dirty".

    Args:
        reading: of a prompt that `check_prompt` let through.
        known: as there; an open prior's text encoder reads every word, so that none is called unused.
        part: whether it is one of several sentences that follow one another.
        manner: phrases that the prior reads in it, and the words that say so (`manner_of`).
    """
    phrases = [_phrase(heard.action) for heard in reading.actions]
    action = phrases[0] if phrases else "no action that we know"
    parts = [", ".join(filter(None, (" ".join((action, *manner)), reading.view)))]
    if len(phrases) > 1:
        in_turn = "" if part else "; for all of them put a bar between: " + _in_turn(reading)
        at_once = "while" in tokens_of(reading.sentence)
        several = f"at once: {' and '.join(phrases)}" if at_once else f"in order: {', then '.join(phrases)}"
        parts.append(f"actions {several}; one sentence shows the first{in_turn}")
    said = {"turning", "over", *(word for words in manner.values() for word in words)}
    unused = [word for word in (*reading.manner, *reading.ignored) if word not in said] if phrases else []
    if known is not None and (unused := _in_sentence_order(reading, unused)):
        parts.append(f"not used: {', '.join(unused)}")
    if known is None and not phrases:
        parts.append("the prior reads the sentence as it stands")
    if reading.foreign:
        parts.append("it does not look like English, and only English is read")
    return "; ".join(parts)


def _in_turn(reading: Reading) -> str:
    """The prompt that shows the actions of a sentence one after another."""
    sentences = [f"a person is {_phrase(heard.action)}" for heard in reading.actions]
    return f'"{joined(sentences)}"'


def sentence_for_prior(sentence: str, known: Collection[str] | None = None, manner: Collection[str] = ()) -> str:
    """The sentence that goes to the prior's text encoder.

    An open prior gets it as it stands. So does one of closed vocabulary where a phrase of its training captions stands
    in the sentence, word for word. Elsewhere its text encoder, which knows whole words and no forms of them, would see
    no action, so it gets the plain caption of the action and the view that were heard. A prior whose captions say the
    `manner` gets that caption always, with the phrases that were heard.
    """
    if known is None:
        return sentence
    words = shipped().only(known)
    reading = read_prompt(sentence, words)
    if reading.action is None or (not manner and _has_caption(sentence, words)):
        return sentence
    turning = " turning over" if not manner and {"turning", "upside"} & set(reading.manner) else ""
    said = "".join(f" {phrase}" for phrase in manner_of(sentence, manner))
    view = ", {view} view" if PLACE in sentence else ""
    if reading.quarters and not manner:  # whose captions name one view: `as_seen` adds each camera's
        view = f", {' or '.join(names_of_quarters(reading.quarters))}"
    return f"a person is {words.entries[reading.action.action].phrase}{said}{turning}{view}"


def texts_for_prior(
    sentence: str,
    known: Collection[str] | None = None,
    view_prompts: bool = True,
    manner: Collection[str] = (),
) -> tuple[str, ...]:
    """What the prior reads (`sentence_for_prior`) from the front, the left, the back and the right (`as_seen`)."""
    return as_seen(sentence_for_prior(sentence, known, manner), view_prompts)


def _has_caption(sentence: str, words: Vocabulary) -> bool:
    """Whether a phrase of the training captions stands in the part of a sentence that a text encoder reads."""
    text = _plain(" ".join([token for token in tokens_of(sentence) if is_word(token)][:_MOST_WORDS]))
    captions = (text for entry in words.entries.values() for text in (entry.phrase, *entry.synonyms))
    return any(_plain(caption) in text for caption in captions)


def _plain(text: str) -> str:
    words = [word for word in tokens_of(text) if is_word(word) and word not in ARTICLES]
    return f" {' '.join(words)} "


# --- refusals ---------------------------------------------------------------------------------------------------


def _refused_negation(reading: Reading, words: Vocabulary) -> str:
    """One line: that a negation is not understood, and what can be said instead: what the sentence does not deny."""
    others = [heard.action for heard in reading.actions if heard.action not in reading.denied]
    near = " or ".join(f'"a person is {words.entries[name].phrase}"' for name in others or _nearest(reading, words))
    return (f"prompt {_shown(reading.sentence)}: a negation is not understood; say what the person does instead. Try"
            f" {near}.")  # fmt: skip


def _refusal(reading: Reading, words: Vocabulary) -> str:
    """One line: what is not known, the sentences nearest to it that would work, and what is known."""
    shown = _shown(reading.sentence)
    start = f"prompt {shown}: the prior knows no action in it"
    if not reading.sentence.strip():
        start = "the prompt is empty"
    elif reading.foreign:
        start = f"prompt {shown}: it does not look like English, and only English is read"
    elif other := read_prompt(reading.sentence).action:  # an action of ours that this prior was not trained on
        start = f"prompt {shown}: the prior does not know {_phrase(other.action)}"
    view = f", {reading.view}" if reading.view else ""
    near = " or ".join(f'"a person is {words.entries[name].phrase}{view}"' for name in _nearest(reading, words))
    known = [entry.phrase for entry in words.entries.values()]
    some = f"{len(known)} actions, among them " if len(known) > _LISTED else ""
    return f"{start}. Try {near}; it knows {some}{', '.join(sorted(known, key=len)[:_LISTED])}."


def _nearest(reading: Reading, words: Vocabulary) -> list[str]:
    """The actions with words most like those of the sentence, but for those that it denies."""
    grammar = FOREIGN - words.abroad if reading.foreign else frozenset()  # "un", "hombre", but not "corre"
    own = [word for word in (*reading.ignored, *reading.manner) if word not in grammar][:_COMPARED]
    other = read_prompt(reading.sentence).action
    if other is not None and other.action not in reading.denied:
        own += other.words
    scores = {}
    for action, entry in words.entries.items():
        if action in reading.denied and len(words.entries) > len(reading.denied):
            continue
        texts = {word for text in (entry.phrase, *entry.synonyms, *entry.heard) for word in tokens_of(text)}
        near = {base for word in entry.near for base in bases_of(word)}
        scores[action] = sum(
            1.0 if word in entry.abroad or bases_of(word) & near else max(_likeness(word, text) for text in texts)
            for word in own
        )
    return sorted(scores, key=lambda action: (-scores[action], len(words.entries[action].phrase)))[:_NEAREST]


def _likeness(word: str, other: str) -> float:
    """How alike two words are, from 0 to 1; 0 where they have little in common."""
    if abs(len(word) - len(other)) > max(len(word), len(other)) / 2:
        return 0.0
    ratio = difflib.SequenceMatcher(None, word, other).ratio()
    return ratio if ratio > _ALIKE else 0.0


def _shown(sentence: str) -> str:
    text = " ".join(sentence.split())
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


def _phrase(action: str) -> str:
    entries = shipped().entries
    return entries[action].phrase if action in entries else action.replace("_", " ")


def _in_sentence_order(reading: Reading, found: Sequence[str]) -> list[str]:
    order = {word: place for place, word in reversed(list(enumerate(tokens_of(reading.sentence))))}
    return sorted(dict.fromkeys(found), key=lambda word: order.get(word, 0))
