"""python -m md_jax.view: what its paths mean, the gallery that it writes, and the one line for what cannot be shown."""

import json
import os
import socket
import sys

import numpy as np
import pytest

from md_jax.body.model import load_body
from md_jax.errors import UserError
from md_jax.mocap.motion import Motion, save_motion
from md_jax.mocap.posing import vertices_of
from md_jax.outside import lock
from md_jax.view import command, sources
from tests.page.test_page import data_of


def motion(frames=4, fps=30.0, prompt="a person is walking", **changes):
    rng = np.random.default_rng(frames)
    pose, path = 0.1 * rng.normal(size=(frames, 21, 3)), np.cumsum(np.full((frames, 3), 0.1), axis=0)
    return Motion(pose, np.zeros((frames, 3)), path, fps, prompt=prompt, **changes)


def saved(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    save_motion(path, motion(**changes))
    return path


@pytest.fixture
def runs(tmp_path):
    """A run of one motion, one of two, and a study's cell."""
    one, two, cell = tmp_path / "runs/0001-walk", tmp_path / "runs/0002-punch", tmp_path / "study/cells/walk-0"
    for folder, names in ((one, [""]), (two, ["motion-00", "motion-01"]), (cell, [""])):
        for name in names:
            saved(folder / name / "motion.npz")
        (folder / "run.flags").write_text("")
        (folder / "motion.html").write_text(f"the page of {folder.name}")
    return tmp_path


def test_one_run_has_its_own_page(runs, capsys):
    command.main([str(runs / "runs/0001-walk"), "--no_open"])
    assert capsys.readouterr().out.strip() == str(runs / "runs/0001-walk/motion.html")


def test_without_a_name_the_newest_run_is_meant(runs, monkeypatch, capsys):
    monkeypatch.chdir(runs)
    command.main(["--no_open"])
    assert capsys.readouterr().out.split() == ["runs/0002-punch", "runs/0002-punch/motion.html"]


def test_a_page_is_copied_where_out_says(runs, capsys):
    command.main([str(runs / "runs/0002-punch"), f"--out={runs}/here/page.html", "--no_open"])
    assert (runs / "here/page.html").read_text() == "the page of 0002-punch"


def test_a_gallery_of_runs_a_study_and_files(runs, monkeypatch, capsys):
    """Each motion once, in order, with its sentence, its number and the way to its own page."""
    monkeypatch.chdir(runs)
    loose = saved(runs / "loose/wave.npz", prompt="", fps=120.0)
    np.savez(runs / "loose/other.npz", x=np.zeros(3))
    command.main(["runs", "study", "loose", str(loose), "--no_open"])
    told = capsys.readouterr()
    assert told.out.strip() == "gallery.html" and "other.npz is left out: it is no motion" in told.err
    data = data_of((runs / "gallery.html").read_text(encoding="utf-8"))
    assert [(m["title"], m["note"], m["page"]) for m in data["motions"]] == [
        ("a person is walking", "0001", "runs/0001-walk/motion.html"),
        ("a person is walking", "0002/00", "runs/0002-punch/motion.html"),
        ("a person is walking", "0002/01", "runs/0002-punch/motion.html"),
        ("a person is walking", "", "study/cells/walk-0/motion.html"),
        ("wave", "", ""),
    ]
    assert data["title"] == "5 motions" and data["motions"][-1]["clips"][0]["fps"] == 30


def test_a_motion_of_a_gallery_stands_on_the_floor_in_the_middle():
    body = load_body()
    found = sources._standing(sources._short(motion(frames=9, betas=np.ones(10))), body)
    assert not found.betas.any() and found.transl[0, [0, 2]].tolist() == [0, 0]
    assert vertices_of(body, found)[..., 1].min() == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(np.diff(found.transl, axis=0), 0.1, atol=1e-6)


def test_a_long_motion_is_cut():
    found = sources._short(motion(frames=121, fps=4.0))
    assert found.duration == pytest.approx(sources.LONGEST) and found.fps == 4.0


def begun(folder, pid=None):
    folder.mkdir()
    (folder / "run.flags").write_text("--prompt=a person is walking\n")
    if pid is not None:
        (folder / "lock").write_text(json.dumps({"pid": pid, "host": socket.gethostname()}))
    return folder


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path / "none", "there is no run and no motion at"),
        (lambda path: path, "no motion (.npz) lies in"),
        (lambda path: begun(path / "going", os.getpid()), "has no motion yet: add --live"),
        (lambda path: begun(path / "ended"), "was stopped before its motion was written"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_line(make, said, tmp_path):
    with pytest.raises(UserError) as error:
        command.main([str(make(tmp_path)), "--no_open"])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_wrong_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("")
    with pytest.raises(UserError, match="is no motion: expected a run's folder"):
        command.main([str(text), "--no_open"])
    np.savez(tmp_path / "x.npz", x=np.zeros(3))
    with pytest.raises(UserError, match=r"x\.npz is no motion: expected pose_body"):
        command.main(["x.npz", "--no_open"])
    (tmp_path / "gallery.html").write_text("my own")
    with pytest.raises(UserError, match="is there and no gallery of ours"):
        command.main(["x.npz", "--no_open"])
    with pytest.raises(UserError, match="there is no run under"):
        command.main(["--no_open"])
    assert (tmp_path / "gallery.html").read_text() == "my own"


def test_a_browser_is_opened_only_where_there_is_one(monkeypatch, tmp_path, capsys):
    asked = []
    monkeypatch.setattr(command.webbrowser, "open", lambda address: asked.append(address) or True)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    page = tmp_path / "a b.html"
    command.show(page, True)
    assert not asked and capsys.readouterr().out.strip() == str(page)
    monkeypatch.setenv("DISPLAY", ":0")
    command.show(page, True)
    assert asked == [page.as_uri()] and capsys.readouterr().out.strip() == f"opened {page}"


def test_whether_a_run_goes_on_is_read_off_its_lock(tmp_path):
    assert not lock.is_held(tmp_path)
    lock.take(tmp_path)
    assert lock.is_held(tmp_path)
    lock.release(tmp_path)
    assert not lock.is_held(tmp_path)
    (tmp_path / "lock").write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    assert not lock.is_held(tmp_path), "no process has that number"
    (tmp_path / "lock").write_text(json.dumps({"pid": 2**22 + 1, "host": "elsewhere"}))
    assert lock.is_held(tmp_path), "nobody here can tell"
