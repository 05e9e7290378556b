"""What the files of a run are sampled from."""

import dataclasses
import math
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.config import Config
from md_jax.control.reading import Asked, Pin
from md_jax.control.targets import make_targets
from md_jax.fit import posefield
from md_jax.fit.problems import PoseProblem, make_fields
from md_jax.mocap.statistics import load_statistics
from md_jax.run.outputs import as_filmed, export_times, ground_of, movement, sampled


@pytest.fixture(scope="module")
def moving():
    """A field of walking whose head has random weights, so that it moves."""
    fields, params = posefield.init_fields(
        [load_statistics("walking")], jax.random.split(jax.random.key(1), 1), frames=10
    )
    head = {"kernel": 0.5 * jax.random.normal(jax.random.key(2), params["head"]["kernel"].shape)}
    return fields, {**params, "head": {**params["head"], **head}}


@pytest.mark.parametrize("export_fps", [30.0, 60.0, 120.0])
def test_files_hold_the_poses_that_were_distilled(moving, export_fps):
    """A whole multiple of the clip's rate keeps each of its frames, and puts the field's own in between."""
    fields, params = moving
    keys = np.asarray(posefield.poses(fields, params).body[0])
    fine = np.asarray(posefield.poses(fields, params, export_times(10, 10.0, export_fps)).body[0])
    step = round(export_fps / 10)
    assert len(fine) == 9 * step + 1
    np.testing.assert_allclose(fine[::step], keys, atol=1e-6)
    assert np.abs(np.diff(keys, axis=0)).max() > 0.05


def test_no_frame_is_a_corner(moving):
    """Accelerations are alike at the clip's frames and between them; rotations put in between by slerp jerk there."""
    fields, params = moving
    fine = np.asarray(posefield.poses(fields, params, export_times(10, 10.0, 30.0)).body[0])
    acceleration = np.linalg.norm(np.diff(fine, n=2, axis=0), axis=(-1, -2))  # of frames 1 to 26
    by_phase = [acceleration[phase::3].mean() for phase in range(3)]
    assert max(by_phase) < 1.5 * min(by_phase), by_phase


@pytest.mark.parametrize(
    ("frames", "fps", "export_fps", "count"), [(10, 10, 24, 22), (16, 10, 30, 46), (16, 8, 30, 57)]
)
def test_the_files_last_as_long_as_the_clip(frames, fps, export_fps, count):
    tau = np.asarray(export_times(frames, fps, export_fps))
    assert len(tau) == count and tau[0] == 0 and frames - 1 - fps / export_fps < tau[-1] <= frames - 1
    np.testing.assert_allclose(np.diff(tau), fps / export_fps, atol=1e-5)


def job_of(config, frames=10):
    """What `sampled` reads of a job, with a random head, so that it moves."""
    fields, params = make_fields(config, [load_statistics("walking")], frames)
    kernel = 0.5 * jax.random.normal(jax.random.key(2), params["head"]["kernel"].shape)
    problem = PoseProblem(fields, None, jax.random.key(0), (3, 1, 1, 1), [], (0.0, 0.0))
    job = SimpleNamespace(config=config, problem=problem, fps=10.0, prompts=["a walk"], body=load_body())
    return job, {**params, "head": {**params["head"], "kernel": kernel}}


@pytest.mark.parametrize("settings", [{"posefield": "paper"}, {"frequencies": 5}, {"frequencies": 3}])
def test_a_field_that_swings_between_its_frames_is_not_asked_there(settings):
    """Frames in between stay between their neighbours: no more than a little beyond the way from one to the next."""
    job, params = job_of(Config(**settings))
    (motion,) = sampled(job, params)
    keys = motion.body_pose[::3]
    np.testing.assert_allclose(keys, posefield.poses(job.problem.fields, params).body[0], atol=2e-6)
    step = np.linalg.norm(np.diff(keys, axis=0), axis=-1).mean()
    between = np.linalg.norm(motion.body_pose[1::3] - (2 * keys[:-1] + keys[1:]) / 3, axis=-1).mean()
    assert between < 0.4 * step
    alias = job.problem.fields.highest_frequency >= math.pi
    assert alias == (settings != {"frequencies": 3})


@pytest.mark.parametrize("hands", ["relaxed", "flat"])
def test_fingers(hands):
    job, params = job_of(Config(hands=hands))
    fingers = sampled(job, params)[0].face_and_hands
    assert not fingers[:, :3].any()
    expected = np.concatenate([job.body.hands_mean_left, job.body.hands_mean_right]).reshape(30, 3)
    assert np.abs(expected).max() > 0.3
    np.testing.assert_array_equal(fingers[:, 3:], np.broadcast_to((hands == "relaxed") * expected, (28, 30, 3)))


def test_where_places_are_asked_for_nothing_moves_the_body():
    def how(asked, actions=("walking",), **settings):
        job, _ = job_of(Config(**settings))
        body = job.body
        targets = make_targets(asked, body, lbs.bake(body), frames=10, fps=10.0, loop=False) if asked else None
        job.problem = dataclasses.replace(job.problem, targets=targets)
        job.statistics = [tuple(map(load_statistics, actions))]
        return ground_of(job, 0)

    assert how(None) == "travel" and how(Asked(avoid=True)) == "travel"
    assert how(Asked(pins=(Pin(20, (0.2, 1.1, 0.4)),))) == how(Asked(path=((0.0, 0.0), (0.0, 1.0)))) == "none"
    assert how(Asked(avoid=True), ground="inplace") == "inplace"
    # of several parts: the motion travels if one of them does
    assert how(None, ("punching", "walking")) == "travel" and how(None, ("punching", "drinking")) == "inplace"


def test_movement_is_what_the_camera_sees():
    """It goes along with the root: a body that only wanders along the floor does not move."""
    still = sampled(*job_of(Config(root="fixed")))[0]
    way = np.cumsum(np.full(still.transl.shape, 0.05, np.float32), axis=0)
    along, up = (dataclasses.replace(still, transl=way * np.array(axes, np.float32)) for axes in ((1, 0, 1), (0, 1, 0)))
    body = load_body()
    assert movement(body, as_filmed(along)) == movement(body, still) != movement(body, as_filmed(up))


@pytest.mark.parametrize("path", ["", "way.csv"])
def test_along_the_floor_the_root_goes_where_a_path_is_asked_for_alone(path):
    """Elsewhere no camera has seen what it does there; its height, which pictures show, stays."""
    job, params = job_of(Config(root="full", path=path))
    own = np.asarray(posefield.poses(job.problem.fields, params).transl[0])
    written = sampled(job, params)[0].transl[::3]
    assert np.ptp(own, axis=0).min() > 0.01
    np.testing.assert_allclose(written, own if path else own * [0, 1, 0], atol=1e-5)
