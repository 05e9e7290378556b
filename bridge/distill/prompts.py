"""The sentences of a run as each camera sees them, embedded once and picked by the row in every step."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bridge.errors import BridgeError
from bridge.priors.spec import Prior, Text

QUARTERS = 4  # of the circle: front, left, back, right
# What distillation tends to make: the text of the objective `source` unless one is given (McAllister et al. 2024).
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
    sentences: Sequence[Sequence[str]],
    negative: str = "",
    sources: Sequence[Sequence[str]] | None = None,
) -> Prompts:
    """Embed the sentences of M motions once.

    Args:
        prior: its text encoder is used here, and freed.
        sentences: (M, 4), each motion's sentence as it reads from the front, the left, the back and the right.
        negative: what guidance leads away from; empty: the empty prompt.
        sources: (M, 4), what each motion looks like so far, for the objective `source`.

    Raises:
        BridgeError: a motion has other than four sentences.
    """
    table: dict[str, int] = {}

    def rows(motions: Sequence[Sequence[str]]) -> Int[Tensor, "M 4"]:
        if wrong := [len(seen) for seen in motions if isinstance(seen, str) or len(seen) != QUARTERS]:
            raise BridgeError(
                f"embed_prompts expects {QUARTERS} sentences a motion (front, left, back, right), found {wrong[0]}."
            )
        return torch.tensor([[table.setdefault(text, len(table)) for text in seen] for seen in motions])

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
