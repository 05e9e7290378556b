"""Has a ratio got worse? python -m benchmarks.check (or make bench-check), by hand before a release.

Measures what `benchmarks.all` measures and compares with benchmarks/ratios.json: where one of our advantages is down by
more than 15 %, it says which and exits with 1. Ratios are to peers of the same run, so that another machine, or a busy
one, moves them less than it moves times; still, run it on an idle one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from benchmarks.all import RATIOS, kept, measured, rows_of
from md_jax.options.command import parse_simple
from md_jax.run.torch_side import run_program

WORSE = 0.15  # share of a ratio that may be lost


def lost(before: Mapping[str, float], now: Mapping[str, float], worse: float = WORSE) -> list[str]:
    """A line for each ratio that is down by more than `worse`, or no longer measured."""
    lines = []
    for name, ratio in before.items():
        if name not in now:
            lines.append(f"{name}: was {ratio:.2f}×, and is not measured any more")
        elif now[name] < (1 - worse) * ratio:
            lines.append(f"{name}: was {ratio:.2f}×, is {now[name]:.2f}× ({now[name] / ratio - 1:+.0%})")
    return lines


def main() -> int:
    parse_simple(__doc__, "benchmarks.check")
    before = json.loads(RATIOS.read_text(encoding="utf-8"))
    lines = lost(before, kept(rows_of(measured())))
    print("\n".join(lines) if lines else f"all {len(before)} ratios are within {WORSE:.0%} of what is kept, or better")
    return 1 if lines else 0


if __name__ == "__main__":
    run_program(main)
