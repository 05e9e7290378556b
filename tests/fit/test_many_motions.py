"""Several motions in one run: one compiled step and one torch call serve all, each motion is itself, files and all."""

import dataclasses
import json
from typing import ClassVar

import jax
import numpy as np
import pytest

from benchmarks import priors
from bridge.priors import LOADERS
from bridge.recipes import BORROWED
from md_jax.config import Config
from md_jax.fit import posefield, train
from md_jax.run import outputs
from md_jax.run.build import make_job
from md_jax.run.logs import Metrics

BORROWED["null"] = "embedded"  # a Config is complete: its prior has a recipe
CONFIG = Config(
    prior="null", guidance_scale=1.0, frames=3, height=16, width=16, views=2, steps=4, reg_weight=0.1, device="cpu",
    learning_rate=0.01, root="fixed", noise="fresh", azimuths=(),
)  # fmt: skip


class Recording(priors.NullPrior):
    """A NullPrior that notes how many clips it is given at once."""

    batches: ClassVar[list[int]] = []

    def predict(self, z_t, t, texts):
        self.batches.append(len(z_t))
        return super().predict(z_t, t, texts)


@pytest.fixture(autouse=True)
def recording_prior():
    spec = priors.spec_of("embedded")
    LOADERS["null"] = lambda name, path, device, dtype: Recording(spec, device)
    yield
    del LOADERS["null"]


def run(config, steps=3):
    job = make_job(config)
    step = train.make_step(config, job.problem, job.op)
    state = train.init_state(config, job.params)
    for _ in range(steps):
        state, report = step(state)
    return job, state, report


def test_one_step_serves_all_motions_and_the_prior_goes_in_batches():
    config = dataclasses.replace(CONFIG, num_motions=3, prior_batch=4)
    job = make_job(config)
    step = train.make_step(config, job.problem, job.op)
    state = train.init_state(config, job.params)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, duration_secs, **_: compiled.append(event) if event.endswith("backend_compile_duration") else None
    )
    for number in range(3):
        if number == 1:
            compiled.clear()
            job.op.traffic.reset()
            Recording.batches.clear()
        state, report = step(state)
    assert not compiled
    assert job.op.traffic.calls == 2 and job.op.traffic.copied == 0
    assert Recording.batches == [4, 2] * 2  # 3 motions, 2 views each
    assert {value.shape for value in report.terms.values()} == {(3,)}


def test_the_size_of_the_batches_changes_nothing():
    states = [run(dataclasses.replace(CONFIG, num_motions=3, prior_batch=size))[1] for size in (1, 4, 16)]
    for state in states[1:]:
        for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(states[0].params), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)


def test_a_motion_is_the_same_alone_and_in_company():
    # plain gradient descent: Adam divides by a gradient's size and so makes the last bits of the smallest ones large
    config = dataclasses.replace(CONFIG, optimizer="sgd")
    job, alone, _ = run(config)
    _, together, _ = run(dataclasses.replace(config, num_motions=3))
    for start, x, y in zip(*map(jax.tree.leaves, (job.params, alone.params, together.params)), strict=True):
        np.testing.assert_allclose(x[0], y[0], rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(x[0] - start[0], y[0] - start[0], rtol=1e-3, atol=1e-7)
    kernel = together.params["hidden_0"]["kernel"]
    assert not np.allclose(kernel[0], kernel[1])  # and not the same as its neighbour


def test_a_motion_is_made_alone_by_its_number():
    """Motion 2 of 3: start and draws are the same bits; its steps round as a batch of another size does."""
    config = dataclasses.replace(CONFIG, optimizer="sgd", num_motions=3)
    alone = dataclasses.replace(config, num_motions=1, first_motion=2)
    (job, three, _), (lone_job, one, _) = run(config), run(alone)
    for x, y in zip(jax.tree.leaves(job.params), jax.tree.leaves(lone_job.params), strict=True):
        np.testing.assert_array_equal(x[2], y[0])
    step, key, views = jax.numpy.asarray(1), job.problem.key, config.views
    company = train.draws_at(config, job.problem, 3, step, key)
    lone = train.draws_at(alone, lone_job.problem, 1, step, key)
    for x, y in zip(company, lone, strict=True):
        if x is not None:
            np.testing.assert_array_equal(x[2 * views :], y)
    for start, x, y in zip(*map(jax.tree.leaves, (lone_job.params, one.params, three.params)), strict=True):
        np.testing.assert_allclose(x[0] - start[0], y[2] - start[0], rtol=1e-3, atol=1e-7)


def test_each_motion_gets_its_own_files(tmp_path, monkeypatch):
    file = tmp_path / "prompts.txt"
    file.write_text("a person is walking\na person is running\n")
    config = dataclasses.replace(CONFIG, prompts_file=str(file), ground="none")  # poses as they are
    job, state, report = run(config)
    terms = {name: np.asarray(value).astype(float).tolist() for name, value in report.terms.items()}
    Metrics(tmp_path, 0).append(3, terms)
    exported = {}
    monkeypatch.setattr(
        outputs.export, "export_motion", lambda folder, posed, body, **rest: exported.update({folder: (posed, rest)})
    )
    folders = outputs.write_outputs(job, tmp_path, state, None, lambda *_: None)
    assert [folder.name for folder in folders] == ["motion-00", "motion-01"]
    poses = posefield.poses(job.problem.fields, state.params)
    for m, (folder, verb) in enumerate(zip(folders, ("walking", "running"), strict=True)):
        posed, rest = exported[folder]
        motion = posed.motion
        assert motion.prompt == f"a person is {verb}"
        assert motion.fps == 30
        np.testing.assert_allclose(motion.body_pose[::3], poses.body[m], atol=1e-6)  # the clip's own frames
        still = rest["controls"][outputs.STILL].motion
        np.testing.assert_allclose(
            still.body_pose[::3], posefield.poses(job.problem.fields, job.params).body[m], atol=1e-6
        )
        summary = json.loads((folder / "summary.json").read_text())
        assert (summary["prompt"], summary["action"]) == (motion.prompt, verb)
        assert summary["final"]["loss_sds"] == pytest.approx(terms["loss_sds"][m])
