"""Which actions a sentence denies: "does not walk", "stops walking", "nobody walks"; not "who is not tired walks"."""

from __future__ import annotations

from collections.abc import Sequence

from md_jax.prompts.tokens import (
    ADVERBS,
    ARTICLES,
    AUXILIARIES,
    COMMA,
    ENDINGS,
    FINITE,
    NEGATING_PAIRS,
    NEGATIONS,
    NEGATIONS_OF_NEXT,
    NEGATIONS_OF_SUBJECT,
    PREPOSITIONS,
    STOPS,
    SUBJECTS,
    WEARY,
    bases_of,
)
from md_jax.prompts.vocabulary import SKIPPED

_NEGATION_REACH = 4  # words between "not" and what it denies: "is not very quickly walking"
_LITTLE = frozenset(("longer", "more", "ever", "even", "yet", "once", "quite", "too", "very", "so"))


def is_denied(tokens: Sequence[str], place: int) -> bool:
    """Whether what is said at a place is denied.

    "is not quickly walking" is, "who is not tired is running" is not: there something else is denied, and a verb that
    begins a statement of its own comes after it.
    """
    reach = 0
    finite = tokens[place].endswith("s") and len(bases_of(tokens[place])) > 1  # "walks" begins a statement
    other = False  # whether something before that statement can be what is denied
    for before in range(place - 1, max(place - 1 - 2 * _NEGATION_REACH, -1), -1):
        token = tokens[before]
        if reach == 0 and (
            token in NEGATIONS_OF_NEXT or tuple(tokens[max(before - 1, 0) : before + 1]) in NEGATING_PAIRS
        ):
            return True  # "without walking", "no walking", "instead of walking"
        if reach == 0 and bases_of(token) & (ENDINGS | {"help"}):  # "stops walking"; but "cannot stop walking"
            again = before > 0 and negates(tokens, before - 1)
            return not again and "help" not in bases_of(token)
        if reach == 0 and bases_of(token) & WEARY and tokens[before + 1 : before + 2] == ["of"]:
            return not any(negates(tokens, each) for each in range(max(before - 2, 0), before))
        if negates(tokens, before):
            return not other or _negates_subject(tokens, before)
        if token in STOPS or token == COMMA or token in ("but", "and", "then", "while", "who", "that"):
            return False
        reach += token not in SKIPPED and token not in ("than", "to")  # "rather than walking", "refuses to walk"
        if reach > _NEGATION_REACH:
            return False
        other = other or (finite and _can_be_denied(token))
        finite = finite or (token in FINITE and tokens[before - 1 : before] != ["to"])
    return False


def _can_be_denied(token: str) -> bool:
    return not (token in AUXILIARIES or token in ADVERBS or token in ARTICLES or token in PREPOSITIONS
                or token in _LITTLE or token.endswith("ly"))  # fmt: skip


def negates(tokens: Sequence[str], place: int) -> bool:
    """Whether a word denies something: "not", "never", "isn't", "nobody"; "not only" does not."""
    token = tokens[place]
    if token == "no":
        return tokens[place + 1 : place + 2] in (["longer"], ["more"]) or _negates_subject(tokens, place)
    if token == "not":
        return tokens[place + 1 : place + 2] != ["only"]
    return token in NEGATIONS or token.endswith("n't")


def _negates_subject(tokens: Sequence[str], place: int) -> bool:
    """Whether nobody does what follows: "nobody", "no one", "no man", "not a single person"; not "is not a man"."""
    token = tokens[place]
    if token not in ("no", "not"):
        return token in NEGATIONS_OF_SUBJECT
    if token == "not" and tokens[place - 1 : place] and tokens[place - 1] in FINITE:
        return False
    after = [word for word in tokens[place + 1 : place + 4] if word not in ARTICLES and word != "single"]
    return after[:1] == ["one"] or (bool(after) and after[0] in SUBJECTS)
