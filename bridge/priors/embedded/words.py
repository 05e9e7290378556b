"""The next prior's text encoder: a sum of word vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

PAD, PADDING = "<pad>", 0  # the token that fills a text up


class WordEncoder(nn.Module):
    """The sum of a text's word vectors; their order is not read.

    A denoiser trained for an hour hears words through it that it did not hear through attention over them
    (docs/appendix/recipe.md).
    """

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        # without first values: to draw them on the meta device, torch imports all of its compiler
        self.vectors = nn.EmbeddingBag(words, width, mode="sum", padding_idx=PADDING, _weight=torch.empty(words, width))

    def forward(self, tokens: Int[Tensor, "N L"]) -> Float[Tensor, "N 1 D"]:
        """One vector a text, of token ids."""
        return self.vectors(tokens)[:, None]
