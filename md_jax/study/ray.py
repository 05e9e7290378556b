"""The cells of a study as Ray tasks, on this machine or on a cluster."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from md_jax.errors import UserError

if TYPE_CHECKING:
    from md_jax.study.cells import Cell, Record

NOT_GATHERED = ("checkpoints",)


@dataclasses.dataclass(frozen=True)
class Resources:
    """What a cell gets.

    Attributes:
        cpus, gpus: of each task; Ray runs as many at once as the cluster has.
        retries: how often a task whose worker died is started again (it then goes on from its checkpoints, where they
            can be seen); a cell that fails by itself is recorded and not repeated.
        address: of the cluster; "": start one here.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    retries: int = 2
    address: str = ""


def launch(
    cells: Sequence[Cell],
    on_done: Callable[[Cell, Record], None],
    resources: Resources,
    run: Callable[[Cell], Record],
) -> None:
    """Run every cell as a task; its files come back here, where they are not there already.

    Args:
        cells: what to run; the paths in them are those of the workers.
        on_done: called here with each finished cell and its record, in the order in which they finish.
        resources: of each task.
        run: what a worker does.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or this machine has less than a cell is to get.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a task without GPUs keeps what it sees
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--launcher=ray needs Ray, which is not installed: pip install -e '.[ray]', or leave the flag out to run"
            " the cells here, one after the other."
        ) from error
    started = not ray.is_initialized()
    if started:
        try:
            ray.init(address=resources.address or None, include_dashboard=False, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"the Ray cluster at {resources.address or 'this machine'} does not start: {error}"
            ) from error
    # Ray would give torch as many threads as a task has cores, and a motion should not depend on their number.
    threads: dict[str, Any] = {"env_vars": {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}}
    task = ray.remote(
        num_cpus=resources.cpus, num_gpus=resources.gpus, max_retries=resources.retries, runtime_env=threads
    )(_run_and_pack)
    try:
        if not resources.address:
            _check_fits(resources, ray.cluster_resources())
        pending = {task.remote(run, cell): cell for cell in cells}
        while pending:
            (ready, *_), _ = ray.wait(list(pending), num_returns=1)
            cell = pending.pop(ready)
            try:
                record, files = ray.get(ready)
            except ray.exceptions.RayError as error:
                record, files = _lost(cell, error), {}
            unpack(cell, files)
            on_done(cell, record)
    finally:
        if started:
            ray.shutdown()


def _check_fits(resources: Resources, there: dict[str, float]) -> None:
    """Refuse what Ray would wait for without end; a cluster elsewhere may still grow."""
    for name, asked in (("cpus", resources.cpus), ("gpus", resources.gpus)):
        has = there.get(name[:-1].upper(), 0.0)
        if asked > has:
            raise UserError(f"--{name}_per_cell={asked:g} is more than the {has:g} that this machine has.")


def pack(cell: Cell) -> dict[str, bytes]:
    """The files of a finished cell, by their path beside its folder; without checkpoints."""
    base = cell.folder.parent
    files = [*cell.folder.rglob("*"), cell.log] if cell.folder.is_dir() else [cell.log]
    return {
        file.relative_to(base).as_posix(): file.read_bytes()
        for file in files
        if file.is_file() and not set(NOT_GATHERED) & set(file.relative_to(base).parts)
    }


def unpack(cell: Cell, files: dict[str, bytes]) -> None:
    """Write what is not there already (workers of this machine, or with a shared disk, wrote it themselves)."""
    for name, data in files.items():
        path: Path = cell.folder.parent / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def _run_and_pack(run: Callable[[Cell], Record], cell: Cell) -> tuple[Record, dict[str, bytes]]:
    """What a worker does."""
    return run(cell), pack(cell)


def _lost(cell: Cell, error: Exception) -> dict[str, Any]:
    config = cell.config
    names = ("prompt", "prior", "prior_path", "mode", "seed")
    error = getattr(error, "cause", None) or error  # what the task raised, if it is that
    what = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
    known = {name: getattr(config, name) for name in names}
    return {"state": "failed", "name": cell.folder.name, **known, "seconds": 0.0, "error": what}
