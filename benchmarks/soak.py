"""Memory over thousands of steps: python -m benchmarks.soak [--steps 5000].

Takes the main job's steps without files, and prints what the process holds every thousand steps. Between a fifth of the
way and the end it may grow by one hundredth; the step must compile once.
"""

from __future__ import annotations

import gc
import os
import sys

from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program


def resident() -> int:
    """Bytes that this process holds now (Linux)."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(steps: int, every: int) -> tuple[list[tuple[int, int]], int]:
    """Bytes held after every so many steps, and how many programs were compiled after the first ones."""
    import jax

    from md_jax.config import Config
    from md_jax.fit import train
    from md_jax.run.build import make_job

    config = Config(steps=steps, control_run=False)
    job = make_job(config)
    compiled = 0

    def count(event: str, *_: object, **__: object) -> None:
        nonlocal compiled
        compiled += event == "/jax/core/compile/backend_compile_duration"

    held: list[tuple[int, int]] = []
    begun = train.init_state(config, job.params)
    for done, (state, _) in enumerate(train.steps(config, job.problem, begun, job.op), 1):
        if done == 10:
            jax.monitoring.register_event_duration_secs_listener(count)
        if done % every == 0:
            jax.block_until_ready(state.step)
            gc.collect()
            held.append((done, resident()))
            print(f"step {done}: {held[-1][1] / 2**20:.1f} MiB", flush=True)
    return held, compiled


def main() -> None:
    """Parse, soak, judge."""
    options = parse_simple(__doc__, "benchmarks.soak", steps=(5000, "Steps."), every=(500, "Steps between lines."))
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    held, compiled = soak(options.steps, options.every)
    early = next(size for step, size in held if step >= options.steps // 5)
    growth = held[-1][1] / early - 1
    per_step = (held[-1][1] - early) / max(options.steps - options.steps // 5, 1)
    print(f"grew by {growth:.2%} ({per_step:.0f} bytes a step); {compiled} programs compiled after the tenth step")
    sys.exit(growth > 0.01 or compiled > 0)


if __name__ == "__main__":
    run_program(main)
