"""A sentence as lower-case words, the forms of a word (walk, walks, walking, walked), and lists of small words.

Words stand in lists by what they do in a sentence; `md_jax.prompts.reading` reads with them.
"""

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


# --- lists of small words ------------------------------------------------------------------------------------------


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SUBJECTS = _words(
    "person man woman someone somebody human figure boy girl character athlete guy lady child kid people men women"
    " he she they it i we you being gentleman dude adult teenager actor avatar model body individual he's she's"
)
# How and where to; taken as such, and no part of an action
MANNER = _words(
    "slowly slow quickly quick fast faster rapidly swiftly briskly gently softly calmly hard happily sadly angrily"
    " carefully lazily energetically vigorously wildly smoothly gracefully nervously tiredly left right leftward"
    " leftwards rightward rightwards forward forwards backward backwards sideways up upward upwards down downward"
    " downwards around ahead straight"
)
TURNING = frozenset((("turning", "over"), ("upside", "down"), ("body", "turning"), ("turns", "over"), ("turn", "over")))
ADVERBS = MANNER | {"also", "now", "always", "often", "just", "still", "suddenly", "happily"}
AUXILIARIES = _words(
    "is are was were be been am being does do did has have had can could will would may might must should shall to"
    " keeps starts begins continues keep start begin continue"
)
CONJUNCTIONS = _words("and then while or but before after as when who that which whilst afterwards")
PREPOSITIONS = _words(
    "at by near beside behind to towards toward through with without from into onto in on under over above below"
    " against along across next for past between like"
)
BARRIERS = CONJUNCTIONS | PREPOSITIONS  # no word of a phrase's gap: "cleaning a car by the window"
BEFORE_VERBS = SUBJECTS | AUXILIARIES | {"and", "then", "who", "that", "while", "or"}
# after an action's word they make a thing of it: "running shoes", "a basketball court"
THINGS_AFTER = _words(
    "shoe shoes boot boots stick cane gloves glove ring floor machine water track path mask court field shirt jersey"
    " room studio hall stage shorts gear outfit dress partner club school trousers costume uniform player"
)

NEGATIONS = _words("not never cannot cant dont doesnt isnt arent wasnt wont nobody neither nor none hardly")
NEGATIONS_OF_SUBJECT = frozenset(("nobody", "neither", "nor", "none"))  # of whatever the sentence says
NEGATIONS_OF_NEXT = frozenset(("without", "no"))
ENDINGS = _words("avoid refuse stop quit cease fail")  # "stops walking", in all their forms
WEARY = _words("tire tired sick bored weary")  # "never gets tired of running"
NEGATING_PAIRS = frozenset((("instead", "of"), ("rather", "than"), ("anything", "but")))
# With one of these a new statement begins: "who is not tired is running"
FINITE = _words(
    "is are was were am does did has had can could will would may might must should shall keeps starts begins"
)

# What sounds like an action of ours and is another thing: in the forms and with the gaps of any phrase
NO_ACTIONS = (
    "wash car", "wash dishes", "wash clothes", "wash laundry", "wash dog", "wash floor", "wash plates",
    "wash vegetables", "wash fruit", "wash bike", "run company", "run business", "run shop", "run program",
    "run test", "run bath",
    "lift box", "carry box", "hold box", "open box", "push box", "move box", "pack box", "paint fence", "build fence",
    "lean on fence", "sit exam", "roll dice", "walk on hands", "run on hands", "dance on hands", "kick habit",
)  # fmt: skip

# said without a meaning of their own for the motion
FILLERS = (
    SUBJECTS | AUXILIARIES | ARTICLES | PREPOSITIONS | CONJUNCTIONS | NEGATIONS | NEGATIONS_OF_NEXT
    | _words(
    "avoids avoiding refuses stops stopped"
    " video clip shot photo image picture animation rendering render realistic full whole 3d d view of this there"
    " his her their its himself herself themselves itself some very one it's there's what's instead rather than"
)
)  # fmt: skip

# Tell English from other languages by words that are not theirs: "in", "die", "on" and the like are left out
ENGLISH = (
    SUBJECTS
    | MANNER
    | _words(
        "the with and of who that this his her their from is are was were to my your our its there what at into not an"
        " for by some while then very like does doing do can dog cat bird horse robot view side front back playing"
        " sitting sleeping standing house tree car him them us me make makes go goes get gets take takes please pls"
        " through onto under near beside behind towards toward over above below between against across along without"
        " before after because one two three hand hands leg legs foot feet arm arms head knee floor ground door wall"
        " street room ball chair table hello"
    )
) - _words("it i fast hard model up we")
FOREIGN = _words(
    "el la los las un una uno unos unas der die das ein eine einen dem den des le les une du il lo gli est esta está"
    " es y et und e o os um uma não ist geht läuft de het een og och en på med mit con avec por para pour dans auf"
    " auf ins zum qui che que sur mann frau homme femme hombre mujer uomo donna homem mulher człowiek mężczyzna"
    " kobieta jest się na bir adam kadın aan på som er et med ett mies nainen och är elle elles ils ella egy férfi"
    " persona personne corre corriendo caminando marche court läuft rennt springt człowiek ktoś seseorang sedang"
    " orang lelaki người đàn ông đang ich sie wir jemand jag hon han hij zij iemand een je nous vous quelqu'un quelqu"
    " l'homme io noi lui lei qualcuno yo ella nosotros alguien niño niña chico chica garçon fille enfant junge mädchen"
    " ragazzo ragazza bambino menino menina rapaz alguém meisje pojke flicka någon dziewczyna chłopak persoon osoba"
    " pessoa om muž žena mtu kvinna kvinde mann"
)
# Not plain ASCII, and English all the same
LOANS = _words("café naïve fiancé fiancée cliché décor résumé jalapeño façade exposé protégé")
