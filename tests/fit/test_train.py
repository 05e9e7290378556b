"""The training loop against a torch-free op: descent, gradients, NaN steps, exact resuming, both transports."""

import contextlib
import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from md_jax.body import lbs
from md_jax.body.model import load_body
from md_jax.config import Config
from md_jax.control.losses import smoothness
from md_jax.errors import DivergedError
from md_jax.fit import problems, train
from md_jax.fit.posefield import apply_fields
from md_jax.mocap.statistics import load_statistics

CONFIG = Config(
    steps=8, num_motions=2, views=1, checkpoint_every=3, log_every=2, preview_every=0, learning_rate=1e-2, mode="pose",
    root="fixed", t_min=(0.3, 0.05), t_max=(0.9, 0.5), t_schedule="linear", noise="fresh", azimuths=(), reg_weight=5.0,
)  # fmt: skip
FRAMES = 4


class PullTo:
    """½ Σ‖verts − target‖² a motion, written as JAX alone: stands in for bridge.op.TorchLoss."""

    def __init__(self, target, spoil=lambda draws, loss, grad: (loss, grad)):
        self.target, self.spoil, self.calls = target, spoil, 0

    def __call__(self, verts, draws):
        return 0.5 * jnp.sum((verts - self.target) ** 2, axis=(1, 2, 3)), {"t": draws.t}

    original_errors = staticmethod(contextlib.nullcontext)

    def loss_and_grad(self, verts, draws):
        self.calls += 1
        loss, grad = 0.5 * jnp.sum((verts - self.target) ** 2, axis=(1, 2, 3)), verts - self.target
        return *self.spoil(draws, loss, grad), {"t": draws.t}


@pytest.fixture(scope="module")
def problem():
    statistics = [load_statistics("walking"), load_statistics("running")]
    fields, params = problems.make_fields(CONFIG, statistics, FRAMES)
    whole = lbs.bake(load_body("free"))
    whole = dataclasses.replace(whole, skin=whole.skin[:, ::50])  # every fiftieth vertex will do
    fixed = problems.PoseProblem(fields, whole, jax.random.key(0), (1, 2, 2, 2), [[(-3.0, 3.0)]] * 2, (0.1, 0.2))
    bent = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params)
    return types.SimpleNamespace(
        fixed=fixed, params=params, target=jnp.asarray(problems.posed_vertices(fields, bent, whole))
    )


def run(problem, folder, config=CONFIG, spoil=None):
    op = PullTo(problem.target, spoil) if spoil else PullTo(problem.target)
    lines = []
    state = train.fit(config, problem.fixed, problem.params, op, folder, on_log=lambda s, line: lines.append((s, line)))
    return state, lines, op


def same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_step_zero_is_the_mean_pose_and_the_loss_falls(problem, tmp_path):
    values = apply_fields(problem.fixed.fields, problem.params)
    mean = load_statistics("running").body_mean
    np.testing.assert_array_equal(values[1], np.broadcast_to(mean.astype(np.float32), values[1].shape))
    config = dataclasses.replace(CONFIG, steps=30)
    _, lines, op = run(problem, tmp_path, config)
    first, last = lines[0][1]["loss_sds"], lines[-1][1]["loss_sds"]
    assert all(b < 0.5 * a for a, b in zip(first, last, strict=True))
    assert op.calls == 30


