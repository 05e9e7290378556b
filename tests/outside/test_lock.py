"""One process a run: a second is refused by name, a dead one's lock is taken over."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from md_jax.errors import UserError
from md_jax.outside import lock

HOLD = """
import pathlib, sys, time
from md_jax.outside import lock
lock.take(pathlib.Path(sys.argv[1]))
print("ok", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ok\n"
    yield process
    process.kill()
    process.wait()
    lock.release(tmp_path)


def test_a_second_process_is_refused_by_pid_and_host(tmp_path, holder):
    with pytest.raises(UserError, match=rf"process {holder.pid} on {socket.gethostname()}"):
        lock.take(tmp_path)


def test_a_dead_process_lock_is_taken_over_and_said(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert f"process {holder.pid} had this run" in lock.take(tmp_path)
    assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()


def test_another_host_is_not_overruled(tmp_path):
    (tmp_path / "lock").write_text('{"pid": 7, "host": "elsewhere"}')
    with pytest.raises(UserError, match="process 7 on elsewhere: if that one has ended, remove"):
        lock.take(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\xff", "9" * 5000, "[" * 1000])
def test_a_damaged_lock_is_no_obstacle(tmp_path, text):
    (tmp_path / "lock").write_text(text)
    assert lock.take(tmp_path) is None
    lock.release(tmp_path)


def test_taken_again_and_given_back(tmp_path):
    assert lock.take(tmp_path) is None
    assert lock.take(tmp_path) is None
    lock.release(tmp_path)
    lock.release(tmp_path)
    assert not list(tmp_path.iterdir())
