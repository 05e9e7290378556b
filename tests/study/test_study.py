"""A study: cells by name, done ones skipped, interrupted ones resumed, failures recorded; its figure; Ray."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from rich.console import Console

from md_jax import main as main_job
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.options.command import ending_in_one_line
from md_jax.study import cells as cell_runs
from md_jax.study import command as study
from md_jax.study import figure as study_figure
from md_jax.study import ray as study_ray
from md_jax.study import report as study_report
from tests.pictures import assert_drawn

QUIET = Console(quiet=True)
ROOT = Path(__file__).parents[2]
TINY = Config(
    mode="pose", steps=2, views=1, control_run=False, preview_every=0, log_every=1, checkpoint_every=1, device="cpu"
)


def cells_in(folder, sentences=("a person is walking",), seeds=(0,), config=TINY, priors=(("embedded", ""),)):
    return cell_runs.cells_of(lambda name, path: config, sentences, priors, seeds, folder)


def here(cells, on_done):
    cell_runs.launch_here(cells, on_done, QUIET)


@pytest.fixture
def toy_run(monkeypatch):
    """A main job that takes no time: notes how it was asked, fails for 'unknown', is interrupted once if told to."""
    asked, interrupt = [], []

    def run_job(config, folder, console):
        asked.append((folder.name, config.resume))
        if "unknown" in config.prompt:
            raise UserError("this prior knows no such word")
        if interrupt:
            interrupt.pop()
            raise KeyboardInterrupt
        (folder / "summary.json").write_text("{}")
        return [folder]

    monkeypatch.setattr(main_job, "run_job", run_job)
    return asked, interrupt


def test_each_cell_has_its_own_folder_and_config(tmp_path):
    long = "a person is walking very slowly across a wide road"
    cells = cells_in(tmp_path, (long, long + " at night"), (0, 1), priors=(("embedded", ""), ("embedded", "other")))
    assert len({cell.folder for cell in cells}) == len(cells) == 8
    for cell in cells:
        assert cell.config.workdir == str(cell.folder) and cell.config.steps == 2
    assert [cell.config.seed for cell in cells] == [0] * 4 + [1] * 4  # a study cut short has some of everything
    assert study.parse_priors(["embedded", "modelscope=/a=b"]) == [("embedded", ""), ("modelscope", "/a=b")]
    with pytest.raises(UserError, match="each once"):
        study.parse_priors(["embedded", "embedded"])


def test_done_cells_are_skipped_failed_ones_recorded_and_tried_again(tmp_path, toy_run):
    asked, _ = toy_run
    cells = cells_in(tmp_path, ("a person is walking", "unknown words"), (0, 1))
    cell_runs.run_study(cells, here, QUIET)
    assert len(asked) == 4
    records = study_report.read_records(tmp_path)
    assert [r["state"] for r in records] == ["done", "done", "failed", "failed"]
    assert "UserError: this prior knows no such word" in records[-1]["error"]
    assert "Traceback" in cells[1].log.read_text()
    cell_runs.run_study(cells, here, QUIET)
    assert [name for name, _ in asked[4:]] == [cell.folder.name for cell in cells if "unknown" in cell.config.prompt]


def test_an_interrupted_cell_is_resumed_by_the_same_command(tmp_path, toy_run):
    asked, interrupt = toy_run
    interrupt.append(True)
    cells = cells_in(tmp_path, seeds=(0, 1))
    with pytest.raises(KeyboardInterrupt):
        cell_runs.run_study(cells, here, QUIET)
    cell_runs.run_study(cells, here, QUIET)
    assert [resume for _, resume in asked] == [False, True, False]
    assert all(cell_runs.is_done(cell) for cell in cells)


def test_other_flags_in_the_same_folder_are_refused(tmp_path, toy_run):
    cell_runs.run_study(cells_in(tmp_path), here, QUIET)
    changed = cells_in(tmp_path, config=dataclasses.replace(TINY, steps=3))
    with pytest.raises(UserError, match=r"--steps=2.*--steps=3.*another --workdir"):
        cell_runs.run_study(changed, here, QUIET)
    cell_runs.run_study(cells_in(tmp_path, config=dataclasses.replace(TINY, log_every=2)), here, QUIET)


def test_new_prompts_may_join_with_the_same_flags_alone(tmp_path, toy_run):
    asked, _ = toy_run
    cell_runs.run_study(cells_in(tmp_path), here, QUIET)
    others = {"sentences": ("a person is punching",), "seeds": (1,)}
    stronger = dataclasses.replace(TINY, guidance_scale=5.0)
    with pytest.raises(UserError, match=r"--guidance_scale=.*--guidance_scale=5"):
        cell_runs.run_study(cells_in(tmp_path, **others, config=stronger), here, QUIET)
    assert len(asked) == 1
    cell_runs.run_study(cells_in(tmp_path, **others), here, QUIET)
    latent = cells_in(tmp_path, config=dataclasses.replace(TINY, mode="latent", steps=9))
    cell_runs.run_study(latent, here, QUIET)  # another mode has flags of its own
    assert len(asked) == 3


def test_a_folder_of_another_prompt_is_not_taken_for_its_own(tmp_path, toy_run):
    """Names of cells hold six digits of a hash: two prompts may meet there."""
    [cell] = cells_in(tmp_path)
    cell_runs.run_study([cell], here, QUIET)
    other = cell._replace(config=dataclasses.replace(cell.config, prompt="a person is punching"))
    with pytest.raises(UserError, match=r"--prompt=a person is walking.*--prompt=a person is punching"):
        cell_runs.run_study([other], here, QUIET)


def test_an_unknown_prior_leaves_nothing_behind(tmp_path):
    with pytest.raises(UserError, match="unknown prior 'nosuch': the priors are embedded"):
        study._cells_of_flags(study_flags("--priors=embedded,nosuch"), tmp_path)
    assert not list(tmp_path.iterdir())


def study_flags(*argv):
    values = flags.FlagValues()
    study.define(values)
    values(["x", *argv])
    return values


def test_flags_make_the_cells(tmp_path):
    values = study_flags("--prompts=a person is walking; a man is running, side view", "--seeds=0,1", "--mode=latent",
                         "--priors=embedded,modelscope=folder", "--steps=7")  # fmt: skip
    cells = study._cells_of_flags(values, tmp_path)
    assert len(cells) == 8 and {cell.config.mode for cell in cells} == {"latent"}
    assert {cell.config.prompt for cell in cells} == {"a person is walking", "a man is running, side view"}
    assert {(c.config.prior, c.config.prior_path) for c in cells} == {("embedded", ""), ("modelscope", "folder")}


@pytest.mark.parametrize("file", ["run", "latent", "wan21"])
def test_the_main_jobs_flag_files_make_cells(file, tmp_path):
    """They name a prior, which is the study's unless --priors names others."""
    named = f"--flagfile={main_job.__file__.replace('md_jax/main.py', '')}configs/{file}.flags"
    own = "embedded" if file != "wan21" else file
    [cell] = study._cells_of_flags(study_flags(named), tmp_path)
    assert (cell.config.prior, cell.config.prior_path, cell.config.mode == "latent") == (own, "", file == "latent")
    [cell] = study._cells_of_flags(study_flags(named, "--prior_path=folder"), tmp_path)
    assert (cell.config.prior, cell.config.prior_path) == (own, "folder")
    cells = study._cells_of_flags(study_flags(named, "--priors=embedded,ltx=there"), tmp_path)
    assert [(c.config.prior, c.config.prior_path) for c in cells] == [("embedded", ""), ("ltx", "there")]
    with pytest.raises(UserError, match="not --prior_path; got --prior_path=folder"):
        study._cells_of_flags(study_flags(named, "--priors=ltx", "--prior_path=folder"), tmp_path)


