"""--mode=fit: what it refuses, that a seed is a clip, and that a stopped run ends as an unstopped one."""

import dataclasses
import functools
import json

import jax
import numpy as np
import pytest
from rich.console import Console

from md_jax import main
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.fit import posefield, starts
from md_jax.fit.train import init_state, make_step
from md_jax.library import make_motion
from md_jax.mocap import poseprior
from md_jax.options.resolve import resolve
from md_jax.run import outputs, workdir
from md_jax.run.build import make_job
from tests.bridge.priors import tiny_priors

SMALL = {"mode": "fit", "fit_steps": 2, "sample_steps": 3, "steps": 4, "views": 1, "log_every": 1, "preview_every": 0,
         "checkpoint_every": 2, "control_run": False, "device": "cpu"}  # fmt: skip


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A run of tiny networks, with a library of few poses."""
    monkeypatch.setattr(starts, "pose_prior", functools.partial(poseprior.pose_prior, count=12))
    return Config(prior_path=str(tiny_priors.packed_folder(tmp_path / "prior")), **SMALL)


def test_a_seed_is_a_clip_and_a_motion_is_its_own(config):
    """By descent: untrained networks sample noise, and whether the search takes one pose or two for it is chance."""

    def start(**changes):
        job = make_job(dataclasses.replace(config, fit_steps=8, **changes))
        return np.asarray(posefield.poses(job.problem.fields, job.params).body)

    two = start(num_motions=2)
    assert two.shape == (2, 4, 21, 3) and np.isfinite(two).all()
    np.testing.assert_allclose(start()[0], two[0], atol=1e-3)
    assert np.abs(two[0] - two[1]).max() > 0.05
    assert np.abs(start(seed=1)[0] - two[0]).max() > 0.05


def test_the_control_begins_at_a_sample_without_the_sentence(config):
    """Of the same noise: at guidance 0 both are one."""

    def starts(scale):
        job = make_job(dataclasses.replace(config, control_run=True, guidance_scale=scale, fit_steps=8))
        return [np.asarray(posefield.poses(job.problem.fields, each).body) for each in (job.params, job.control_params)]

    motion, control = starts(5.0)
    assert np.abs(motion - control).max() > 0.02
    same, own = starts(0.0)
    np.testing.assert_allclose(same, own, atol=1e-5)
    np.testing.assert_allclose(own, control, atol=1e-3)


def test_what_is_filmed_is_moved(config, monkeypatch):
    """The search, the descent and the PoseField's steps see the vertices of the mesh that is drawn, and no others."""
    from bridge.distill import critic, pictures

    seen, film = [], critic.film

    def counted(verts, azimuth, elevation, mesh, *rest):
        seen.append((verts.shape[-2], len(mesh.colors)))
        return film(verts, azimuth, elevation, mesh, *rest)

    for module in (critic, pictures):
        monkeypatch.setattr(module, "film", counted)
    job = make_job(config)
    searched, count = len(seen), len(job.surface.vertices)
    assert searched == 3 and count < len(job.body.v_template)  # the library, and two steps of the descent
    make_step(job.config, job.problem, job.op)(init_state(job.config, job.params))
    assert len(seen) > searched and set(seen) == {(count, count)}


def test_a_fit_is_a_function_too_stands_on_the_floor_and_calls_its_start_by_name(config, tmp_path):
    from md_jax.body.model import load_body
    from md_jax.ground.points import heights, stander

    motion = make_motion("a person is walking", workdir=tmp_path / "run", prior_path=config.prior_path, **SMALL)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["ground"]["how"] == "travel"
    lowest = heights(stander(load_body()), motion)
    assert lowest.min() > -1e-3 and lowest.min() < 0.01
    assert list(summary["controls"]) == [outputs.FITTED]
    assert summary["controls"][outputs.FITTED]["mean_vertex_speed"] > 0


@pytest.mark.parametrize(
    ("asked", "frames"),
    [
        pytest.param({"seconds": 0.9}, 10, marks=pytest.mark.slow),
        ({"prompt": "walking: .5 | washing a window: .6"}, 12),
        pytest.param({"seconds": 0.8, "loop": True}, 8, marks=pytest.mark.slow),
    ],
)
def test_a_fit_is_as_long_as_asked(config, asked, frames):
    """And of the same length whatever the prior's clip, which has 4 frames here."""
    job = make_job(dataclasses.replace(config, num_motions=2, **asked))
    poses = np.asarray(posefield.poses(job.problem.fields, job.params).body)
    assert poses.shape == (2, frames, 21, 3) and np.isfinite(poses).all()
    assert np.abs(poses[0] - poses[1]).max() > 0.02
    make_step(job.config, job.problem, job.op)(init_state(job.config, job.params))


@pytest.mark.slow
def test_a_stopped_run_ends_as_an_unstopped_one(config, tmp_path):
    def params(folder):
        job = make_job(config)
        from md_jax.fit.checkpoint import Checkpoints

        return jax.tree.leaves(Checkpoints(folder / "checkpoints").restore(init_state(config, job.params)).params)

    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        opened, folder = workdir.open_run(dataclasses.replace(config, workdir=str(folder)), set())
        main.run_job(opened, folder, Console(quiet=True))
    (folders[1] / "checkpoints" / "step-00000004.safetensors").unlink()
    again = dataclasses.replace(config, workdir=str(folders[1]), resume=True)
    opened, folder = workdir.open_run(again, set())
    main.run_job(opened, folder, Console(quiet=True))
    for a, b in zip(params(folders[0]), params(folders[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prior": "modelscope", "prior_path": "x"}, "--prior=modelscope show others: use --prior=embedded"),
    ],
)
def test_what_cannot_be_fitted_is_refused_at_once(given, message):
    with pytest.raises(UserError, match=message):
        make_job(resolve({"mode": "fit", **given}))


def test_a_preset_is_of_pose_mode():
    with pytest.raises(UserError, match="--preset=paper is of pose mode: give --mode=fit alone"):
        resolve({"mode": "fit", "preset": "paper"})
