"""Checkpoints by orbax: the newest two kept, the newest readable one restored."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from md_jax.errors import UserError

State = TypeVar("State", bound=Any)


class Checkpoints:
    """The checkpoints in one folder. A state is any pytree of arrays with a `step` leaf."""

    def __init__(self, folder: Path) -> None:
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # orbax logs a page a save; errors we report ourselves
        import orbax.checkpoint as ocp  # a second of import: not for --help

        self._ocp = ocp
        self._folder = folder.resolve()
        try:
            self._manager = ocp.CheckpointManager(
                self._folder,
                options=ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False),
            )
        except OSError as error:
            raise UserError(f"checkpoints cannot be written to {folder}: {error}") from error

    def save(self, state: Any) -> None:
        """Save `state` under its step; nothing happens if that step is saved already."""
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        try:
            self._manager.save(step, args=self._ocp.args.StandardSave(_named(state)))
        except OSError as error:
            raise UserError(f"checkpoint {step} could not be written to {self._folder}: {error}") from error

    def restore(self, state: State, tell: Callable[[str], None] = lambda text: None) -> State:
        """The newest readable checkpoint in the form of `state`, or `state` itself where there is none.

        `tell` is called with which it is, and with those that cannot be read.

        Raises:
            UserError: there are checkpoints, but none can be read.
        """
        steps = sorted(self._manager.all_steps(), reverse=True)
        failures = []
        for step in steps:
            try:
                stored = self._manager.restore(step, args=self._ocp.args.StandardRestore())
                restored = _from_named(stored, state)
            except Exception as error:
                failures.append(f"step {step}: {str(error).splitlines()[0][:160]}")
                continue
            for failure in failures:
                tell(f"a checkpoint cannot be read, {failure}")
            tell(f"going on from step {step}")
            return restored
        if failures:
            raise UserError(
                f"no checkpoint in {self._folder} can be read ({'; '.join(failures)}). They are damaged or belong to a"
                " run with other options: delete that folder to start this run again from step 0."
            )
        return state

    def close(self) -> None:
        self._manager.close()


def _named(state: Any) -> dict[str, np.ndarray]:
    """The leaves under their paths; typed PRNG keys as their integer data."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): np.asarray(jax.random.key_data(x) if _is_key(x) else x) for path, x in leaves}


def _from_named(stored: dict[str, Any], template: State) -> State:
    """The stored leaves in the form of `template`, every name and shape checked."""
    expected = _named(template)
    if stored.keys() != expected.keys():
        raise ValueError(f"holds {len(stored)} arrays, other than the {len(expected)} expected")
    for name, x in expected.items():
        if stored[name].shape != x.shape:
            raise ValueError(f"{name} has shape {stored[name].shape}, expected {x.shape}")
    leaves, structure = jax.tree.flatten(template)
    values = [jnp.asarray(np.asarray(stored[name]), x.dtype) for name, x in expected.items()]
    keyed = [jax.random.wrap_key_data(v) if _is_key(x) else v for v, x in zip(values, leaves, strict=True)]
    return jax.tree.unflatten(structure, keyed)


def _is_key(x: Any) -> bool:
    return jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)
