"""benchmarks.embedded: what it counts, against sizes taken from the weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors import safe_open

from bridge.priors.embedded import SHIPPED

ROOT = Path(__file__).parents[2]


def test_the_work_is_that_of_the_weights_and_bfloat16_errs_a_little(tmp_path):
    out = tmp_path / "embedded.json"
    subprocess.run([sys.executable, "-m", "benchmarks.embedded", "--quick", f"--json={out}"], cwd=ROOT, check=True,
                   capture_output=True, timeout=600)  # fmt: skip
    rows = {row["case"]: row for row in json.loads(out.read_text())["rows"]}
    with safe_open(SHIPPED / "model.safetensors", "pt") as weights:
        sizes = {name: weights.get_slice(name).get_shape() for name in weights.keys()}  # noqa: SIM118
    layers = sum(a * b for name, (a, *rest) in sizes.items() if name.startswith("denoiser.layers") for b in rest[:1])
    tokens = 2 * 10  # a guidance pair of ten frames
    assert rows["float32: prediction"]["gflop"] == pytest.approx(2 * tokens * layers / 1e9, rel=0.1)
    assert 0.01 < rows["bfloat16: error of c - u"]["relative"] < 0.1
    assert all(row["gflop_a_second"] > 0 for row in rows.values() if "ms" in row)
