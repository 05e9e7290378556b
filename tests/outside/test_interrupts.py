"""Signals: the first stops, the second is ignored, the third ends; a step is finished, and its state saved."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from md_jax.outside import interrupts
from md_jax.outside.interrupts import Stopped


@pytest.fixture
def python_handles():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):  # started with nohup, the tests would ignore one
        signal.signal(number, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    sys.unraisablehook = sys.__unraisablehook__
    interrupts._state.number = interrupts._state.count = 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_each_signal_stops_with_the_code_that_shells_expect(python_handles, number, code):
    interrupts.notice()
    with pytest.raises(Stopped) as caught:
        signal.raise_signal(number)
    assert caught.value.code == code
    assert interrupts.received()


def test_what_somebody_ignores_stays_ignored(python_handles):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupts.notice()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_between_steps_it_waits_for_the_check(python_handles):
    interrupts.notice()
    finished = False
    with pytest.raises(Stopped), interrupts.between_steps():
        signal.raise_signal(signal.SIGTERM)
        finished = True
        interrupts.check()
    assert finished


def test_a_long_step_is_abandoned(python_handles, monkeypatch):
    monkeypatch.setattr(interrupts, "PATIENCE", 0.05)
    interrupts.notice()
    begun = time.monotonic()
    with pytest.raises(Stopped), interrupts.between_steps():
        signal.raise_signal(signal.SIGINT)
        while time.monotonic() - begun < 20:
            pass
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_state_is_saved_and_a_second_signal_does_not_disturb_it(python_handles, wrapped):
    interrupts.notice()
    saved = []

    def save():
        signal.raise_signal(signal.SIGINT)  # impatient
        saved.append(1)

    with pytest.raises(Stopped), interrupts.saving(save):
        signal.raise_signal(signal.SIGINT)
        if wrapped:
            raise RuntimeError("XLA's text of it")
    assert saved == [1]


def test_other_errors_are_not_saved(python_handles):
    interrupts.notice()
    with pytest.raises(RuntimeError), interrupts.saving(lambda: pytest.fail("saved")):
        raise RuntimeError


def test_one_lost_in_the_garbage_collector_comes_again_without_a_traceback(python_handles, capsys):
    interrupts.notice()

    def lose(*_):
        signal.raise_signal(signal.SIGINT)

    gc.callbacks.append(lose)
    try:
        with pytest.raises(Stopped):
            gc.collect()
            gc.callbacks.remove(lose)
            time.sleep(20)
    finally:
        if lose in gc.callbacks:
            gc.callbacks.remove(lose)
    assert "Traceback" not in capsys.readouterr().err


def test_the_third_ends_at_once():
    code = """
        import os, signal, sys, time
        from md_jax.outside import interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
        interrupts.notice()
        def save():
            print("saving", flush=True)
            time.sleep(60)
        with interrupts.saving(save):
            os.kill(os.getpid(), signal.SIGINT)
            interrupts.check()
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "saving\n"
    for _ in range(2):
        time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
