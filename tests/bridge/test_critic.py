"""bridge.critic: seconds by name; on CUDA by events, without waiting in between."""

import time

import pytest
import torch

from bridge import critic as stopwatch
from bridge.critic import Stopwatch


def test_adds_up_by_name():
    watch = Stopwatch()
    for name in ("a", "b", "a"):
        with watch(name):
            time.sleep(0.01)
    taken = watch.take()
    assert list(taken) == ["a", "b"] and taken["a"] > 0.019 and 0.009 < taken["b"] < taken["a"]
    assert watch.take() == {}


def test_counts_what_ends_with_an_error():
    watch = Stopwatch()
    with pytest.raises(ValueError), watch("a"):
        raise ValueError
    assert "a" in watch.take()


def test_forgets_the_oldest_where_nobody_takes(monkeypatch):
    monkeypatch.setattr(stopwatch, "MOST", 3)
    watch = Stopwatch()
    for k in range(5):
        with watch(str(k)):
            pass
    assert list(watch.take()) == ["2", "3", "4"]


def test_waits_where_it_is_told_to():
    waits = []
    watch = Stopwatch()
    watch.wait = lambda: waits.append(1)
    with watch("a"):
        pass
    assert len(waits) == 2


def test_on_cuda_only_take_waits(monkeypatch):
    clock, waits = [0.0], []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            clock[0] += 5.0
            self.at = clock[0]  # milliseconds

        def synchronize(self):
            waits.append(self)

        def elapsed_time(self, end):
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    watch = Stopwatch("cuda:0")
    for _ in range(2):
        with watch("a"):
            pass
    assert not waits
    assert watch.take() == {"a": pytest.approx(0.01)} and len(waits) == 2
