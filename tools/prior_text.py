"""The embedded prior's language: captions for its training clips, and the word-level tokenizer that reads them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.priors.embedded.text import PAD, PADDING
from md_jax.prompts.manner import moment_phrase
from md_jax.prompts.views import VIEWS, view_of

MAX_TOKENS = 24
SPECIAL = (PAD, "<unknown>")
UNKNOWN = 1
# what tools.prior_moments finds of a window; a run's sentences are put in these words (md_jax.prompts.manner)
SAID = (
    "slowly", "quickly", "turning left", "turning right", "with the left hand", "with the right hand",
    "with the left foot", "with the right foot",
)  # fmt: skip
VIEWED, AT_A_MOMENT, HOW = 0.9, 0.9, 0.7  # shares of the captions that say so


def load_actions(path: Path, only: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The table of actions: {action: {"phrase", "synonyms", ...}}, restricted to `only` where that is given."""
    table = json.loads(path.read_text(encoding="utf-8"))
    names = only if only else [name for name, entry in table.items() if entry.get("main")]
    return {name: table[name] for name in names}


def caption(action: str, entry: dict[str, Any], how: Sequence[str], moment: int, azimuth: float, rng: random.Random,
            full: bool = False) -> str:  # fmt: skip
    """A sentence for a clip of this action.

    Args:
        action, entry: of the table of actions.
        how: what else is true of the clip: keys of SAID, or "".
        moment: which of the action's moments it is, from 1 on.
        azimuth: of the first camera, radians.
        rng: draws what is said.
        full: say everything.
    """
    told = [key for key in how if key and (full or rng.random() < HOW)]
    text = " ".join([f"a person is {entry['phrase']}", *told])
    if full or rng.random() < AT_A_MOMENT:
        text = f"{text}, {moment_phrase(action, moment)}"
    return f"{text}, {view_of(azimuth).name}" if full or rng.random() < VIEWED else text


def make_tokenizer(actions: dict[str, dict[str, Any]], moments: Mapping[str, int]) -> Any:
    """A word-level tokenizer (of the tokenizers library) over every word that captions can hold.

    Args:
        actions: of the table of actions.
        moments: how many each action has.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    texts = ["a person is", *SAID, *(view.name for view in VIEWS)]
    texts += [moment_phrase(action, k + 1) for action, count in moments.items() for k in range(count)]
    texts += [name for view in VIEWS for name in view.captions]
    texts += [text for entry in actions.values() for text in (entry["phrase"], *entry["synonyms"])]
    words = sorted({word for text in texts for word in re.findall(r"[a-z0-9']+", text.lower())})
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^a-z0-9']+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(length=MAX_TOKENS, pad_id=PADDING, pad_token=PAD)
    return tokenizer
