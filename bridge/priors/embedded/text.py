"""The shipped prior's text encoder and tokenizer: transformers' CLIPTextModel and a file of the tokenizers library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from bridge.priors.embedded.network import Layers, attend


class TextEncoder(nn.Module):
    """CLIP's text encoder."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, self.positions = config["hidden_size"], config["max_position_embeddings"]
        self.embeddings = Layers(
            token_embedding=_table(config["vocab_size"], width), position_embedding=_table(self.positions, width)
        )
        layers = [TextLayer(config) for _ in range(config["num_hidden_layers"])]
        self.encoder = Layers(layers=nn.ModuleList(layers))
        self.final_layer_norm = nn.LayerNorm(width, config["layer_norm_eps"])

    def forward(self, tokens: Int[Tensor, "N L"]) -> Float[Tensor, "N L D"]:
        """The last layer's output for token ids."""
        x = self.embeddings.token_embedding(tokens) + self.embeddings.position_embedding.weight[: tokens.shape[1]]
        for layer in self.encoder.layers:
            x = layer(x)
        return self.final_layer_norm(x)


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding without first values: to draw them on the meta device, torch imports all of its compiler."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width))


class TextLayer(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, eps, self.heads = config["hidden_size"], config["layer_norm_eps"], config["num_attention_heads"]
        names = ("k_proj", "v_proj", "q_proj", "out_proj")
        self.self_attn = Layers(**{name: nn.Linear(width, width) for name in names})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        inner = config["intermediate_size"]
        self.mlp = Layers(fc1=nn.Linear(width, inner), fc2=nn.Linear(inner, width))

    def forward(self, x: Float[Tensor, "N L D"]) -> Float[Tensor, "N L D"]:
        attn, y = self.self_attn, self.layer_norm1(x)
        x = attn.out_proj(attend(attn.q_proj(y), attn.k_proj(y), attn.v_proj(y), self.heads, causal=True)) + x
        y = self.mlp.fc1(self.layer_norm2(x))
        return self.mlp.fc2(y * torch.sigmoid(1.702 * y)) + x


class Tokenizer:
    """A folder's tokenizer, always to its full length; special tokens in a text are text."""

    def __init__(self, folder: Path, length: int, padding: str) -> None:
        from tokenizers import Tokenizer as Rust

        self._tokenizer = Rust.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.enable_truncation(length)
        self._tokenizer.enable_padding(length=length, pad_id=self._tokenizer.token_to_id(padding), pad_token=padding)

    @property
    def words(self) -> int:
        """How many tokens there are."""
        return self._tokenizer.get_vocab_size()

    def __call__(self, texts: list[str]) -> Int[Tensor, "N L"]:
        """The token ids of texts."""
        return torch.tensor([encoded.ids for encoded in self._tokenizer.encode_batch(texts)])
