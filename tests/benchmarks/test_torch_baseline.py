"""The pure torch step follows the JAX step: same weights, same draws, same losses; so do clipping and NaN steps."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import smplx
import torch

from benchmarks import lbs_torch, torch_draws
from benchmarks import torch_baseline as baseline
from bridge.critic import FunctionCritic
from bridge.exchange import to_torch
from bridge.op import torch_loss
from md_jax.body import lbs
from md_jax.body.model import FREE_BODY, load_body
from md_jax.config import Config
from md_jax.control.losses import smoothness
from md_jax.errors import UserError
from md_jax.fit import problems, train
from md_jax.fit.posefield import apply_fields
from md_jax.mocap.statistics import load_statistics
from md_jax.run import build as jobs

STEPS = 50
CONFIG = Config(
    reg_weight=10.0, learning_rate=1e-4, views=1, steps=STEPS, device="cpu", detail="full", mode="pose", root="fixed",
    t_min=(0.3, 0.05), t_max=(0.9, 0.5), t_schedule="linear", noise="fresh", azimuths=(), weighting="sigma2",
)  # fmt: skip


def jax_run(config, problem, params, op):
    """(terms of each step, draws of each step) of the JAX run."""
    recorded = []

    class Recording:
        original_errors = staticmethod(op.original_errors)

        def loss_and_grad(self, verts, draws):
            recorded.append(jax.tree.map(lambda x: to_torch(x).clone(), draws))
            return op.loss_and_grad(verts, draws)

    lines = []
    for state, report in train.steps(config, problem, train.init_state(config, params), Recording()):  # noqa: B007
        lines.append({name: np.asarray(value) for name, value in report.terms.items()})
    return lines, recorded, state


def torch_run(config, problem, params, body, critic, draws, **options):
    fields, weights = baseline.fields_from_jax(problem.fields, params)
    step = baseline.make_step(config, fields, weights, body, critic, **options)
    return [{name: value.numpy() for name, value in step(each).items()} for each in draws], weights


# --- on the embedded prior --------------------------------------------------------------------------------------


class InDouble:
    """The op between halves in float64: what it is given is rounded to float32, what it gives widened."""

    def __init__(self, op):
        self.op, self.original_errors = op, op.original_errors

    def loss_and_grad(self, verts, draws):
        verts, draws = jax.tree.map(lambda x: x.astype(jnp.float32), (verts, draws))
        loss, grad, metrics = self.op.loss_and_grad(verts, draws)
        return loss, grad.astype(jnp.float64), metrics


def widened(tree):
    """The tree with float64 for float32."""
    return jax.tree.map(lambda x: jnp.asarray(np.asarray(x, np.float64)) if x.dtype == np.float32 else x, tree)


@pytest.fixture(scope="module")
def embedded():
    """The job in float64 up to the frozen half, and its 50 steps.

    In float32 alone two runs drift apart by rounding, the faster the higher the learning rate: a sample of the picture
    changes its triangle, Adam divides by a small moment. (Measured at 5e-4: from 5e-7 to 1e-3 in 50 steps.)
    """
    job = jobs.make_job(CONFIG)
    with jax.enable_x64(True):
        fields = dataclasses.replace(job.problem.fields, fixed=widened(job.problem.fields.fixed))
        problem = dataclasses.replace(job.problem, fields=fields, baked=lbs.bake(widened(job.body)))
        params = widened(job.params)
        lines, draws, _ = jax_run(CONFIG, problem, params, InDouble(job.op))
    return job, problem, params, lines, draws


@pytest.mark.parametrize("kind", [pytest.param("smplx", marks=pytest.mark.slow), "ours"])
def test_fifty_steps_on_the_embedded_prior_follow_the_jax_run(embedded, kind, monkeypatch):
    job, problem, params, lines, draws = embedded
    body, adam = baseline.baked_body(problem.baked), "fused"
    if kind == "smplx":
        # The package adds 1e-8 to every rotation vector, which grows like any other difference.
        monkeypatch.setattr(smplx.lbs, "batch_rodrigues", lambda vectors, **_: lbs_torch.axis_angle_to_matrix(vectors))
        body, adam = baseline.smplx_body(FREE_BODY, problem.fields.frames, dtype=torch.float64), "foreach"

    def critic(verts, draws):
        loss, grad, metrics = job.op.critic(verts.float(), draws)
        return loss, grad.double(), metrics

    narrow = [jax.tree.map(lambda x: x.float(), each) for each in draws]
    ours, _ = torch_run(CONFIG, problem, params, body, critic, narrow, adam=adam)
    assert len(ours) == STEPS
    for name in ("loss", "loss_sds", "loss_reg"):
        mine, theirs = (np.stack([line[name] for line in run]) for run in (ours, lines))
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-12, err_msg=name)
    assert lines[-1]["loss_reg"] > 0  # it moves


# --- two motions on a loss without a network --------------------------------------------------------------------


def make_critic(targets, spoil_at=()):
    """½‖v − target‖² a motion; the second motion's gradient is NaN in the calls `spoil_at`."""
    calls = []

    def fn(verts, draws, grad_out=None):
        calls.append(None)
        grad = verts - targets
        loss = 0.5 * grad.square().sum(dim=(1, 2, 3))
        if len(calls) - 1 in spoil_at:
            grad[1] = torch.nan
        return loss, grad, {"t": draws.t + 0}

    return FunctionCritic(fn, ("t",))


