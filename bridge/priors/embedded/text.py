"""The shipped prior's tokenizer and text encoder: a sum of word vectors."""

from __future__ import annotations

from pathlib import Path

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


class Tokenizer:
    """A file of the tokenizers library, always to its full length; special tokens in a text are text."""

    def __init__(self, file: Path, length: int) -> None:
        from tokenizers import Tokenizer as Rust

        self._tokenizer = Rust.from_file(str(file))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=self._tokenizer.token_to_id(PAD), pad_token=PAD)

    @property
    def words(self) -> int:
        """How many tokens there are."""
        return self._tokenizer.get_vocab_size()

    def __call__(self, texts: list[str]) -> Int[Tensor, "N L"]:
        """The token ids of texts."""
        return torch.tensor([encoded.ids for encoded in self._tokenizer.encode_batch(texts)])
