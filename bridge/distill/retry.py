"""When a GPU's memory is full: say which flags help, or halve what is done at once and go on."""

from __future__ import annotations

import dataclasses
import gc
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bridge.critic import Batching, Critic, Judgement, Stopwatch
from bridge.errors import ADVICE, OutOfMemory, reason_of


def halved(batching: Batching, clips: int, frames: int) -> Batching | None:
    """Half as much at once: fewer clips, and where it is one, fewer frames encoded at a time.

    Args:
        batching: what did not fit.
        clips: N of a step; a batch is never larger.
        frames: F of a clip; a chunk of 0 means all of them.

    Returns:
        What to try next; None where there is nothing left to halve.
    """
    batch = min(batching.prior_batch, clips)
    chunk = min(batching.encode_chunk or frames, frames)
    if batch > 1:
        return dataclasses.replace(batching, prior_batch=batch // 2)
    if chunk > 1:
        return dataclasses.replace(batching, encode_chunk=chunk // 2)
    return None


class CarefulCritic:
    """A critic that survives a full GPU, or says what to do about it: OutOfMemory in place of torch's own error."""

    def __init__(self, make: Callable[[Batching], Critic], batching: Batching, retry: bool) -> None:
        """Wrap the critics that `make` gives.

        Args:
            make: a critic that does so much at once; cheap, as the prior stays loaded.
            batching: to begin with.
            retry: whether to halve what is done at once and try the same step again.
        """
        self._make, self._batching, self._retry = make, batching, retry
        self._critic = make(batching)

    @property
    def metric_names(self) -> tuple[str, ...]:
        """See `bridge.critic.Critic`."""
        return self._critic.metric_names

    @property
    def parts(self) -> Stopwatch:
        """See `bridge.critic.Critic`."""
        return self._critic.parts

    def __call__(self, x: Tensor, draws: Any, grad_out: Tensor | None = None) -> Judgement:
        """Judge x (see `bridge.critic.Critic`).

        Raises:
            OutOfMemory: it does not fit, and may not or cannot be halved.
        """
        while True:
            try:
                return self._critic(x, draws, grad_out)
            except torch.OutOfMemoryError as error:
                reason = reason_of(error)
            # Out here the error, and with it the tensors of its frames, is gone.
            smaller = halved(self._batching, len(draws.azimuth), x.shape[1]) if self._retry else None
            if smaller is None:
                raise OutOfMemory(f"the GPU's memory is full ({reason}). {ADVICE}")
            change = _change(self._batching, smaller)
            warnings.warn(f"the GPU's memory is full ({reason}): going on with {change}.", stacklevel=2)
            self._batching, self._critic = smaller, self._make(smaller)
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _change(old: Batching, new: Batching) -> str:
    if new.prior_batch != old.prior_batch:
        return f"--prior_batch={new.prior_batch} (was {old.prior_batch})"
    return f"--encode_chunk={new.encode_chunk} (was {old.encode_chunk or 'all frames'})"
