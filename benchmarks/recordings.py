"""What would a faithful copy of one recording get? python -m benchmarks.recordings --motions=RESULT.json [--json PATH].

People move in different ways, and the held-out recordings are few: a motion may miss a figure because the recordings
that the prior learned from miss it, too. So each training recording is judged as if we had made it (the median of its
windows), and stands beside our motions, from a result of `benchmarks.motion report`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import timing
from md_jax.evaluate import scores
from md_jax.evaluate.command import MAIN_ACTIONS
from md_jax.evaluate.yardstick import Yardstick, load_yardstick
from md_jax.mocap.windows import evenly
from md_jax.options.command import parse_simple, stop
from md_jax.run.torch_side import run_program

MEASURES = {
    "nn_ratio": "nearest real",
    "cosine": "velocity cosine",
    "ankles_fore_aft_ratio": "ankles fore-aft",
    "ankles_sideways_ratio": "ankles sideways",
    "wrists_fore_aft_ratio": "wrists fore-aft",
    "speed_ratio": "speed",
}
WINDOWS = 40  # of a recording, at most, evenly spread


def main() -> None:
    """Judge, print, write."""
    args = parse_simple(
        __doc__, "benchmarks.recordings",
        motions=("", "a result of benchmarks.motion report --json, whose first cell is compared"),
        actions=(list(MAIN_ACTIONS), "what is compared"),
        json=("", "also write the figures here"),
    )  # fmt: skip
    if not args.motions:
        stop("--motions=RESULT.json, written by benchmarks.motion report, is expected.")
    result = json.loads(Path(args.motions).read_text(encoding="utf-8"))
    ours = next(iter(result["cells"].values()))["motions"]
    yardstick = load_yardstick()
    found = {action: judged(yardstick, action) for action in args.actions}
    print(report(found, ours))
    if args.json:
        recorded = {"environment": timing.environment("jax", "numpy"), "motions": args.motions, "recordings": found}
        timing.write_json(args.json, recorded)


def judged(yardstick: Yardstick, action: str) -> list[dict[str, float]]:
    """Of each training recording of an action, what `MEASURES` say of it."""
    others = yardstick.reference(action, "turning").others
    entries = []
    for recording in np.unique(others.recording):
        windows = others.joints[others.recording == recording]
        entries += [scores.Entry(f"{recording}/{i}", windows[i : i + 1], action) for i in evenly(len(windows), WINDOWS)]
    rows = scores.score(yardstick, entries, "turning")
    names = [row["name"].partition("/")[0] for row in rows]
    return [
        {measure: float(np.median([row[measure] for row, own in zip(rows, names, strict=True) if own == name]))
         for measure in MEASURES}
        for name in dict.fromkeys(names)
    ]  # fmt: skip


def report(found: Mapping[str, Sequence[Mapping[str, float]]], ours: Sequence[Mapping[str, Any]]) -> str:
    """A row an action: our median, and in brackets the least, the median and the most of the training recordings."""
    rows = []
    for action, recordings in found.items():
        own = [motion for motion in ours if motion["expected"] == action]
        cells = []
        for measure in MEASURES:
            low, middle, high = np.quantile([each[measure] for each in recordings], [0, 0.5, 1])
            mine = f"{np.median([motion[measure] for motion in own]):.2f}" if own else ""
            spread = f"{middle:.2f}" if len(recordings) == 1 else f"{low:.2f}, {middle:.2f}, {high:.2f}"
            cells.append(f"{mine} ({spread})")
        rows.append([f"{action.replace('_', ' ')}, {len(recordings)}", *cells])
    return timing.table(["action, recordings", *MEASURES.values()], rows)


if __name__ == "__main__":
    run_program(main)
