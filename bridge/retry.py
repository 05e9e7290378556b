"""When a GPU's memory is full: say which flags help, or halve what is done at once and go on."""

from __future__ import annotations

import dataclasses
import gc
import warnings
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from bridge.errors import BridgeError

ADVICE = (
    "What helps, the most first: --low_vram; --oom=retry, which halves what is done at once until it fits;"
    " --prior_batch=1; --encode_chunk=1; --supersample=1; --views=1; fewer --frames; a smaller --height and --width;"
    " --dtype=float16. Other programs on the card (nvidia-smi lists them) take their share, too."
)


class OutOfMemory(BridgeError):
    """The GPU's memory does not hold a step; the message names the flags that help."""


class Amounts(Protocol):
    """The settings of a teacher that decide how much is done at once (`bridge.distill.critic.TeacherSettings`)."""

    @property
    def prior_batch(self) -> int: ...

    @property
    def encode_chunk(self) -> int: ...


S = TypeVar("S", bound=Amounts)
TeacherFn = Callable[..., tuple[Tensor, Tensor, dict[str, Tensor]]]


def halved(settings: S, clips: int, frames: int) -> S | None:
    """Settings that do half as much at once: fewer clips, and where it is one, fewer frames encoded at a time.

    Args:
        settings: what did not fit.
        clips: N of a step; a batch is never larger.
        frames: F of a clip; a chunk of 0 means all of them.

    Returns:
        The new settings; None where there is nothing left to halve. The step's result is the same up to rounding.
    """
    batch = min(settings.prior_batch, clips)
    chunk = min(settings.encode_chunk or frames, frames)
    if batch > 1:
        change = {"prior_batch": batch // 2}
    elif chunk > 1:
        change = {"encode_chunk": chunk // 2}
    else:
        return None
    return dataclasses.replace(settings, **change)  # type: ignore[type-var]


def sparing(make: Callable[[S], TeacherFn], settings: S, retry: bool) -> TeacherFn:
    """A teacher that survives a full GPU, or says what to do about it.

    Args:
        make: a teacher of given settings (`bridge.distill.critic.make_teacher`); cheap, as the prior stays loaded.
        settings: to begin with.
        retry: whether to halve what is done at once and try the same step again.

    Returns:
        A function like make(settings), which raises OutOfMemory in place of torch.OutOfMemoryError.
    """
    current, teach = settings, make(settings)

    def teacher(verts: Tensor, draws: Any, grad_out: Tensor | None = None) -> Any:
        nonlocal current, teach
        while True:
            try:
                return teach(verts, draws, grad_out)
            except torch.OutOfMemoryError as error:
                reason = reason_of(error)
            # Out here the error, and with it the tensors of its frames, is gone.
            smaller = halved(current, len(draws.azimuth), verts.shape[1]) if retry else None
            if smaller is None:
                raise OutOfMemory(f"the GPU's memory is full ({reason}). {ADVICE}")
            warnings.warn(f"the GPU's memory is full ({reason}): {_difference(current, smaller)}", stacklevel=2)
            current, teach = smaller, make(smaller)
            teacher.parts = teach.parts  # type: ignore[attr-defined]
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    teacher.metric_names = teach.metric_names  # type: ignore[attr-defined]
    teacher.parts = teach.parts  # type: ignore[attr-defined]
    return teacher


def reason_of(error: torch.OutOfMemoryError) -> str:
    """What torch says that it asked for: "Tried to allocate 2.00 GiB"."""
    return str(error).removeprefix("CUDA out of memory. ").split(". ")[0] or "no details given"


def _difference(old: Amounts, new: Amounts) -> str:
    name = "prior_batch" if old.prior_batch != new.prior_batch else "encode_chunk"
    return f"going on with --{name}={getattr(new, name)} (was {getattr(old, name) or 'all frames'})."
