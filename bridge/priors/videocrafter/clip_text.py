"""The tokenizer of CLIP as open_clip uses it, from the byte-pair merges that ship with this project (OpenAI, MIT).

A VideoCrafter checkpoint holds a text encoder and no vocabulary. open_clip fills up with id 0 behind the end token;
the tokenizers of transformers fill up with the end token, or with "!", and then take every "!" of a prompt for padding.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ftfy
import torch

# bridge imports no md_jax; the two packages are always installed side by side
MERGES = Path(__file__).resolve().parent / "assets" / "merges.txt.gz"
LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


class OpenClipTokenizer:
    """Texts to token ids, padded with id 0: called as a tokenizer of transformers is."""

    model_max_length = LENGTH

    def __init__(self) -> None:
        self._clip = clip_tokenizer(pad_token=END)
        self.size = len(self._clip)  # tokens

    def __call__(self, texts: Sequence[str], *, max_length: int = LENGTH, **_: Any) -> SimpleNamespace:
        """`input_ids` (P, max_length): start, tokens (cut to fit), end, zeros."""
        plain = [html.unescape(html.unescape(ftfy.fix_text(text))).strip() for text in texts]
        ids = torch.zeros(len(plain), max_length, dtype=torch.long)
        # "<|endoftext|>" in a prompt is text
        cut = self._clip(plain, truncation=True, max_length=max_length, split_special_tokens=True).input_ids
        for row, tokens in zip(ids, cut, strict=True):
            row[: len(tokens)] = torch.tensor(tokens)
        return SimpleNamespace(input_ids=ids)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write it as a CLIPTokenizer that pads with "!", whose id is 0, for other programs."""
        clip_tokenizer(pad_token="!").save_pretrained(folder)


def clip_tokenizer(pad_token: str) -> Any:
    """A CLIPTokenizer of transformers that fills up with `pad_token`."""
    from transformers import CLIPTokenizer

    merges: Any = [tuple(line.split()) for line in gzip.decompress(MERGES.read_bytes()).decode("utf-8").splitlines()]
    letters = _byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=LENGTH)


def _byte_letters() -> list[str]:
    """A printable letter for each byte, in the order of CLIP's ids: bytes that print stand for themselves."""
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in prints]
    return [chr(byte) for byte in prints] + [chr(256 + i) for i in range(len(others))]
