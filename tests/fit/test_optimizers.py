"""Every optimiser by name: it descends, M motions at once are the motions alone, it clips, schedules and resumes."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from md_jax.control.losses import smoothness
from md_jax.errors import UserError
from md_jax.fit.optimizers import OPTIMIZERS, REFUSED, final_params, make_optimizer

MOTIONS = 2
ADAPTIVE = {"cocob", "dadapt_adamw", "dog", "dowg", "mechanic", "prodigy"}  # these find their own step
PROBING = {*ADAPTIVE, "adopt"}  # the first step of these may be none


def params_like_a_field(seed=0):
    """(parameters with the head at zero, where they should be), of MOTIONS motions."""
    rng = np.random.default_rng(seed)
    shapes = {"hidden": {"kernel": (8, 16), "bias": (16,)}, "head": {"kernel": (16, 18), "bias": (18,)}}
    random = [
        jax.tree.map(lambda s: jnp.asarray(rng.normal(size=(MOTIONS, *s)), jnp.float32), shapes, is_leaf=_is_shape)
        for _ in range(2)
    ]
    random[0]["head"] = jax.tree.map(jnp.zeros_like, random[0]["head"])
    return random


def _is_shape(x):
    return isinstance(x, tuple)


def distance(params, target):
    """½‖params − target‖² in float64, so that the smallest first steps are seen."""
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(target), strict=True)
    return 0.5 * sum(np.square(np.asarray(x, np.float64) - np.asarray(y, np.float64)).sum() for x, y in pairs)


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_it_descends_and_no_motion_minds_its_company(name):
    params, target = params_like_a_field()
    optimizer = make_optimizer(name, 1.0 if name in ADAPTIVE else 0.01, steps=10, grad_clip=1.0)

    @jax.jit
    def step(params, state, target):  # the gradient of `distance`
        def one(params, state, target):
            updates, state = optimizer.update(jax.tree.map(jnp.subtract, params, target), state, params)
            return optax.apply_updates(params, updates), state

        return jax.vmap(one)(params, state, target)

    together, state = params, jax.vmap(optimizer.init)(params)
    assert {leaf.shape[:1] for leaf in jax.tree.leaves(state)} <= {(MOTIONS,)}
    for number in range(4):
        together, state = step(together, state, target)
        if number == (1 if name in PROBING else 0):
            for m in range(MOTIONS):
                first, there, start = (jax.tree.map(lambda x, m=m: x[m], t) for t in (together, target, params))
                assert distance(first, there) < distance(start, there)

    def turned(tree):  # each motion in another place, beside another one: the same compiled step
        return jax.tree.map(lambda x: jnp.roll(x, 1, axis=0), tree)

    strangers = turned(params)
    strangers = jax.tree.map(lambda x: x.at[0].set(0.5), strangers)
    others, state = strangers, jax.vmap(optimizer.init)(strangers)
    for _ in range(4):
        others, state = step(others, state, turned(target))
    for x, y in zip(jax.tree.leaves(others), jax.tree.leaves(turned(together)), strict=True):
        np.testing.assert_allclose(x[1:], y[1:], rtol=1e-5, atol=1e-6)


def test_adam_is_optax_adam_bit_for_bit():
    params, target = params_like_a_field()
    mine, plain = make_optimizer("adam", 0.01, steps=5, grad_clip=1.0), optax.adam(0.01)
    x, state, y, other = params, mine.init(params), params, plain.init(params)
    for _ in range(5):
        updates, state = mine.update(jax.tree.map(jnp.subtract, x, target), state, x)
        x = optax.apply_updates(x, updates)
        clip = optax.clip_by_global_norm(1.0)
        gradient, _ = clip.update(jax.tree.map(jnp.subtract, y, target), clip.init(y))
        updates, other = plain.update(gradient, other, y)
        y = optax.apply_updates(y, updates)
    jax.tree.map(np.testing.assert_array_equal, x, y)
    assert final_params(state, x) is x


def test_schedule_free_ends_at_the_average_of_its_steps():
    """Constant rate and β = 0.9: x is the mean of all z, and y = 0.1 z + 0.9 x is what checkpoints hold."""
    optimizer = make_optimizer("schedule_free_sgd", 0.1, steps=20)
    params, target = jnp.array([[1.0, -2.0], [0.5, 3.0]]), jnp.array([[0.0, 1.0], [2.0, 2.0]])
    y, state = params, jax.vmap(optimizer.init)(params)
    z, x, zs = np.array(params), np.array(params), []
    for _ in range(20):
        updates, state = jax.vmap(optimizer.update)(y - target, state, y)
        z = z - 0.1 * (np.array(0.1 * z + 0.9 * x) - np.array(target))
        zs.append(z)
        x = np.mean(zs, axis=0)
        y = optax.apply_updates(y, updates)
    np.testing.assert_allclose(y, 0.1 * z + 0.9 * x, rtol=1e-4)
    np.testing.assert_allclose(final_params(state, y), x, rtol=1e-4)


def test_every_optimiser_of_optax_is_known_or_refused_with_a_reason():
    not_optimisers = {"schedule_free_adamw", "optimistic_adam_v2"}  # under the names schedule_free, optimistic_adam
    for module in (optax, contrib):
        for name, function in vars(module).items():
            if not inspect.isfunction(function) or name in not_optimisers or name.startswith(("_", "scale_by_")):
                continue
            first = next(iter(inspect.signature(function).parameters), "")
            if first in ("learning_rate", "max_learning_rate"):
                assert name in OPTIMIZERS or name in REFUSED, name
    for name, reason in REFUSED.items():
        with pytest.raises(UserError, match="cannot be used here") as caught:
            make_optimizer(name, 1e-3, steps=1)
        assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r"unknown --optimizer='adamm'.*adamw"):
        make_optimizer("adamm", 1e-3, steps=1)


def test_the_gradient_is_clipped_by_its_norm():
    optimizer = make_optimizer("sgd", 1.0, steps=1, grad_clip=1.0)
    gradient = jnp.array([30.0, 40.0])
    update, _ = optimizer.update(gradient, optimizer.init(gradient), gradient)
    np.testing.assert_allclose(update, [-0.6, -0.8], rtol=1e-6)


@pytest.mark.parametrize(("schedule", "end"), [("constant", 1.0), ("cosine", 0.01), ("linear", 0.01)])
def test_the_schedule_ends_where_it_says(schedule, end):
    optimizer = make_optimizer("sgd", 1.0, steps=10, schedule=schedule)
    gradient = jnp.ones(1)
    state = optimizer.init(gradient)
    for _ in range(11):  # momentum grows to its own limit, so compare with the constant schedule's
        update, state = optimizer.update(gradient, state, gradient)
    constant = make_optimizer("sgd", 1.0, steps=10)
    other = constant.init(gradient)
    for _ in range(11):
        expected, other = constant.update(gradient, other, gradient)
    np.testing.assert_allclose(update, end * expected, rtol=1e-4)


def test_smoothness_is_the_sum_of_squared_frame_differences():
    params = np.random.default_rng(0).normal(size=(2, 4, 3, 6)).astype(np.float32)
    expected = [sum(((m[i + 1] - m[i]) ** 2).sum() for i in range(3)) for m in params.astype(np.float64)]
    np.testing.assert_allclose(smoothness(jnp.asarray(params)), expected, rtol=1e-5)
