"""Run folders: fresh numbers, refusals, resuming."""

import os

import pytest

from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.files import WriteError
from md_jax.outside import lock
from md_jax.run import workdir


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_each_start_makes_its_own_numbered_folder():
    config = Config(prompt="A person is Walking, side view!")
    folders = [workdir.open_run(config, set())[1] for _ in range(3)]
    assert [f.name for f in folders] == [f"{n:04d}-a-person-is-walking-side-view" for n in (1, 2, 3)]


def test_numbers_go_on_after_the_highest():
    (workdir.RUNS / "0041-x").mkdir(parents=True)
    assert workdir.open_run(Config(), set())[1].name.startswith("0042-")


def test_a_folder_with_a_run_is_refused_unless_resumed():
    config = Config(workdir="here", steps=7)
    workdir.open_run(config, set())
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        workdir.open_run(config, set())
    resumed, folder = workdir.open_run(Config(workdir="here", resume=True), set())
    assert folder.name == "here"
    assert resumed.steps == 7


def test_resume_without_a_folder_takes_the_newest_run():
    for prompt in ("a person is walking", "a man is running"):
        workdir.open_run(Config(prompt=prompt), set())
    resumed, folder = workdir.open_run(Config(resume=True), set())
    assert folder.name == "0002-a-man-is-running"
    assert resumed.prompt == "a man is running"


def test_a_typed_flag_that_contradicts_the_run_is_an_error():
    workdir.open_run(Config(workdir="here", steps=7), set())
    with pytest.raises(UserError, match=r"--steps=7"):
        workdir.open_run(Config(workdir="here", resume=True, steps=9), {"steps"})
    config, _ = workdir.open_run(Config(workdir="here", resume=True, log_every=3), {"log_every"})
    assert config.log_every == 3


def test_resuming_keeps_what_the_run_was_started_with_unless_typed():
    workdir.open_run(Config(workdir="here", checkpoint_every=7, low_vram=True), set())
    config, _ = workdir.open_run(Config(workdir="here", resume=True), {"workdir", "resume"})
    assert (config.checkpoint_every, config.low_vram) == (7, True)
    config, _ = workdir.open_run(Config(workdir="here", resume=True, low_vram=False), {"low_vram"})
    assert (config.checkpoint_every, config.low_vram) == (7, False)


def test_a_contradiction_is_told_as_it_would_be_typed():
    workdir.open_run(Config(workdir="here", control_run=False, t_min=(0.3, 0.05)), set())
    with pytest.raises(UserError, match=r"started with --nocontrol_run, --t_min=0\.3,0\.05:"):
        workdir.open_run(Config(workdir="here", resume=True, control_run=True, t_min=(0.2,)), {"control_run", "t_min"})


def test_nothing_to_resume():
    with pytest.raises(UserError, match="nothing to resume"):
        workdir.open_run(Config(resume=True), set())
    with pytest.raises(UserError, match="nothing to resume"):
        workdir.open_run(Config(resume=True, workdir="absent"), set())


def test_a_file_in_the_way_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"--workdir=file/run cannot be made"):
        workdir.open_run(Config(workdir="file/run"), set())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        workdir.open_run(Config(), set())


def test_a_disk_that_is_full_at_the_start_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(path, data):
        raise WriteError(f"{path} cannot be written: No space left on device.")

    monkeypatch.setattr(workdir, "write_bytes", full)
    with pytest.raises(WriteError, match="No space left"):
        workdir.open_run(Config(workdir=str(tmp_path / "run")), set())
    assert not list(tmp_path.iterdir())
    monkeypatch.undo()
    _, folder = workdir.open_run(Config(workdir=str(tmp_path / "run")), set())
    lock.release(folder)


def test_a_run_that_cannot_be_resumed_is_not_left_locked(tmp_path):
    _, folder = workdir.open_run(Config(workdir=str(tmp_path / "run")), set())
    lock.release(folder)
    (folder / "run.flags").write_text("--steps=3\n")
    with pytest.raises(UserError, match="not as the run wrote it"):
        workdir.open_run(Config(workdir=str(folder), resume=True), set())
    assert not (folder / "lock").exists()
