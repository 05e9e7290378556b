"""--live: the newest checkpoint of a run as the page gets it, without a trace in the run's folder."""

import dataclasses
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import jax
import numpy as np
import pytest

from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.fit import posefield
from md_jax.fit.checkpoint import Checkpoints
from md_jax.options.flags import to_flagfile
from md_jax.outside import lock
from md_jax.view import live, serve
from tests.chromium import opened
from tests.page.test_page import data_of, unpacked

CONFIG = Config(prompt="a person is walking", steps=40, export_fps=20.0)


def begin(folder, config=CONFIG):
    """A run's folder as it is before the first step, and the run seen from outside."""
    folder.mkdir()
    (folder / "run.flags").write_text(to_flagfile(config))
    (folder / "environment.json").write_text(json.dumps({"clip": {"frames": 5, "fps": 10}}))
    return live.watch(folder)


def advance(run, step):
    """A checkpoint and a logged line at `step`, whose motion is another one at each step."""
    kernel = run.start.params["head"]["kernel"]
    head = {**run.start.params["head"], "kernel": 0.3 * jax.random.normal(jax.random.key(step), kernel.shape)}
    state = run.start._replace(step=run.start.step + step, params={**run.start.params, "head": head})
    Checkpoints(run.folder / "checkpoints").save(state)
    with open(run.folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"step": step, "loss": [100 / step]}) + "\n")
    return state


