"""The harness of the motion benchmark: cells, configs, a tiny run with the oracle, and the report."""

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import main_job, motion
from benchmarks.oracle import held_out_poses

ACTIONS = ("walking", "punching")
CELLS = """# a comment
one step | --action=generic --fit_steps=1 --sample_steps=2 --steps=1 --views=1
the truth | --action=generic --mode=pose --steps=1 --views=1 @critic=oracle
no words | --mode=pose --steps=1 --views=1 @critic=unconditional
elsewhere | --mode=pose --steps=1 --views=1 @start=wrong
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    (folder / "cells.txt").write_text(CELLS)
    args = SimpleNamespace(
        cells=str(folder / "cells.txt"),
        job="configs/run.flags",
        seeds=[0],
        out=str(folder / "out"),
        actions=list(ACTIONS),
        json=str(folder / "report.json"),
        motions=str(folder / "poses.npz"),
        markdown=True,
    )
    motion.run(args)
    return args


def test_cells_are_read(tmp_path):
    (tmp_path / "cells.txt").write_text(CELLS)
    cells = motion.read_cells(tmp_path / "cells.txt")
    assert [cell.name for cell in cells] == ["one step", "the truth", "no words", "elsewhere"]
    assert cells[1].words == {"critic": "oracle"}
    prompts = tmp_path / "prompts.txt"
    config = main_job.config_of("configs/run.flags", ACTIONS, prompts, [*cells[0].flags, "--seed=3"])
    assert (config.action, config.steps, config.seed) == ("generic", 1, 3)
    assert len(prompts.read_text().splitlines()) == len(ACTIONS)


@pytest.mark.slow
def test_every_cell_leaves_its_poses_and_the_wrong_start_is_another_actions(runs):
    from md_jax.mocap.statistics import load_statistics

    def poses(name):
        return np.load(f"{runs.out}/{name}/seed-000.npz")["body_pose"]

    for name in ("one-step", "the-truth", "no-words", "elsewhere"):
        assert poses(name).shape == (2, 10, 21, 3) and np.isfinite(poses(name)).all()
    # one step of Adam moves little from the start
    own, other = (np.abs(poses("elsewhere")[0] - load_statistics(a).body_mean).mean() for a in ACTIONS)
    assert other < own


@pytest.mark.slow
def test_report_judges_them_beside_the_controls(runs, capsys):
    result = motion.report(runs)
    assert set(result["cells"]) == {"one step", "the truth", "no words", "elsewhere"}
    assert result["cells"]["one step"]["count"] == 2
    said = capsys.readouterr().out
    assert "| real motion |" in said and "| the truth |" in said and "punching* (1)" in said
    kept = np.load(runs.motions)
    assert kept["body_pose"].shape == (2, 10, 21, 3) and list(kept["action"]) == list(ACTIONS)


def test_oracle_shows_held_out_motion():
    poses = held_out_poses(ACTIONS, 10, 10.0)
    assert poses.shape == (2, 10, 21, 3)
    assert np.abs(np.diff(poses, axis=1)).max() > 0.05
