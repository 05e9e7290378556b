"""Checkpoints: one file each, written whole, with a digest over every byte; the newest whole one is taken.

A file is a safetensors file: any program can look into it. Its header holds, besides the arrays, the types that the
format has no name for, and the SHA-256 of the file as it is with 64 zeros in the digest's place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from md_jax.errors import UserError
from md_jax.files import MIB, make_folder, read_bytes, write_bytes

State = TypeVar("State", bound=Any)
KEPT = 3  # newest checkpoints
LIMIT = 16 * 1024 * MIB  # bytes of a file
_NAME = re.compile(r"step-(\d{8})\.safetensors")
_DIGEST = re.compile(rb'\\"sha256\\": \\"([0-9a-f]{64})\\"')
_HEADER = "checkpoint"  # the one entry of the format's own metadata: several would be written in any order


class DamagedError(ValueError):
    """A checkpoint that is not, byte for byte, what was saved; or one of another run."""


class Checkpoints:
    """The checkpoints in one folder. A state is any pytree of arrays with a `step` leaf, typed PRNG keys included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, state: Any) -> None:
        """Save `state` under its step, then remove all but the newest few.

        Raises:
            WriteError: it cannot be written; those that were there before still are.
        """
        make_folder(self._folder)
        step = int(state.step)
        write_bytes(self._folder / f"step-{step:08d}.safetensors", encode(state))
        older = [path for number, path in self._files() if number < step]
        for path in older[KEPT - 1 :]:
            with contextlib.suppress(OSError):  # one too many does no harm
                path.unlink()

    def restore(self, state: State, tell: Callable[[str], None] = lambda text: None) -> State:
        """The newest whole checkpoint in the form of `state`, or `state` itself where there is none at all.

        `tell` is called with which it is, and with those that are left aside.

        Raises:
            UserError: there are checkpoints, but none is whole and of this run.
        """
        failures = [f"{path.name}: a folder, as older versions wrote them" for path in self._old_folders()]
        for step, path in self._files():
            try:
                restored = decode(read_bytes(path, LIMIT), state)
                if int(restored.step) != step:
                    raise DamagedError(f"holds step {int(restored.step)}")
            except (DamagedError, UserError) as error:
                failures.append(f"{path.name}: {error}")
                continue
            for failure in failures:
                tell(f"a checkpoint is left aside, {failure}")
            tell(f"going on from step {step}")
            return restored
        if failures:
            raise UserError(
                f"no checkpoint in {self._folder} is whole and of this run ({'; '.join(failures)}). All are left as"
                " they are; the run can be made anew in another folder, from its run.flags."
            )
        return state

    def _files(self) -> list[tuple[int, Path]]:
        """(step, file), newest first."""
        try:
            names = [(int(m[1]), path) for path in self._folder.iterdir() if (m := _NAME.fullmatch(path.name))]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(f"the checkpoints in {self._folder} cannot be read: {error.strerror or error}.") from error
        return sorted(names, reverse=True)

    def _old_folders(self) -> list[Path]:
        return sorted(p for p in self._folder.iterdir() if p.name.isdigit()) if self._folder.is_dir() else []


# --- a state as bytes -------------------------------------------------------------------------------------------


class _Leaf(NamedTuple):
    """An array of a state as the file has it."""

    value: np.ndarray  # of a type that safetensors has a name for
    kind: str  # the type that it has in the state


def encode(state: Any) -> bytes:
    """A state as the bytes of its file."""
    leaves = _named(state)
    header = {"sha256": "0" * 64, "types": {name: leaf.kind for name, leaf in leaves.items()}}
    data = save({name: leaf.value for name, leaf in leaves.items()}, {_HEADER: json.dumps(header)})
    return data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)


def decode(data: bytes, template: State) -> State:
    """The state that `encode` made these bytes of, in the form of `template`.

    Raises:
        DamagedError: a byte is not as it was, or names, shapes or types are others than the template's.
    """
    found = _DIGEST.search(data, 0, len(data))
    if found is None:
        raise DamagedError("damaged: it has no digest")
    whole = data[: found.start(1)] + b"0" * 64 + data[found.end(1) :]
    if hashlib.sha256(whole).hexdigest().encode() != found[1]:
        raise DamagedError("damaged: its bytes are not those that were saved")
    try:
        stored = load(data)
        (length,) = np.frombuffer(data[:8], "<u8").tolist()
        types = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][_HEADER])["types"]
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(f"no checkpoint: {error}") from error
    expected = _named(template)
    if types != {name: leaf.kind for name, leaf in expected.items()} or stored.keys() != expected.keys():
        differing = sorted(set(types.items()) ^ {(name, leaf.kind) for name, leaf in expected.items()})
        raise DamagedError(f"of a run with other options: {len(differing)} arrays differ, such as {differing[:1]}")
    values = []
    for (name, leaf), x in zip(expected.items(), jax.tree.leaves(template), strict=True):
        if stored[name].shape != leaf.value.shape:
            raise DamagedError(f"of a run with other options: {name} has shape {stored[name].shape}, here"
                               f" {leaf.value.shape}")  # fmt: skip
        values.append(_as_leaf(stored[name], x))
    return jax.tree.unflatten(jax.tree.structure(template), values)


def _named(state: Any) -> dict[str, _Leaf]:
    """The leaves under their paths."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): _leaf(x) for path, x in leaves}


def _leaf(x: Any) -> _Leaf:
    """Typed PRNG keys as their integer data; a type without a name, such as bfloat16, as its bytes."""
    kind = str(x.dtype) if isinstance(x, jax.Array | np.ndarray) else type(x).__name__
    value = np.array(jax.random.key_data(x) if _is_key(x) else x, order="C")  # ascontiguousarray makes scalars 1-D
    if value.dtype.isbuiltin != 1 or value.dtype.kind not in "biuf":
        value = value.reshape(*value.shape, 1).view(np.uint8)
    return _Leaf(value, kind)


def _as_leaf(stored: np.ndarray, x: Any) -> Any:
    """The stored array in the form of `x`."""
    if _is_key(x):
        return jax.random.wrap_key_data(jnp.asarray(stored), impl=jax.random.key_impl(x))
    kind = np.asarray(x).dtype
    value = stored if stored.dtype == kind else np.ascontiguousarray(stored).view(kind)[..., 0]
    if isinstance(x, jax.Array):
        return jnp.asarray(value)
    return value if isinstance(x, np.ndarray) else type(x)(value.item())


def _is_key(x: Any) -> bool:
    return isinstance(x, jax.Array) and jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
