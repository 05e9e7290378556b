"""Latent mode: the closed form of a step, and whole runs on a tiny prior: resuming, seeds, several motions."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from bridge.diagnose import peak_memory
from md_jax import main
from md_jax.config import Config
from md_jax.fit import problems, train
from md_jax.run import workdir
from tests.bridge.priors import tiny_priors
from tests.fit.test_train import PullTo

SHAPE = (3, 4, 2, 2)
FAST = {"steps": 4, "views": 2, "log_every": 1, "checkpoint_every": 2, "preview_every": 0, "learning_rate": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_priors.packed_folder(tmp_path_factory.mktemp("prior")))


@pytest.mark.parametrize("transport", ["staged", "jit"])
def test_a_step_of_sgd_goes_down_the_residual_itself(transport):
    config = Config(
        mode="latent", optimizer="sgd", learning_rate=0.1, grad_clip=0.0, distillation_weight=0.5, transport=transport
    )
    z, target = jax.random.normal(jax.random.key(0), (2, 2, *SHAPE))
    problem = problems.LatentProblem(
        jax.random.key(1), SHAPE, [[(0.5, 0.5)], [(1.0, 1.0)]], (0.1, 0.2), decode=np.asarray
    )

    class Flat(PullTo):
        def __call__(self, x, draws):
            return 0.5 * jnp.sum((x - self.target) ** 2, axis=(1, 2, 3, 4)), {"t": draws.t}

        def loss_and_grad(self, x, draws):
            np.testing.assert_allclose(draws.azimuth, np.repeat([0.5, 1.0], config.views), rtol=1e-6)
            return 0.5 * jnp.sum((x - self.target) ** 2, axis=(1, 2, 3, 4)), x - self.target, {"t": draws.t}

    state, report = train.make_step(config, problem, Flat(target))(train.init_state(config, {"z": z}))
    np.testing.assert_allclose(state.params["z"], z - 0.1 * 0.5 * (z - target), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(report.shown, z)
    assert report.terms["loss_reg"].tolist() == [0, 0]


def run(folder, target, **changes):
    """A run in this process; its folder."""
    config = Config(mode="latent", prior_path=folder, **{**FAST, "control_run": False, **changes})
    target.mkdir(parents=True, exist_ok=True)
    config, target = workdir.open_run(dataclasses.replace(config, workdir=str(target)), set())
    main.run_job(config, target, Console(quiet=True))
    return target


def latents(path):
    with np.load(path / "latents.npz") as file:
        return file["z"]


def test_a_run_moves_the_video_and_says_so(folder, tmp_path):
    before = peak_memory()["host"]
    done = run(folder, tmp_path / "a", control_run=True, preview_every=2)
    z = latents(done)
    assert z.shape == (3, 4, 16, 16) and np.isfinite(z).all()
    assert {"sheet.png", "video.mp4", "summary.json", "run.flags", "metrics.jsonl"} <= {p.name for p in done.iterdir()}
    assert len(list((done / "previews").iterdir())) == 2
    summary = json.loads((done / "summary.json").read_text())
    assert summary["controls"]["first render"]["frame_change"] == 0  # the mean pose, held still
    assert summary["frame_change"] > 0
    assert before <= summary["peak_memory_mib"]["host"] <= peak_memory()["host"]
    np.testing.assert_array_equal(z, latents(run(folder, tmp_path / "b", control_run=False)))
    assert not np.array_equal(z, latents(run(folder, tmp_path / "c", seed=1)))


def test_resumed_and_uninterrupted_runs_end_alike(folder, tmp_path, monkeypatch):
    whole = run(folder, tmp_path / "whole", num_motions=2)
    saved = train.Checkpoints.save

    def stop(self, state):
        saved(self, state)
        if int(state.step) == 2:
            monkeypatch.setattr(train.Checkpoints, "save", saved)
            raise KeyboardInterrupt

    monkeypatch.setattr(train.Checkpoints, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        run(folder, tmp_path / "cut", num_motions=2)
    resumed = run(folder, tmp_path / "cut", resume=True)
    for m in range(2):
        np.testing.assert_array_equal(latents(resumed / f"motion-{m:02d}"), latents(whole / f"motion-{m:02d}"))
    first, second = (latents(whole / f"motion-{m:02d}") for m in range(2))
    assert not np.array_equal(first, second)