@pytest.mark.slow
def test_a_tiny_study_for_real(tmp_path, monkeypatch):
    """Two prompts, two steps: motions, table, numbers and figure; the second time nothing runs."""
    cells = cells_in(tmp_path, ("a person is walking, side view", "a person is running"))
    cell_runs.run_study(cells, here, QUIET)
    console = Console(record=True, width=120, quiet=True)
    study_report.report(tmp_path, console)
    result = json.loads((tmp_path / "study.json").read_text())
    assert [row["prompt"] for row in result["groups"]] == ["a person is running", "a person is walking, side view"]
    for row in result["groups"]:
        assert row["done"] == 1 and 0 <= row["evaluation"]["motion_only_own_probability"] <= 1
    assert_drawn(tmp_path / "study.png")
    monkeypatch.setattr(main_job, "run_job", None)
    cell_runs.run_study(cells, here, QUIET)


def test_the_figure_shows_the_same_moments_of_motions_and_videos(tmp_path, monkeypatch):
    """Frames numbered by their colour: each tile is the frame nearest to its time, whatever the frame rate."""

    def strip(fps, frames, height=8, width=8):
        video = np.zeros((frames, height, width, 3), np.uint8)
        video[...] = np.arange(frames, dtype=np.uint8)[:, None, None, None]
        return study_figure.Strip("a person is walking", "x", fps, video=video)

    times = np.linspace(0, 0.9, 4)  # 0, 0.3, 0.6, 0.9 s
    slow, fast, wide = study_figure.render_strips([strip(10, 10), strip(30, 40), strip(8, 16, 8, 16)], times)
    assert slow[:, 0, 0, 0].tolist() == [0, 3, 6, 9] and fast[:, 0, 0, 0].tolist() == [0, 9, 18, 27]
    assert wide.shape == slow.shape == (4, study_figure.TILE, study_figure.TILE, 3)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        np.savez(tmp_path / name / "latents.npz", z=np.zeros(1), video=strip(10, 10).video, fps=10.0)
    common = {"prompt": "a person is walking", "prior_path": "", "mode": "latent", "seed": 0}
    records = [{**common, "prior": name, "folder": name} for name in ("a", "b")]
    study_figure.draw(tmp_path, records, tmp_path / "figure.png")
    assert_drawn(tmp_path / "figure.png")
    (tmp_path / "b" / "latents.npz").write_bytes(b"no")
    with pytest.raises(UserError, match="Remove the folder"):
        study_figure.draw(tmp_path, records, tmp_path / "figure.png")