@pytest.fixture(scope="module")
def toy():
    config = dataclasses.replace(CONFIG, num_motions=2, grad_clip=0.5, learning_rate=0.01)
    fields, params = problems.make_fields(config, [load_statistics("walking"), load_statistics("running")], 4)
    baked = lbs.bake(load_body("free"))
    baked = dataclasses.replace(baked, skin=baked.skin[:, ::50])
    problem = problems.PoseProblem(fields, baked, jax.random.key(0), (1, 2, 2, 2), [[(-3.0, 3.0)]] * 2, (0.1, 0.2))
    bent = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(jax.random.key(1), x.shape), params)
    return config, problem, params, torch.tensor(np.array(problems.posed_vertices(fields, bent, baked)))


@pytest.mark.parametrize("spoil_at", [(), (2, 3)])
@pytest.mark.parametrize("bound", ["tanh", "clamp"])
def test_two_motions_with_clipping_and_nan_steps_end_at_the_jax_runs_weights(toy, spoil_at, bound):
    config, problem, params, target = toy
    config = dataclasses.replace(config, schedule={"tanh": "cosine", "clamp": "linear"}[bound], steps=8)
    graphdef = problem.fields
    if bound == "clamp":
        graphdef, params = problems.make_fields(
            dataclasses.replace(config, bound="clamp"), [load_statistics("walking"), load_statistics("running")], 4
        )
    problem = dataclasses.replace(problem, fields=graphdef)
    op = torch_loss(make_critic(target, spoil_at), "staged")
    lines, draws, state = jax_run(config, problem, params, op)
    assert state.skipped.tolist() == [0, len(spoil_at)]
    critic = make_critic(target, spoil_at)
    ours, weights = torch_run(config, problem, params, baseline.baked_body(problem.baked), critic, draws)
    for theirs, own in zip(lines, ours, strict=True):
        for name in theirs:
            np.testing.assert_allclose(own[name], theirs[name], rtol=1e-4, err_msg=name)
    names = [(layer, kind) for layer in ("hidden_0", "hidden_1", "head") for kind in ("kernel", "bias")]
    for m in range(2):
        for leaf, (layer, kind) in zip(weights[m], names, strict=True):
            # A step moves a weight by up to 1e-2; where its gradient is next to nothing Adam magnifies the rounding.
            np.testing.assert_allclose(leaf.detach(), state.params[layer][kind][m], rtol=1e-4, atol=1e-4)


def test_pose_values_and_smoothness_are_those_of_jax(toy):
    _, problem, params, _ = toy
    bent = jax.tree.map(lambda x: x + 0.3 * jax.random.normal(jax.random.key(2), x.shape), params)
    fields, weights = baseline.fields_from_jax(problem.fields, bent)
    values = baseline.pose_values(fields, [torch.stack(same) for same in zip(*weights, strict=True)])
    expected = apply_fields(problem.fields, bent)
    np.testing.assert_allclose(values, expected, atol=2e-6)
    np.testing.assert_allclose(baseline.smoothness(values), smoothness(expected), rtol=1e-5)


def test_what_the_twin_does_not_cover_is_refused(toy):
    config, problem, params, target = toy
    with pytest.raises(UserError, match="--rotation=axis_angle and --root=fixed, got --rotation=6d"):
        baseline.fields_from_jax(dataclasses.replace(problem.fields, rotation="6d"), params)
    with pytest.raises(UserError, match="got --optimizer=lion"):
        fields, weights = baseline.fields_from_jax(problem.fields, params)
        lion = dataclasses.replace(config, optimizer="lion")
        baseline.make_step(lion, fields, weights, baseline.baked_body(problem.baked), make_critic(target))


def test_torch_draws_have_the_distribution_of_the_jax_draws():
    """Views evenly spaced, everything in its range, and the t range moves with the step."""
    config = dataclasses.replace(CONFIG, views=3, t_min=(0.4, 0.1), t_max=(0.9, 0.5), steps=11)
    draw = torch_draws.make_draws(config, (2, 3, 4, 4), (0.1, 0.2), motions=2)
    for step, low, high in ((0, 0.4, 0.9), (10, 0.1, 0.5)):
        draws = draw(step)
        assert [tuple(x.shape) for x in draws[:4]] == [(6,), (6,), (6,), (6, 2, 3, 4, 4)]
        gaps = draws.azimuth.reshape(2, 3).sort(dim=1).values.diff(dim=1)
        np.testing.assert_allclose(gaps, 2 * np.pi / 3, rtol=1e-5)
        assert draws.azimuth.abs().max() <= np.pi + 1e-6
        assert ((draws.t >= low) & (draws.t <= high)).all()
        assert ((draws.elevation >= 0.1) & (draws.elevation <= 0.2)).all()
    assert not torch.equal(draw(1).noise, draw(1).noise)
    assert jnp.asarray(draws.noise).dtype == jnp.float32
