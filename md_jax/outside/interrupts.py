"""Ctrl-C, SIGTERM and SIGHUP: a run stops at once where nothing is lost, and after the step where a state is kept.

The first signal stops the run, the second is ignored (it is saving already), the third ends the process at once.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

PATIENCE = 5.0  # seconds that a step may still take before it is abandoned


class Stopped(KeyboardInterrupt):
    """The run was asked to stop by a signal; `code` is the exit status that shells expect."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


class _State:
    """What has happened to this process: signals have no other place to leave it."""

    number = 0  # of the first signal; 0: none
    count = 0
    stepping = False  # inside `between_steps`: raise only at its checks


_state = _State()


def notice() -> None:
    """Handle the signals from here on. Those that somebody else handles or ignores (nohup, `&`) stay theirs.

    A handler may be called inside a callback of the garbage collector, where Python drops what it raises with a
    traceback on the terminal; then there is no traceback, and the exception comes again a moment later.
    """
    _state.number = _state.count = 0
    if threading.current_thread() is not threading.main_thread():
        return
    names = ("SIGINT", "SIGTERM", "SIGHUP") if sys.platform != "win32" else ("SIGINT", "SIGTERM")
    for name in names:
        number = signal.Signals[name]
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _on_signal)
    if sys.platform != "win32" and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
        signal.signal(signal.SIGALRM, _on_alarm)
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _on_unraisable


def ignore() -> None:
    """Ignore the signals from here on: all is done, and the interpreter is leaving."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is _on_signal:
                signal.signal(number, signal.SIG_IGN)


def received() -> bool:
    """Whether a signal has come since `notice`."""
    return bool(_state.number)


def check() -> None:
    """Raise Stopped if a signal has come."""
    if _state.number:
        raise Stopped(_state.number)


@contextmanager
def between_steps() -> Iterator[None]:
    """Inside, a signal waits for the next `check`, for `PATIENCE` seconds at most; leaving checks, too."""
    _state.stepping = True
    try:
        yield
    finally:
        _state.stepping = False
        if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
            signal.setitimer(signal.ITIMER_REAL, 0)
    check()


@contextmanager
def saving(save: Callable[[], None]) -> Iterator[None]:
    """A block of steps (`between_steps`) whose state is saved when a signal stops it.

    A step may turn the exception into another: XLA does, where it calls back into Python.
    """
    try:
        with between_steps():
            yield
    except KeyboardInterrupt:
        save()
        raise
    except Exception:
        if not received():
            raise
        save()
        check()


def _on_signal(number: int, frame: FrameType | None) -> None:
    _state.count += 1
    if _state.count >= 3:
        os._exit(128 + number)
    if _state.number:
        return
    _state.number = number
    if _state.stepping and sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        return
    raise Stopped(number)


def _on_alarm(number: int, frame: FrameType | None) -> None:
    check()


def _on_unraisable(unraisable: Any) -> None:
    if not issubclass(unraisable.exc_type, Stopped):
        sys.__unraisablehook__(unraisable)
    elif sys.platform != "win32":
        signal.setitimer(signal.ITIMER_REAL, 0.05)
