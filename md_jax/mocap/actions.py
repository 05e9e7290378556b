"""The table of actions and the reading of a prompt: which action does a sentence speak of?"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources

from md_jax.errors import UserError
from md_jax.mocap.statistics import GENERIC, known_actions

_MAX_GAP = 2  # other words allowed between two words of a phrase: "washing a big dirty window"
_SKIPPED = {"a", "an", "the", "his", "her", "their", "some"}


@functools.lru_cache
def action_table() -> dict[str, dict]:
    """{action: {"phrase": how a sentence names it, "main": bool, "synonyms": words and phrases}}."""
    return json.loads((resources.files("md_jax") / "assets" / "actions.json").read_text(encoding="utf-8"))


def prompt_of_action(action: str) -> str:
    """The plain sentence of an action: "a person is washing a window".

    Raises:
        UserError: there is no such action.
    """
    if action not in action_table():
        raise UserError(f"unknown action {action!r}: the actions are {', '.join(action_table())}.")
    return f"a person is {action_table()[action]['phrase']}"


def action_of_prompt(prompt: str) -> tuple[str, tuple[str, ...]]:
    """The action that a prompt names, and the words that say so; ("generic", ()) if it names none.

    Phrases of more words win over shorter ones ("washing a window" over "washing"), then the one named first.

    Args:
        prompt: any sentence; case and punctuation do not matter.
    """
    words = [word for word in re.findall("[a-z]+", prompt.lower()) if word not in _SKIPPED]
    best: tuple[tuple[int, int, int], str, tuple[str, ...]] = ((0, 0, 0), GENERIC, ())
    for action, entry in action_table().items():
        for phrase in {action.replace("_", " "), entry["phrase"], *entry["synonyms"]}:
            wanted = [word for word in phrase.split() if word not in _SKIPPED]
            for first, word in enumerate(words):
                places = _find_in_order(words, wanted, first) if word == wanted[0] else None
                if places is None:
                    continue
                score = (len(wanted), -first, first - places[-1])
                if score > best[0] or best[1] == GENERIC:
                    best = (score, action, tuple(words[i] for i in places))
    return best[1:]


def _find_in_order(words: list[str], wanted: list[str], first: int) -> list[int] | None:
    """Places of the wanted words, in order from `first` on and close together; None if any is missing."""
    places = [first]
    for word in wanted[1:]:
        near = words[places[-1] + 1 : places[-1] + 2 + _MAX_GAP]
        if word not in near:
            return None
        places.append(places[-1] + 1 + near.index(word))
    return places


def resolve_action(action: str, prompt: str, source: str = "") -> tuple[str, str]:
    """The action whose statistics a run takes, and one sentence that says why.

    Args:
        action: "auto" (read the prompt), "generic", or an action.
        prompt: the sentence.
        source: the statistics, as in `md_jax.mocap.statistics.load_statistics`.

    Raises:
        UserError: there are no statistics of the action asked for.
    """
    known = known_actions(source)
    if action == GENERIC:
        return GENERIC, "pose statistics: all actions pooled, as asked for."
    if action != "auto":
        if action not in known:
            raise UserError(f"--action={action} is not known: choose auto, generic, {', '.join(known)}.")
        return action, f"pose statistics: {action}, as asked for."
    found, words = action_of_prompt(prompt)
    said = f"the prompt says '{' '.join(words)}'"
    if found in known:
        return found, f"pose statistics: {found}, for {said}."
    if source and len(known) == 1:
        return known[0], f"pose statistics: {known[0]}, the only action in {source}."
    if found == GENERIC:
        phrases = [action_table()[name]["phrase"] if name in action_table() else name for name in known]
        return GENERIC, f"pose statistics: all actions pooled; the prompt names none of {', '.join(phrases)}."
    return GENERIC, f"pose statistics: all actions pooled; there are none of {found} ({said})."
