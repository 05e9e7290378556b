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

COMPONENTS, POSES = "components.f16", "poses.npz"  # by tools.prior_data
LATENTS, AUTOENCODER = "clips.f16", "autoencoder.safetensors"  # by tools.train_autoencoder


class Clips:
    """The rendered clips of `tools.prior_data`, split by recording."""

    def __init__(self, folder: Path, actions: dict[str, Any]) -> None:
        self.meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        table = np.load(folder / "clips.npz")
        self.azimuth, self.moment = table["azimuth"], table["moment"]
        self.manner, self.side, self.turn = (table[name].astype(str) for name in ("manner", "side", "turn"))
        self.action = np.array([self.meta["actions"][i] for i in table["action"]])
        self.latents = np.fromfile(folder / LATENTS, np.float16).reshape(len(self.azimuth), *self.meta["shape"])
        wanted = np.isin(self.action, list(actions))
        self.train = np.flatnonzero(wanted & ~table["held_out"])
        self.held_out = np.flatnonzero(wanted & table["held_out"])

    def of(self, index: np.ndarray) -> Tensor:
        """Latents (N, F, C) of clips."""
        return torch.from_numpy(self.latents[index]).float()


class Captions:
    """Token ids of drawn captions."""

    def __init__(self, actions: dict[str, Any], tokenizer: Any) -> None:
        self.actions, self.tokenizer = actions, tokenizer

    def texts(self, clips: Clips, index: np.ndarray, rng: random.Random, *, drop: float) -> list[str]:
        """A caption of each clip; a share `drop` of them is empty."""

        def text_of(i: int) -> str:
            if rng.random() < drop:
                return ""
            how = [clips.manner[i], clips.side[i], clips.turn[i]]
            action = clips.action[i]
            moment, azimuth = int(clips.moment[i]), float(clips.azimuth[i])
            return prior_text.caption(action, self.actions[action], how, moment, azimuth, rng)

        return [text_of(i) for i in index]

    def tokens(self, clips: Clips, index: np.ndarray, rng: random.Random, *, drop: float) -> Tensor:
        texts = self.texts(clips, index, rng, drop=drop)
        return torch.tensor([encoded.ids for encoded in self.tokenizer.encode_batch(texts)])
