"""What the files of a run are sampled from."""

import jax
import numpy as np
import pytest

from md_jax.fit import posefield
from md_jax.mocap.statistics import load_statistics
from md_jax.run.outputs import export_times


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
