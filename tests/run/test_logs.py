"""metrics.jsonl and the progress line."""

import io
import json

import pytest
from rich.console import Console

from md_jax.files import WriteError
from md_jax.run.logs import Metrics, progress_line, read_metrics


def test_lines_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    metrics = Metrics(tmp_path, 0)
    for step in (10, 20, 30):
        metrics.append(step, {"loss": [1.0]})
    Metrics(tmp_path, 20).append(30, {"loss": [2.0]})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [
        (10, [1.0]),
        (20, [1.0]),
        (30, [2.0]),
    ]


def test_a_line_cut_off_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1}) + "\n" + '{"step": 2, "lo')
    assert read_metrics(tmp_path) == [{"step": 1}]


def test_a_log_file_gets_plain_lines():
    out = io.StringIO()
    with progress_line(Console(file=out, width=120), "motion", 20) as update:
        for step in range(1, 21):
            update(step, {"loss_sds": [2.0, 4.0], "loss_reg": [0.5, 0.5], "skipped": [0, 1], "step_seconds": 0.5})
    lines = out.getvalue().splitlines()
    assert len(lines) == 11
    assert "step 20/20" in lines[-1]
    assert "sds 3" in lines[-1]
    assert "2.0 steps/s  1 skipped" in lines[-1]
    assert "5 s left" in lines[5]


def test_an_image_term_is_told_beside_the_others():
    out = io.StringIO()
    with progress_line(Console(file=out, width=120), "motion", 1) as update:
        update(1, {"loss_sds": [2.0], "loss_image": [7.0], "loss_reg": [0.5], "skipped": [0], "step_seconds": 0.5})
    assert "sds 2  image 7  reg 0.5" in out.getvalue()


def test_lines_wait_while_nothing_can_be_written(tmp_path):
    metrics = Metrics(tmp_path, 0)
    metrics.append(1, {"loss": [1.0]})
    (tmp_path / "metrics.jsonl").rename(tmp_path / "aside")
    (tmp_path / "metrics.jsonl").mkdir()  # as good as a full disk
    with pytest.raises(WriteError):
        metrics.append(2, {"loss": [2.0]})
    (tmp_path / "metrics.jsonl").rmdir()
    (tmp_path / "aside").rename(tmp_path / "metrics.jsonl")
    metrics.append(3, {"loss": [float("nan")]})
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]
    assert read_metrics(tmp_path)[-1]["loss"] == [None]


def test_a_damaged_line_is_left_out_and_said(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnull\n{"step": NaN}\n{"step": 4}\n{"st')
    told: list[str] = []
    Metrics(tmp_path, 4, told.append).append(5, {})
    assert "2 damaged lines" in told[0]
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 4, 5]