def contents(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = begin(tmp_path_factory.mktemp("live") / "run")
    lock.take(run.folder)
    yield run
    lock.release(run.folder)


def test_the_body_is_that_of_the_newest_checkpoint(run):
    before = live.answer(run, seen=-1)
    assert before["step"] == 0 and before["status"].startswith("step 0 of 40")
    advance(run, 10)
    state = advance(run, 20)
    kept = contents(run.folder)
    told = live.answer(run, seen=0)
    assert told["step"] == 20 and told["going_on"] and told["curves"] == {"loss": [[10, 10.0], [20, 5.0]]}
    (clip,) = told["motions"][0]["clips"]
    assert (clip["fps"], clip["frames"]) == (20.0, 9)
    # the checkpoint's own poses, frame by frame, against the page's quaternions
    poses = np.asarray(posefield.poses(run.fields, state.params).body[0])
    shown = unpacked(clip["rotations"], "<i2", 9, 55, 4)[::2, 1:22] / 32767
    half = np.linalg.norm(poses, axis=-1, keepdims=True) / 2
    wanted = np.concatenate([poses * np.sinc(half / np.pi) / 2, np.cos(half)], axis=-1)
    np.testing.assert_allclose(shown * np.sign((shown * wanted).sum(-1, keepdims=True)), wanted, atol=3e-5)
    assert "motions" not in live.answer(run, seen=20), "nothing new is not sent again"
    assert contents(run.folder) == kept, "looking leaves no trace"


def test_how_a_run_ends(tmp_path):
    run = begin(tmp_path / "run")
    advance(run, 40)
    assert live.answer(run, -1)["status"].startswith("stopped at step 40 of 40")
    lock.take(run.folder)
    assert "control or its files" in live.answer(run, -1)["status"]
    (run.folder / "motion.html").write_text("the page")
    assert live.answer(run, -1)["finished"] == ""
    lock.release(run.folder)
    told = live.answer(run, -1)
    assert told["status"].startswith("finished, step 40 of 40") and told["finished"] == "motion.html"
    assert not told["going_on"]


def test_what_cannot_be_watched(tmp_path):
    with pytest.raises(UserError, match="there is no run in"):
        live.is_ready(tmp_path)
    (tmp_path / "run.flags").write_text(to_flagfile(CONFIG))
    with pytest.raises(UserError, match="ended before it began"):
        live.is_ready(tmp_path)
    lock.take(tmp_path)
    assert not live.is_ready(tmp_path)
    lock.release(tmp_path)
    (tmp_path / "environment.json").write_text("{}")
    assert live.is_ready(tmp_path)
    with pytest.raises(UserError, match="does not say what clip"):
        live.watch(tmp_path)
    (tmp_path / "run.flags").write_text(to_flagfile(dataclasses.replace(CONFIG, mode="latent")))
    with pytest.raises(UserError, match="moves no body"):
        live.watch(tmp_path)


def test_a_fit_is_watched_like_any_body(tmp_path):
    """Its start is fitted to a sample, which nobody but the run itself has."""
    run = begin(tmp_path / "run", dataclasses.replace(CONFIG, mode="fit"))
    assert "mean pose until the first checkpoint" in live.answer(run, seen=-1)["status"]
    advance(run, 10)
    told = live.answer(run, seen=0)
    assert told["step"] == 10 and told["status"].endswith("the body is that of step 10") and told["motions"]


@pytest.fixture
def address(run):
    with serve.make_server(serve.Answers(run, lambda text: None)) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_the_server(run, address):
    """The page holds the motion and says that it is live; other addresses, hosts and methods get nothing."""
    page = urllib.request.urlopen(address).read().decode()
    data = data_of(page)
    assert data["live"] and data["title"] == CONFIG.prompt and len(data["motions"]) == 1
    told = json.loads(urllib.request.urlopen(f"{address}live.json?step=x").read())
    assert told["step"] == data["step"] and told["motions"] == data["motions"]
    assert "motions" not in json.loads(urllib.request.urlopen(f"{address}live.json?step={data['step']}").read())
    for wrong, code in (("run.flags", 404), ("../run.flags", 404), ("motion.html", 404)):
        with pytest.raises(urllib.error.HTTPError) as error:
            urllib.request.urlopen(address + wrong)
        assert error.value.code == code
    foreign = http.client.HTTPConnection(address[7:-1])
    foreign.request("GET", "/", headers={"Host": "evil.example"})
    assert foreign.getresponse().status == 403


def test_a_damaged_checkpoint_is_told_to_the_page(tmp_path):
    run = begin(tmp_path / "run")
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints/step-00000010.safetensors").write_bytes(b"half")
    status, _, text = serve.Answers(run).to("/live.json")
    assert status == 503 and b"no checkpoint" in text


def test_a_port_that_is_taken_is_said(run, address):
    with pytest.raises(UserError, match="cannot be used"):
        serve.make_server(serve.Answers(run), int(address.rpartition(":")[2].strip("/")))


@pytest.mark.slow
def test_a_program_of_its_own_which_ctrl_c_ends(run):
    """No torch is loaded for it, and it leaves with the code of an interruption."""
    code = "import sys; from md_jax.view.command import main; from md_jax.options.command import program\n"
    code += "with program():\n    try: main()\n    finally: print('torch' in sys.modules, flush=True)"
    viewer = subprocess.Popen(
        [sys.executable, "-c", code, str(run.folder), "--live", "--no_open"], cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    found = re.search(r"http://127.0.0.1:\d+/", viewer.stdout.readline())
    assert found and json.loads(urllib.request.urlopen(found[0] + "live.json").read())["going_on"]
    viewer.send_signal(signal.SIGINT)
    out, err = viewer.communicate(timeout=120)
    assert (viewer.returncode, out.strip(), err.strip()) == (130, "False", "stopped")


@pytest.mark.slow
def test_in_a_browser_the_body_changes_with_the_run(tmp_path):
    run = begin(tmp_path / "run")
    lock.take(run.folder)
    advance(run, 10)
    with serve.make_server(serve.Answers(run, lambda text: None)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with opened(f"http://127.0.0.1:{server.server_address[1]}/") as tab:
            tab.plays()
            tab.page.evaluate("player.setPlaying(false); player.seconds = 0.2")
            first = tab.picture()
            assert "step 10 of 40" in tab.page.inner_text("#status")
            assert first.std(axis=(0, 1)).max() > 8, "the picture is not blank"
            advance(run, 20)
            tab.page.wait_for_function("data.step === 20", timeout=120_000)
            tab.page.wait_for_timeout(1000)
            assert np.abs(tab.picture() - first).mean() > 0.2, "the body is another one"
            (run.folder / "motion.html").write_text("the page")
            lock.release(run.folder)
            tab.page.wait_for_function("!data.going_on", timeout=120_000)
            assert tab.page.inner_text("#status").startswith("finished")
            assert tab.page.locator("#finished").is_visible()
            assert not tab.told
        server.shutdown()
