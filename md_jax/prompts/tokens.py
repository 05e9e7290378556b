"""A sentence as a list of lower-case words, and the forms that an English word takes: walk, walks, walking, walked."""

from __future__ import annotations

import functools
import re
import unicodedata

ARTICLES = frozenset(("a", "an", "the"))
STOPS = frozenset((".", "!", "?", ";", ":", "|"))  # a sentence ends here
COMMA = ","
_TOKEN = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?|\d+|[.!?;:,|]")
_APOSTROPHES = str.maketrans({"\u2019": "'", "\u2018": "'", "\u02bc": "'", "\u00b4": "'", "`": "'"})
_NO_BASE = ("che", "she", "xe", "sse")  # "marches" is a form of "march", not of the French "marche"
_LONGEST_WORD = 24  # letters; what is longer is no word that we know

_IRREGULAR = {
    "ran": "run", "swung": "swing", "threw": "throw", "thrown": "throw", "rose": "rise", "risen": "rise", "got": "get",
    "stood": "stand", "spun": "spin", "crept": "creep", "did": "do", "done": "do", "does": "do", "gave": "give",
    "given": "give", "took": "take", "taken": "take", "fought": "fight", "shot": "shoot", "strode": "stride",
    "stridden": "stride", "bent": "bend", "swept": "sweep", "leapt": "leap", "sprang": "spring", "sprung": "spring",
    "snuck": "sneak", "went": "go", "goes": "go", "made": "make", "held": "hold", "hit": "hit", "dove": "dive",
}  # fmt: skip


def tokens_of(sentence: str) -> list[str]:
    """Lower-case words, numbers and the marks .!?;:,| of a sentence, in order; hyphens and underscores part words."""
    plain = unicodedata.normalize("NFKC", sentence).translate(_APOSTROPHES).casefold()
    return _TOKEN.findall(plain)


def is_word(token: str) -> bool:
    """Whether a token is a word or a number, not a mark."""
    return token[0].isalnum()


@functools.lru_cache(maxsize=4096)
def bases_of(word: str) -> frozenset[str]:
    """The words of which `word` may be a regular or known form, itself among them: {"hops", "hop"}.

    Two words are forms of one word where these sets meet. A candidate counts only where its own form would be spelled
    as `word` is, so that "hoped" is no form of "hop".
    """
    if len(word) > _LONGEST_WORD:
        return frozenset((word,))
    word = word.removesuffix("'s")
    found = {word}
    if word in _IRREGULAR:
        found.add(_IRREGULAR[word])
    for ending in ("s", "es", "ies", "ed", "d", "ied", "ing"):
        stem = word.removesuffix(ending)
        if stem == word or len(stem) < 2:
            continue
        candidates = {stem, f"{stem}e", f"{stem}y"}
        if stem[-1] == stem[-2] and len(stem) > 2:  # no word has one letter
            candidates.add(stem[:-1])
        found.update(base for base in candidates if not base.endswith(_NO_BASE) and word in _regular_forms(base))
    return frozenset(found)


def _regular_forms(base: str) -> tuple[str, str, str]:
    """The -s, -ing and -ed forms of a word; its last consonant is doubled after one short vowel (hop, hopping)."""
    vowels = "aeiou"
    if base.endswith("e"):
        return f"{base}s", f"{base[:-1]}ing", f"{base}d"
    if base.endswith("y") and base[-2] not in vowels:
        return f"{base[:-1]}ies", f"{base}ing", f"{base[:-1]}ied"
    plural = f"{base}es" if base.endswith(("s", "x", "z", "ch", "sh")) else f"{base}s"
    before = base[:-2]
    one_vowel = base[-2] in vowels and not any(letter in vowels for letter in before[-1:])
    doubled = one_vowel and sum(letter in vowels for letter in base) == 1 and base[-1] not in "aeiouwxy"
    stem = base + base[-1] if doubled else base
    return plural, f"{stem}ing", f"{stem}ed"