def test_the_files_of_a_cell_travel_without_checkpoints(tmp_path):
    (there,), (back,) = cells_in(tmp_path / "there"), cells_in(tmp_path / "back")
    (there.folder / "checkpoints" / "2").mkdir(parents=True)
    (there.folder / "checkpoints" / "2" / "x").write_bytes(b"big")
    (there.folder / "motion.npz").write_bytes(b"motion")
    there.log.write_text("said")
    files = study_ray.pack(there)
    back.folder.mkdir(parents=True)
    (back.folder / "motion.npz").write_bytes(b"mine")
    study_ray.unpack(back, files)
    assert back.log.read_text() == "said" and (back.folder / "motion.npz").read_bytes() == b"mine"
    assert not (back.folder / "checkpoints").exists()


def test_without_ray_the_advice_is_clear(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install -e '.\[ray\]'"):
        study_ray.launch([], lambda cell, record: None, study_ray.Resources(), cell_runs.run_cell)


def test_more_than_this_machine_has_is_refused_rather_than_waited_for():
    study_ray._check_fits(study_ray.Resources(cpus=1, gpus=0), {"CPU": 2.0})
    with pytest.raises(UserError, match=r"--gpus_per_cell=0.5 is more than the 0"):
        study_ray._check_fits(study_ray.Resources(gpus=0.5), {"CPU": 2.0})


def test_two_ray_workers_run_cells_at_once_and_a_dead_one_is_replaced(tmp_path):
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install -e '.[ray]')")
    cells = cells_in(tmp_path, seeds=(0, 1, 2, 3))

    def run(cell):  # a closure: workers need no test module
        import time

        cell.folder.mkdir(parents=True, exist_ok=True)
        seed = cell.config.seed
        if seed == 2 and not (cell.folder / "died").exists():
            (cell.folder / "died").touch()
            os._exit(1)
        if seed == 3:
            raise RuntimeError("a fault of the program itself")
        (cell.folder / "summary.json").write_text(str(os.getpid()))
        if seed < 2:  # each waits for the other: they run at the same time or not at all
            other = cell.folder.parent / cell.folder.name.replace(f"seed-{seed}", f"seed-{1 - seed}") / "summary.json"
            begun = time.monotonic()
            while not other.exists() and time.monotonic() < begun + 120:
                time.sleep(0.05)
            assert other.exists()
        return {"state": "done", "seconds": 0.0, "error": "", "name": cell.folder.name}

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        resources = study_ray.Resources(cpus=1, retries=1)
        cell_runs.run_study(cells, lambda some, on_done: study_ray.launch(some, on_done, resources, run), QUIET)
    finally:
        ray.shutdown()
    records = [json.loads(cell.record.read_text()) for cell in cells]
    assert [record["state"] for record in records] == ["done", "done", "done", "failed"]
    assert records[3]["error"] == "RuntimeError: a fault of the program itself"
    pids = [(cell.folder / "summary.json").read_text() for cell in cells[:2]]
    assert pids[0] != pids[1] and (cells[2].folder / "died").exists()
    assert all(cell_runs.is_done(cell) for cell in cells[:3])