def test_the_gradient_is_that_of_the_whole_chain(problem):
    """One step of SGD moves the parameters by the gradient that jax.grad finds for loss and smoothness together."""
    config = dataclasses.replace(CONFIG, optimizer="sgd", grad_clip=0.0, reg_weight=0.3, distillation_weight=0.7)
    params = jax.tree.map(lambda x: x + 0.05 * jax.random.normal(jax.random.key(2), x.shape), problem.params)
    fields, baked = problem.fixed.fields, problem.fixed.baked

    def total(p):
        pull = 0.5 * jnp.sum((problems.posed_vertices(fields, p, baked) - problem.target) ** 2)
        return 0.7 * pull + 0.3 * jnp.sum(smoothness(apply_fields(fields, p)))

    expected = jax.tree.map(lambda x, g: x - config.learning_rate * g, params, jax.grad(total)(params))
    step = train.make_step(config, problem.fixed, PullTo(problem.target))
    state, _ = step(train.init_state(config, params))
    for x, y in zip(jax.tree.leaves(state.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)


def test_both_transports_give_the_same_parameters(problem):
    states = []
    for transport in ("staged", "jit"):
        config = dataclasses.replace(CONFIG, transport=transport)
        step = train.make_step(config, problem.fixed, PullTo(problem.target))
        state = train.init_state(config, problem.params)
        for _ in range(3):
            state, _ = step(state)
        states.append(state.params)
    for x, y in zip(jax.tree.leaves(states[0]), jax.tree.leaves(states[1]), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-5)


def test_a_second_run_of_a_problem_takes_the_compiled_steps_of_the_first(problem, tmp_path, monkeypatch):
    """The control run is the same problem with another loss."""
    fixed, shown = dataclasses.replace(problem.fixed), []
    show = problems.PoseProblem.show
    monkeypatch.setattr(problems.PoseProblem, "show", lambda self, *given: shown.append(self) or show(self, *given))
    for folder, target in ((tmp_path / "run", problem.target), (tmp_path / "control", problem.target + 0.1)):
        train.fit(CONFIG, fixed, problem.params, PullTo(target), folder)
        count = len(shown)
    assert count == 2, "once by the forward program and once by the backward one"
    train.fit(dataclasses.replace(CONFIG, reg_weight=2.0), fixed, problem.params, PullTo(target), tmp_path / "other")
    assert len(shown) == 4, "another recipe is another step"


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(problem, tmp_path):
    whole, lines, _ = run(problem, tmp_path / "whole")

    def stop(draws, loss, grad, count=[0]):  # noqa: B006  the count is meant to live on
        count[0] += 1
        if count[0] == 6:
            raise KeyboardInterrupt
        return loss, grad

    with pytest.raises(KeyboardInterrupt):
        run(problem, tmp_path / "cut", spoil=stop)
    resumed, rest, op = run(problem, tmp_path / "cut")
    assert op.calls == 3  # 5 of 8 steps were done and saved when the sixth was interrupted
    same(resumed, whole)
    assert rest[-1][1]["loss"] == lines[-1][1]["loss"]


def test_a_finished_run_resumes_to_itself(problem, tmp_path):
    state, _, _ = run(problem, tmp_path)
    again, _, op = run(problem, tmp_path)
    assert op.calls == 0
    same(state, again)


def test_a_motion_with_a_nan_gradient_skips_and_the_other_goes_on(problem, tmp_path):
    def spoil(draws, loss, grad, count=[0]):  # noqa: B006
        count[0] += 1
        return loss, grad.at[1].set(jnp.nan) if count[0] in (2, 3) else grad

    state, lines, _ = run(problem, tmp_path / "spoilt", spoil=spoil)
    clean, _, _ = run(problem, tmp_path / "clean")
    assert state.skipped.tolist() == [0, 2]
    assert lines[-1][1]["skipped"] == [0, 2]
    first = lambda tree: jax.tree.map(lambda x: x[0], tree)  # noqa: E731
    same(first(state.params), first(clean.params))
    assert all(bool(jnp.isfinite(x).all()) for x in jax.tree.leaves(state.params))


def test_many_bad_steps_in_a_row_stop_the_run(problem, tmp_path):
    config = dataclasses.replace(CONFIG, max_bad_steps=4)
    with pytest.raises(DivergedError, match=r"motion 0 was NaN or infinite for 4 steps in a row"):
        run(problem, tmp_path, config, spoil=lambda draws, loss, grad: (loss, grad.at[0].set(jnp.inf)))


def test_gradient_clipping_is_per_motion(problem):
    config = dataclasses.replace(CONFIG, optimizer="sgd", learning_rate=1.0, grad_clip=0.25, reg_weight=0.0)
    step = train.make_step(config, problem.fixed, PullTo(problem.target))
    before = train.init_state(config, problem.params)
    after, report = step(before)
    moved = jax.tree.map(lambda a, b: a - b, after.params, before.params)
    np.testing.assert_allclose(jax.vmap(optax.tree.norm)(moved), 0.25, rtol=1e-3)
    assert np.all(np.asarray(report.terms["grad_norm"]) > 0.25)


def test_the_generator_takes_the_steps_of_a_run(problem, tmp_path):
    """Without files or a clock; from a state in the middle it takes those that remain."""
    whole, _, op = run(problem, tmp_path)
    states = [state for state, _ in train.steps(CONFIG, problem.fixed, train.init_state(CONFIG, problem.params), op)]
    assert [int(state.step) for state in states] == list(range(1, 9))
    rest = [state for state, _ in train.steps(CONFIG, problem.fixed, states[4], op)]
    assert [int(state.step) for state in rest] == [6, 7, 8]
    for a, b, c in zip(*(jax.tree.leaves(x.params) for x in (whole, states[-1], rest[-1])), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
