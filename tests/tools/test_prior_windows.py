"""Training windows of the embedded prior: the moments of an action that look alike, and how they are drawn."""

import dataclasses
import json

import numpy as np
import pytest

from bridge.priors.embedded import SHIPPED
from md_jax.evaluate import measures
from md_jax.mocap.clips import Clip, Split, split_source
from tools import prior_windows

FRAMES, FPS = 10, 10
PERIOD = 1.2  # seconds


def swing(name: str, phase: float, seconds: float = 6.0, rate: float = 30.0, action: str = "walking") -> Clip:
    """Legs and arms that swing with a known period; at t = phase the left leg starts forward."""
    t = np.arange(int(seconds * rate) + 1) / rate
    angle = 2 * np.pi * (t - phase) / PERIOD
    pose = np.zeros((len(t), 21, 3), np.float32)
    pose[:, 0, 0], pose[:, 1, 0] = 0.6 * np.sin(angle), -0.6 * np.sin(angle)
    pose[:, 3, 0] = 0.5 + 0.5 * np.cos(angle)
    return Clip(name, action, name, "test", rate, pose, np.zeros((len(t), 3), np.float32))


def phase_of(clip: Clip, start: np.ndarray, offset: float) -> np.ndarray:
    """Where in its cycle a window begins, as a complex number of length one."""
    return np.exp(2j * np.pi * (start - offset) / PERIOD)


@pytest.fixture(scope="module")
def split():
    train = [swing("a", 0.0), swing("b", 0.37), swing("c", 0.8)]
    return Split(train, [swing("d", 0.55)], {"walking": "recording"})


def test_a_cohort_is_one_phase_of_every_clip(split):
    cohort = prior_windows.find_cohort(split.train, frames=FRAMES, fps=FPS)
    assert set(cohort.clip) == {0, 1, 2}
    offsets = np.array([0.0, 0.37, 0.8])
    phases = np.exp(2j * np.pi * (cohort.start - offsets[cohort.clip]) / PERIOD)
    # 1 where all agree, 0 where every phase is as common; a clip's first or last window may be off
    assert np.abs(np.median(phases.real) + 1j * np.median(phases.imag)) > 0.97 and np.abs(phases.mean()) > 0.85
    assert len(cohort.clip) >= 3 * 3  # three or four whole cycles fit into each clip
    assert np.all(np.diff(cohort.distance) >= 0) and cohort.distance[0] == 0


def test_the_mean_of_a_cohort_moves_and_that_of_all_phases_does_not(split):
    rng = np.random.default_rng(0)
    aligned, names = prior_windows.aligned_windows(rng, split, {"walking": 60}, held_out=False, frames=FRAMES, fps=FPS)
    anywhen, _ = prior_windows.lively_windows(rng, split.train, 240, still=0.0, frames=FRAMES, fps=FPS, mirror=False)
    assert names == ["walking"] * 60

    def share(windows) -> float:
        joints = measures.joints(windows.body_pose)
        return float(measures.speed(joints.mean(axis=0), FPS) / measures.speed(joints, FPS).mean())

    assert share(aligned) > prior_windows.MEAN_SPEED - 0.05  # the jitter takes a little
    assert share(anywhen) < 0.3


def test_held_out_repetitions_have_the_phase_of_the_training_side(split):
    cohort = prior_windows.find_cohort(split.train, frames=FRAMES, fps=FPS)
    held = prior_windows.repetitions(cohort, split.held_out, frames=FRAMES, fps=FPS)
    own = np.angle(phase_of(split.train[cohort.clip[0]], cohort.start[0], [0.0, 0.37, 0.8][cohort.clip[0]]))
    others = np.angle(phase_of(split.held_out[0], held.start, 0.55))
    apart = np.abs((others - own + np.pi) % (2 * np.pi) - np.pi)
    assert len(others) and apart.max() < 2 * np.pi * prior_windows.STRIDE / PERIOD


def test_held_out_windows_come_from_held_out_clips_at_their_own_speed(split):
    windows, _ = prior_windows.aligned_windows(
        np.random.default_rng(1), split, {"walking": 8}, held_out=True, frames=FRAMES, fps=FPS
    )
    assert set(windows.clip) == {0} and np.all(windows.speed == 1)


def test_an_action_that_never_repeats_is_its_template_alone():
    frames = 61
    pose = np.linspace(0, 1, frames, dtype=np.float32)[:, None, None] * np.linspace(-1, 1, 63).reshape(21, 3)
    once = Clip("once", "cartwheel", "once", "test", 30.0, pose.astype(np.float32), np.zeros((frames, 3), np.float32))
    cohort = prior_windows.find_cohort([once], frames=FRAMES, fps=FPS)
    assert len(cohort.clip) == 1 and cohort.distance[0] == 0
    windows, _ = prior_windows.aligned_windows(
        np.random.default_rng(2), Split([once], [], {}), {"cartwheel": 20}, held_out=False, frames=FRAMES, fps=FPS
    )
    assert 0 < np.ptp(windows.start) <= 2 * prior_windows.JITTER and np.ptp(windows.speed) > 0


def test_repeats(split):
    assert prior_windows.repeat_seconds(split.train) == pytest.approx(PERIOD, abs=1 / 30)
    once = swing("e", 0.0)
    rising = np.linspace(0, 1, len(once.body_pose), dtype=np.float32)[:, None, None] * np.ones((21, 3), np.float32)
    assert prior_windows.repeat_seconds([dataclasses.replace(once, body_pose=rising)]) is None


def test_the_shipped_repeats_are_those_of_motion_capture():
    stated = json.loads((SHIPPED / "prior.json").read_text())["repeats"]
    clips = split_source(None, None, 0.2).train
    for action in sorted({clip.action for clip in clips}):
        found = prior_windows.repeat_seconds([clip for clip in clips if clip.action == action])
        assert stated.get(action) == (None if found is None else pytest.approx(found, abs=0.01)), action
