"""The rendered clips of `tools.prior_data` and their captions, as training and reports read them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tools import prior_text


class Clips:
    """The rendered clips of `tools.prior_data`, split by recording."""

    def __init__(self, folder: Path, actions: dict[str, Any]) -> None:
        self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        table = np.load(folder / "clips.npz")
        self.azimuth, self.turning = table["azimuth"], table["turning"]
        self.action = np.array([self.meta["actions"][i] for i in table["action"]])
        self.pixels = np.memmap(folder / "clips.u8", np.uint8, "r").reshape(len(self.azimuth), *self.meta["shape"])
        wanted = np.isin(self.action, list(actions))
        self.train = np.flatnonzero(wanted & ~table["held_out"])
        self.held_out = np.flatnonzero(wanted & table["held_out"])

    def video(self, index: np.ndarray) -> Tensor:
        """Clips (N, 3, F, H, W) in [-1, 1]."""
        frames = torch.from_numpy(self.pixels[np.sort(index)])
        order = np.argsort(np.argsort(index))
        return frames[order].permute(0, 4, 1, 2, 3).float() / 127.5 - 1


class Captions:
    """Token ids of drawn captions."""

    def __init__(self, actions: dict[str, Any], tokenizer: Any) -> None:
        self.actions, self.tokenizer = actions, tokenizer

    def texts(self, clips: Clips, index: np.ndarray, rng: random.Random, *, drop: float) -> list[str]:
        """A caption of each clip; a share `drop` of them is empty."""

        def text_of(i: int) -> str:
            if rng.random() < drop:
                return ""
            entry, turning = self.actions[clips.action[i]], bool(clips.turning[i])
            return prior_text.caption(entry, clips.azimuth[i], rng, turning=turning)

        return [text_of(i) for i in index]

    def tokens(self, clips: Clips, index: np.ndarray, rng: random.Random, *, drop: float) -> Tensor:
        texts = self.texts(clips, index, rng, drop=drop)
        rows = self.tokenizer(texts, truncation=True, max_length=prior_text.MAX_TOKENS).input_ids
        unknown, pad = self.tokenizer.unk_token_id, self.tokenizer.pad_token_id
        if drop:
            named = zip(rows, texts, strict=True)
            rows = [prior_text.jitter(row, unknown, rng) if text else row for row, text in named]
        return torch.tensor([row + [pad] * (prior_text.MAX_TOKENS - len(row)) for row in rows])
