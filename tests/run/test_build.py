"""The flags about the machine reach the step, and change its numbers by rounding alone."""

import numpy as np
import pytest

from md_jax.config import Config
from md_jax.errors import UserError
from tests.bridge.priors import tiny_priors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_priors.packed_folder(tmp_path_factory.mktemp("prior")))


def make(folder, **flags):
    from md_jax.run.build import make_job

    plain = {"prior_path": folder, "steps": 2, "views": 2, "device": "cpu", "supersample": 1}
    return make_job(Config(**{**plain, **flags}))


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [({}, (16, 0)), ({"low_vram": True}, (1, 1)), ({"low_vram": True, "encode_chunk": 4}, (1, 4))],
)
def test_how_much_is_done_at_once(folder, flags, wanted, monkeypatch):
    import bridge.build as torch_build

    made = []

    class Recorder(torch_build.VertexCritic):
        def __init__(self, *args):
            made.append((args[-1].prior_batch, args[-1].encode_chunk))
            super().__init__(*args)

    monkeypatch.setattr(torch_build, "VertexCritic", Recorder)
    make(folder, **flags)
    assert made == [wanted, wanted]  # guided and unguided


def test_what_a_prior_ignores_is_said(folder):
    choices = dict(make(folder, fps=5.0).choices)
    assert choices["ignored"] == "--fps=5: prior 'embedded' takes no frame rate; its own videos have 10"
    assert "ignored" not in dict(make(folder).choices)


def test_a_motion_of_several_parts_stands_on_the_floor_by_all_of_them(folder):
    from md_jax.run.outputs import ground_of

    job = make(folder, prompt="washing a window: 1 | walking: 1")
    assert job.actions == ["washwindow, then walking"] and ground_of(job, 0) == "travel"


def test_low_vram_takes_the_same_step(folder):
    from md_jax.fit.train import init_state, make_step

    losses = []
    for flags in ({}, {"low_vram": True, "oom": "retry"}):
        job = make(folder, **flags)
        state = init_state(job.config, job.params)
        _, report = make_step(job.config, job.problem, job.op)(state)
        losses.append(np.asarray(report.terms["loss_sds"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.parametrize("flags", [{"renderer": "nvdiffrast"}, {"antialias": "nvdiffrast"}])
def test_what_the_machine_lacks_is_said_before_anything_is_computed(folder, flags):
    with pytest.raises(UserError, match="GPUs alone"):
        make(folder, **flags)


def moved_statistics(path, transl):
    """Statistics of a walk with another translation, in a file."""
    import dataclasses

    from md_jax.mocap.statistics import load_statistics, save_statistics

    walking = load_statistics("walking")
    save_statistics(path, [dataclasses.replace(walking, transl_mean=np.array(transl, np.float32))])
    return str(path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"distance": 1.0}, "take --distance="),
        ({"fov": 12.0, "action": "walking"}, "take --distance="),
        ({"height": 64, "width": 8}, "a larger --width"),
        ({"prompt": "walking, front view", "azimuths": (90.0,), "distance": 0.9, "mode": "fit"}, "of the body in the"),
        ({"distance": 1.0, "mode": "latent"}, "of the body in the picture"),
        ({"root": "full", "up_there": True}, "or --root=orient"),
    ],
)
def test_a_start_outside_the_picture_is_refused_before_anything_is_loaded(flags, message, tmp_path, monkeypatch):
    from md_jax.run import torch_side

    def no_load(*args):
        raise AssertionError("the prior is loaded")

    monkeypatch.setattr(torch_side, "build", no_load)
    flags = dict(flags)
    if flags.pop("up_there", False):
        flags["statistics"] = moved_statistics(tmp_path / "up.npz", (0.0, 1.2, 0.0))
    with pytest.raises(UserError, match=message) as error:
        make("", **flags)
    assert "\n" not in str(error.value) and "at least 90 % are expected" in str(error.value)


def test_a_start_far_along_the_floor_is_in_the_picture(folder, tmp_path):
    """For the camera goes along; also where latents are optimised, whose video is the start's."""
    statistics = moved_statistics(tmp_path / "far.npz", (0.0, 0.0, 5.0))
    make(folder, root="full", statistics=statistics)
    settings = {"mode": "latent", "statistics": statistics, "views": 1}
    latents = [make(folder, root=root, **settings).params["z"] for root in ("full", "orient")]
    np.testing.assert_allclose(latents[0], latents[1], atol=1e-4)
