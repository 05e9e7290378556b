"""T5's text: its tokenizer, from tokenizer.json or from the SentencePiece model spiece.model, and embedded prompts.

Folders are published with either file. A SentencePiece model is a protocol buffer of a few fields; they are read here,
which spares the packages sentencepiece and protobuf (transformers needs both to read one).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bridge.priors.spec import PriorError
from bridge.priors.weights.find import check_token_file, read_json

NO_TEXT = "\U0010fffd"  # before the names of tokens that no text stands for; nobody can write it
PAD, END = NO_TEXT + "<pad>", NO_TEXT + "</s>"
UNKNOWN, CONTROL, BYTE = 2, 3, 6  # kinds of pieces (sentencepiece_model.proto: ModelProto.SentencePiece.Type)


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer (of the package tokenizers) in `folder`, tokenizer.json first: it is the more exact.

    Raises:
        PriorError: neither file is there, or it is damaged.
    """
    from tokenizers import Tokenizer

    ready, spiece = folder / "tokenizer.json", folder / "spiece.model"
    if not ready.exists() and not spiece.exists():
        raise PriorError(f"{folder} holds no tokenizer: expected tokenizer.json or spiece.model.")
    path = ready if ready.exists() else spiece
    check_token_file(path)
    try:
        if ready.exists():
            tokenizer = Tokenizer.from_str(json.dumps(without_written_tokens(read_json(ready))))
        else:
            tokenizer = tokenizer_of(spiece.read_bytes())
    except PriorError as error:
        raise PriorError(f"{path} cannot be read as a tokenizer: {error}") from error
    except Exception as error:  # tokenizers raises plain Exceptions
        raise PriorError(f"{path} cannot be read as a tokenizer ({str(error)[:200]}): fetch it again.") from error
    if tokenizer.token_to_id(PAD) is None or tokenizer.token_to_id(END) is None:
        raise PriorError(f"{path} is no tokenizer of T5: it has no <pad> or no </s>.")
    return tokenizer


def without_written_tokens(described: dict[str, Any]) -> dict[str, Any]:
    """A tokenizer.json whose special tokens cannot be written: "</s>" in a prompt is four letters, as in SentencePiece.

    Unigram models would also find them as pieces of their vocabulary, so they are renamed there (see NO_TEXT).
    """
    added = described.get("added_tokens") or []
    special = {token["content"] for token in added if token.get("special")}
    model = described.get("model") or {}
    if model.get("type", "Unigram") == "Unigram" and isinstance(model.get("vocab"), list):
        pieces = [(NO_TEXT + piece if piece in special else piece, score) for piece, score in model["vocab"]]
        model = {**model, "vocab": pieces}
    return {**described, "model": model, "added_tokens": []}


def tokenizer_of(model: bytes) -> Any:
    """The tokenizer that a SentencePiece unigram model describes; as T5's, it ends every text with the end token.

    Raises:
        ValueError: the bytes are no such model.
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary: list[tuple[str, float]] = []
    kinds: list[int] = []
    charsmap = b""
    for number, value in _fields(model):
        if number == 1:
            piece = dict(_fields(value))
            kinds.append(piece.get(3, 1))
            name = piece[1].decode("utf-8")
            name = NO_TEXT + name if kinds[-1] in (UNKNOWN, CONTROL) else name
            vocabulary.append((name, struct.unpack("<f", piece.get(2, bytes(4)))[0]))
        elif number == 3:  # how text is normalised
            charsmap = dict(_fields(value)).get(2, b"")
    if UNKNOWN not in kinds:
        raise ValueError(f"no SentencePiece model: {len(vocabulary)} pieces and none for what is unknown")
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=kinds.index(UNKNOWN), byte_fallback=BYTE in kinds))
    if charsmap:
        tokenizer.normalizer = normalizers.Precompiled(charsmap)
    spaces: dict[str, Any] = {"replacement": "▁", "prepend_scheme": "always"}
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**spaces)]
    )
    tokenizer.decoder = decoders.Metaspace(**spaces)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", END], special_tokens=[(END, tokenizer.token_to_id(END))]
    )
    return tokenizer


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field of a protocol buffer: an int, the four bytes of a float, or any bytes."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while message[at] & 128:
            value, shift, at = value | (message[at] & 127) << shift, shift + 7, at + 1
        value, at = value | message[at] << shift, at + 1
        return value

    try:
        while at < len(message):
            number, kind = divmod(varint(), 8)
            if kind == 0:
                yield number, varint()
                continue
            size = {1: 8, 5: 4}[kind] if kind != 2 else varint()
            if at + size > len(message):
                raise IndexError
            yield number, message[at : at + size]
            at += size
    except (IndexError, KeyError):
        raise ValueError("no whole protocol buffer") from None


@torch.no_grad()
def embed_texts(
    tokenizer: Any, encoder: Any, texts: Sequence[str], length: int, *, masked: bool
) -> tuple[Float[Tensor, "P L D"], Bool[Tensor, "P L"]]:
    """The encoder's last layer for each text, cut or filled up to `length` tokens.

    Args:
        tokenizer: of `read_tokenizer`.
        encoder: a T5EncoderModel or UMT5EncoderModel.
        texts: P texts.
        length: tokens a text, the end token among them.
        masked: whether the encoder leaves the filling out of its attention.

    Returns:
        (hidden states in float32, which tokens are not filling), on the encoder's device.
    """
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
    rows = tokenizer.encode_batch(list(texts))
    ids = torch.tensor([row.ids for row in rows], device=encoder.device)
    mask = torch.tensor([row.attention_mask for row in rows], device=encoder.device)
    hidden = encoder(ids, attention_mask=mask if masked else None).last_hidden_state
    return hidden.float(), mask.bool()
