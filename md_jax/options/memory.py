"""The least memory that a run needs, compared with what is free before any of it is taken.

A lower bound by the largest arrays: a run that is refused could not have ended, one that is let through may still run
out. Bytes a sample are those that `benchmarks.memory` counts for the renderer.
"""

from __future__ import annotations

from pathlib import Path

from md_jax.config import Config
from md_jax.errors import UserError

BASE = 2**29  # bytes of the two frameworks and the smallest prior
SAMPLE = 36  # bytes that the renderer keeps of a sample of a picture
PIXEL = 24  # bytes of a picture's pixel: three floats, and their gradient
VERTEX = 36  # bytes of a vertex: its place, its gradient, and its place in the outputs


def estimate(config: Config, motions: int, frames: int, height: int, width: int, vertices: int) -> int:
    """Bytes that a run takes at least.

    Args:
        config: the options.
        motions, frames, height, width: of the run, as the prior wants them where the options say nothing.
        vertices: of the body.
    """
    clips = 1 if config.low_vram else min(config.prior_batch, motions * config.views)
    pixels = clips * frames * height * width
    return BASE + pixels * (SAMPLE * config.supersample**2 + PIXEL) + motions * frames * vertices * VERTEX


def check_memory(needed: int, free: int | None = None) -> None:
    """Refuse a run that needs more memory than there is.

    Args:
        needed: bytes, from `estimate`.
        free: bytes; None: what this machine has free.

    Raises:
        UserError: it does.
    """
    free = available() if free is None else free
    if free is not None and needed > free:
        raise UserError(
            f"this run needs at least {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} GiB are free: take"
            " fewer --num_motions, a smaller --prior_batch or --supersample, smaller pictures, or fewer frames."
        )


def available() -> int | None:
    """Bytes of memory that are free here, swap and a container's own limit included; None where nobody tells."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        free = sum(int(lines[name].split()[0]) * 1024 for name in ("MemAvailable", "SwapFree") if name in lines)
    except (OSError, ValueError):
        return None
    for limit, used in (("memory.max", "memory.current"),):
        group = Path("/sys/fs/cgroup")
        try:
            most, now = (group / limit).read_text().strip(), int((group / used).read_text())
        except (OSError, ValueError):
            continue
        if most != "max":
            free = min(free, int(most) - now)
    return free
