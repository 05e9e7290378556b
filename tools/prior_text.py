"""The embedded prior's language: captions for its training clips, and the word-level tokenizer that reads them."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

from md_jax.prompts.views import VIEWS, view_of

MAX_TOKENS = 24
SUBJECTS = (
    "a person", "a man", "a woman", "someone", "a human", "the person", "the man", "the woman", "a figure", "a boy",
    "a girl", "a character", "an athlete", "he", "she", "people", "somebody", "a guy", "a human being", "a child",
)  # fmt: skip
OPENINGS = (
    "", "", "", "", "a video of ", "a shot of ", "a clip of ", "a rendering of ", "an animation of ", "a full body shot"
    " of ", "a 3d render of ", "a photo of ", "an image of ", "a realistic video of ",
)  # fmt: skip
ENDINGS = (
    "", "", "", "", " slowly", " quickly", " fast", " forward", " around", " outside", " on the spot", " in place",
    " in the street", " on a beach", " in a park", " happily", " alone", ", full body", ", full-body", " at home",
)  # fmt: skip
TURNING = (" turning over", " turning over", " going upside down", " with the whole body turning")


def load_actions(path: Path, only: list[str] | None = None) -> dict[str, dict[str, Any]]:
    """The table of actions: {action: {"phrase", "synonyms", ...}}, restricted to `only` where that is given."""
    table = json.loads(path.read_text(encoding="utf-8"))
    names = only if only else [name for name, entry in table.items() if entry.get("main")]
    return {name: table[name] for name in names}


def caption(entry: dict[str, Any], azimuth: float, rng: random.Random, *, turning: bool = False) -> str:
    """A sentence for a clip of this action, filmed from `azimuth` (radians); every fourth says nothing of the view."""
    words = rng.choice([entry["phrase"], entry["phrase"], *entry["synonyms"]])
    verb = rng.choice((" is ", " is ", " is ", " ", " who is ", " that is ", ", ", " are "))
    text = rng.choice(OPENINGS) + rng.choice(SUBJECTS) + verb + words + rng.choice(ENDINGS)
    if rng.random() < 0.1:
        text = words  # the bare action
    if turning:
        text += rng.choice(TURNING)
    view = view_of(azimuth)
    kind = rng.random()
    if kind < 0.5:
        text = f"{text}, {view.name}"
    elif kind < 0.75:
        name = rng.choice(view.captions)
        text = f"{text}, {name}" if rng.random() < 0.7 else f"{name} of {text}"
    return text


def jitter(token_ids: list[int], unknown: int, rng: random.Random) -> list[int]:
    """Now and then an unknown word put in, so that words never seen in training do little harm."""
    while len(token_ids) < MAX_TOKENS - 2 and rng.random() < 0.3:
        token_ids.insert(rng.randint(1, len(token_ids) - 1), unknown)
    return token_ids


def make_tokenizer(actions: dict[str, dict[str, Any]]) -> Any:
    """A word-level tokenizer (a transformers PreTrainedTokenizerFast) over every word that captions can hold."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    texts = [*SUBJECTS, *OPENINGS, *ENDINGS, *TURNING, *(view.name for view in VIEWS), "is are who that of with doing"]
    texts += [name for view in VIEWS for name in view.captions]
    texts += [text for entry in actions.values() for text in (entry["phrase"], *entry["synonyms"])]
    words = sorted({word for text in texts for word in re.findall(r"[a-z0-9']+", text.lower())})
    special = ["<pad>", "<start>", "<end>", "<unknown>"]
    vocabulary = {word: i for i, word in enumerate([*special, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^a-z0-9']+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=MAX_TOKENS,
        pad_token="<pad>",
        bos_token="<start>",
        eos_token="<end>",
        unk_token="<unknown>",
    )
