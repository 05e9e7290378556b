"""The sentences of a run as each camera sees them, embedded once and picked by the row in every step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.priors.spec import Prior, Text
from bridge.render.camera import azimuth_range_of_prompt, view_phrase

QUARTERS = 4  # view phrases go by quarters of the circle
PLACE = "{view}"  # in a sentence: "front", "side" or "back" stands here
# What distillation tends to make, in words: the source of `bridge` unless one is given (McAllister et al. 2024).
SOURCE = "{}, oversaturated, smooth, pixelated, cartoon, foggy, hazy, blurry, bad structure, noisy, malformed"
# What `nfsd` leads away from unless something is given (Katzir et al. 2024).
NEGATIVE = "unrealistic, blurry, low quality, out of focus, ugly, low contrast, dull, dark, low-resolution, gloomy"


@dataclasses.dataclass(frozen=True)
class Prompts:
    """The embedded prompts of M motions, one row for each (sentence, view phrase) pair."""

    positive: Text
    negative: Text  # one row: what guidance leads away from
    row: Int[Tensor, "M 4"]  # row of each motion and quarter of the circle
    source: Int[Tensor, "M 4"] | None = None  # rows of what the motions look like so far; None: not embedded
    empty: int | None = None  # row of the empty prompt; None: it is the negative one

    def of_clips(
        self,
        motion: Int[Tensor, "N"],
        azimuth: Float[Tensor, "N"],
        texts: Sequence[str] = ("prompt", "negative"),
    ) -> tuple[Text, ...]:
        """The texts of clips of these motions, filmed from these azimuths (kinds: `objectives.TEXTS`)."""
        quarter = torch.floor(azimuth / (2 * math.pi / QUARTERS) + 0.5).long() % QUARTERS
        return tuple(self._of(kind, motion, quarter) for kind in texts)

    def _of(self, kind: str, motion: Int[Tensor, "N"], quarter: Int[Tensor, "N"]) -> Text:
        if kind in ("prompt", "source"):
            table = self.row if kind == "prompt" else self.source
            assert table is not None, "embed_prompts was given no sources"
            return self.positive.rows(table[motion, quarter])
        if kind == "empty" and self.empty is not None:
            return self.positive.rows(torch.full_like(motion, self.empty))
        return self.negative.rows(torch.zeros_like(motion))


def embed_prompts(
    prior: Prior,
    prompts: Sequence[str],
    negative: str = "",
    view_prompts: bool = True,
    sources: Sequence[str] | None = None,
) -> Prompts:
    """Embed the prompts of M motions once, each as it reads from every quarter of the circle (see `as_seen`).

    Args:
        prior: its text encoder is used here, and freed.
        prompts: one sentence for each motion.
        negative: what guidance leads away from; empty: the empty prompt.
        view_prompts: whether each camera's view is added to the prompt.
        sources: for each motion what it looks like so far, for the objective `bridge`.

    Raises:
        PriorError: the prior knows no action in a prompt.
    """

    def seen(texts: Sequence[str]) -> list[list[str]]:
        return [as_seen_from_each_side(text, view_prompts) for text in texts]

    return embed_sentences(prior, seen(prompts), negative, None if sources is None else seen(sources))


def embed_sentences(
    prior: Prior,
    sentences: Sequence[Sequence[str]],
    negative: str = "",
    sources: Sequence[Sequence[str]] | None = None,
) -> Prompts:
    """Embed what is said of M motions once.

    Args:
        prior: its text encoder is used here, and freed.
        sentences: (M, 4), for each motion as it reads from every quarter of the circle.
        negative: what guidance leads away from; empty: the empty prompt.
        sources: (M, 4), what the motions look like so far, for the objective `bridge`.

    Raises:
        PriorError: the prior knows no action in a sentence.
    """
    table: dict[str, int] = {}

    def rows(sentences: Sequence[Sequence[str]]) -> Int[Tensor, "M 4"]:
        return torch.tensor([[table.setdefault(text, len(table)) for text in texts] for texts in sentences])

    row, source = rows(sentences), None if sources is None else rows(sources)
    empty = table.setdefault("", len(table)) if negative else None
    conditioning = prior.embed(list(table), negative)
    device = conditioning.positive.hidden.device
    return Prompts(
        conditioning.positive,
        conditioning.negative,
        row.to(device),
        None if source is None else source.to(device),
        empty,
    )


def as_seen_from_each_side(prompt: str, view_prompts: bool = True) -> list[str]:
    """(4,): a sentence as it reads from the front, the left, the back and the right (see `as_seen`)."""
    return [as_seen(prompt, quarter * 2 * math.pi / QUARTERS, view_prompts) for quarter in range(QUARTERS)]


def as_seen(prompt: str, azimuth: float, view_prompts: bool = True) -> str:
    """A sentence as it reads from an azimuth: "a man walks, left side view".

    A sentence with the placeholder {view} gets "front", "side" or "back" there; one that names a view itself is left as
    it is, and so is every other one where `view_prompts` is off.
    """
    phrase = view_phrase(azimuth)
    if PLACE in prompt:
        return prompt.replace(PLACE, phrase.split()[-2])
    if not view_prompts or azimuth_range_of_prompt(prompt) is not None:
        return prompt
    return f"{prompt.rstrip(' .,')}, {phrase}"