def test_a_cell_whose_worker_dies_goes_on_from_its_checkpoint_to_the_same_motion(tmp_path):
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install -e '.[ray]')")
    config = dataclasses.replace(TINY, steps=4)
    (cell,), (plain,) = cells_in(tmp_path / "ray", config=config), cells_in(tmp_path / "here", config=config)
    died = tmp_path / "died"

    def run(cell):
        import threading
        import time

        from md_jax.study import cells as cell_runs

        def die_with_a_checkpoint():
            while not (cell.folder / "checkpoints" / "step-00000002.safetensors").exists():
                time.sleep(0.005)
            died.touch()
            os._exit(1)

        if not died.exists():
            threading.Thread(target=die_with_a_checkpoint, daemon=True).start()
        return cell_runs.run_cell(cell)

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        cell_runs.run_study([cell], lambda *a: study_ray.launch(*a, study_ray.Resources(), run), QUIET)
    finally:
        ray.shutdown()
    assert died.exists() and cell_runs.is_done(cell), cell.log.read_text()
    steps = [json.loads(line)["step"] for line in (cell.folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "md_jax.main", f"--flagfile={cell.folder / 'run.flags'}"]
    subprocess.run([*command, f"--workdir={plain.folder}"], cwd=ROOT, env=environment, check=True, capture_output=True)
    poses = [np.load(one.folder / "motion.npz")["pose_body"] for one in (cell, plain)]
    np.testing.assert_array_equal(*poses)


@pytest.mark.parametrize("text", ["\udcff", "a \x1b[2J man walks", "x" * 20_000])
def test_a_sentence_that_is_no_text_is_one_line(text, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught, ending_in_one_line():
        study.main([f"--prompts={text}", f"--workdir={tmp_path / 's'}"])
    said = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(said) == 1 and said[0].startswith("error: --prompts must be ")


@pytest.mark.parametrize(
    "text", ["[1]", "{", "null", '{"state": 5}', '{"state": "done", "prompt": "a"}', "[" * 100_000]
)
def test_a_damaged_record_is_one_line(text, tmp_path):
    (tmp_path / "cells").mkdir()
    (tmp_path / "cells" / "x.json").write_text(text)
    with pytest.raises(UserError, match=r"x\.json") as caught:
        study_report.read_records(tmp_path)
    assert "\n" not in str(caught.value)
