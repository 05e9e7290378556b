"""Ctrl-C at a bad moment: Python drops what a garbage-collector callback raises, and the run must stop all the same."""

import signal

import pytest
from rich.console import Console

from md_jax import main
from md_jax.config import Config
from md_jax.run import workdir


@pytest.fixture
def python_handles():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
    main._interrupted.clear()


def test_a_swallowed_interrupt_is_remembered_until_the_next_start(python_handles):
    main._notice_interrupts()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert main._interrupted.is_set()
    main._notice_interrupts()
    assert not main._interrupted.is_set()


def test_a_job_in_the_background_goes_on_ignoring_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        main._notice_interrupts()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_swallowed_interrupt_stops_the_run_at_its_next_line_with_a_checkpoint(tmp_path):
    config = Config(
        prompt="a person is walking", steps=9, log_every=2, control_run=False, views=1, workdir=str(tmp_path / "r")
    )
    config, folder = workdir.open_run(config, set())
    main._interrupted.set()
    try:
        with pytest.raises(KeyboardInterrupt):
            main.run_job(config, folder, Console(quiet=True))
    finally:
        main._interrupted.clear()
    assert [path.name for path in (folder / "checkpoints").iterdir() if path.name.isdigit()] == ["2"]
