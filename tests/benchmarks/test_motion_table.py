"""The README's table of motions, made again for a few of them: the figures stay in a band.

A motion has the same bits on the same processor alone. Elsewhere sums round differently, and a sample of 25 steps makes
more of it, so single motions are held loosely and their medians tightly.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import motion

TABLE = Path("benchmarks/results/2026-11-28-cpu-motion-6000-triangles.json")
ACTIONS = ("walking", "running", "jumping")  # the first three of the table: a motion's draws depend on its place


@pytest.mark.slow
def test_motions_of_the_table_can_be_made_again(tmp_path):
    known = json.loads(TABLE.read_text(encoding="utf-8"))
    cell = next(iter(known["cells"].values()))
    (tmp_path / "cells.txt").write_text(f"again | {' '.join(cell['flags'])}\n")
    args = SimpleNamespace(
        cells=str(tmp_path / "cells.txt"), job=known["flagfile"], seeds=[0], out=str(tmp_path / "out"),
        actions=list(ACTIONS), json="", motions="", markdown=False,
    )  # fmt: skip
    motion.run(args)
    again = {row["name"]: row for row in motion.report(args)["cells"]["again"]["motions"]}
    before = {row["name"]: row for row in cell["motions"]}
    names = [f"seed-000/{action}" for action in ACTIONS]
    for measure, band in (("nn_ratio", 0.25), ("speed_ratio", 0.15), ("ankles_fore_aft_ratio", 0.25)):
        ratio = [again[name][measure] / before[name][measure] for name in names]
        assert np.all(np.abs(np.log(ratio)) < 2 * band), (measure, ratio)
        assert abs(np.log(np.median(ratio))) < band, (measure, ratio)
    apart = [abs(again[name]["cosine"] - before[name]["cosine"]) for name in names]
    assert np.median(apart) < 0.15, apart
