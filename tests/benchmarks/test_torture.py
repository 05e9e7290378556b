"""The torture test: a few of its trials, and that its report counts faults."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import torture

ROOT = Path(__file__).parents[2]


def test_the_report_counts_faults():
    text = torture.report([torture.Trial("one"), torture.Trial("two", "a traceback")], 0)
    assert "2 trials, 1 faults" in text and "| two | a traceback |" in text


@pytest.mark.slow
def test_interrupted_and_damaged_runs_end_alike(tmp_path):
    """In a process of its own: it forks, and JAX does not survive that where it has computed already."""
    page = tmp_path / "torture.md"
    words = ["--kills=6", "--flips=6", "--disks=0", "--seed=1", f"--out={page}"]
    command = [sys.executable, "-m", "benchmarks.torture", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    assert "12 trials, 0 faults" in page.read_text(encoding="utf-8")
