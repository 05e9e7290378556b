"""One arm of a step benchmark, measured in a process of its own: python -m benchmarks.step_worker TASK_AS_JSON.

Nothing is shared between arms but the machine: caches, thread pools, allocators and compiled programs are fresh.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
MARK = "result: "  # before the JSON line on stdout


@dataclasses.dataclass(frozen=True)
class Task:
    """What a worker measures."""

    arm: str  # of benchmarks.arms.ARMS
    case: str  # of benchmarks.arms.CASES
    flagfile: str = "configs/run.flags"
    options: tuple[tuple[str, Any], ...] = ()  # fields of Config that differ from the flag file
    warmup: int = 20
    steps: int = 100
    apart: int = 20  # further steps taken apart
    threads: int = 0  # CPU cores used; 0 = all


def run(task: Task) -> dict[str, Any]:
    """The result of a task from a fresh process; {"failed": why} where that ends with an error."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    # Compile time is part of what is measured.
    environment |= {"JAX_ENABLE_COMPILATION_CACHE": "false", "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1"}
    # torch would listen to the caller's setting, XLA would not.
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(task.threads or cores()))
    command = [sys.executable, "-m", "benchmarks.step_worker", json.dumps(dataclasses.asdict(task))]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK))
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or [f"exit status {done.returncode}"]
    return {"failed": last[0].strip()}


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def measure(task: Task) -> dict[str, Any]:
    """Set up, warm up, time and take apart one arm, in this process.

    Returns:
        "times" of the steps; "setup", "first_step" (with compilation) and "parts" (medians) in seconds; "memory" in
        bytes by allocator; "device".
    """
    if task.threads and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: task.threads])
    start = time.perf_counter()
    from md_jax.options.flags import from_flagfile

    config = from_flagfile(ROOT / task.flagfile)
    from benchmarks import arms  # starts the frameworks

    config = arms.config_of(task.arm, dataclasses.replace(config, **dict(task.options)))
    job = arms.make_setup(task.case, config)
    arm = arms.ARMS[task.arm](job)
    resident = forget_peak()
    ready = time.perf_counter()
    arm.step()
    first = time.perf_counter()
    for _ in range(max(task.warmup - 1, 0)):
        arm.step()
    gc.collect()
    gc.disable()
    times = []
    for _ in range(task.steps):
        before = time.perf_counter()
        arm.step()
        times.append(time.perf_counter() - before)
    gc.enable()
    memory = peak_memory(job.device, resident)  # before other programs are compiled
    parts = [arm.apart() for _ in range(task.apart + 2)][2:] if task.apart else []
    return {
        "device": job.device,
        "setup": ready - start,
        "first_step": first - ready,
        "times": times,
        "parts": {name: _median([each.get(name, 0.0) for each in parts]) for name in arms.PARTS} if parts else {},
        "memory": memory,
        "motions": len(job.prompts),
        "views": job.config.views,
        "frames": job.clip.frames,
        "vertices": len(job.surface.vertices),
    }


def peak_memory(device: str, resident: int) -> dict[str, int]:
    """Peak bytes of the process above `resident` and, on CUDA, of each framework's allocator."""
    memory = {"process": max(peak_resident() - resident, 0)}
    if device == "cuda":
        import jax
        import torch

        stats = jax.devices()[0].memory_stats() or {}
        memory |= {"jax": int(stats.get("peak_bytes_in_use", 0)), "torch": torch.cuda.max_memory_allocated()}
    return memory


def forget_peak() -> int:
    """Let the peaks of this process's memory start anew where that can be (Linux, torch); returns the process's now."""
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_resident()


def peak_resident() -> int:
    """The most bytes of memory that this process held."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


if __name__ == "__main__":
    print(MARK + json.dumps(measure(Task(**json.loads(sys.argv[1])))))
