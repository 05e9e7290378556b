"""Every optimiser by name descends, clips and follows its schedule; the smoothness term equals a loop."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from md_jax.errors import UserError
from md_jax.losses import smoothness
from md_jax.optimizers import OPTIMIZERS, make_optimizer


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
def test_it_descends_a_quadratic(name):
    optimizer = make_optimizer(name, 0.05, steps=200)
    target = jnp.array([1.0, -2.0, 0.5])

    def loss(x):
        return 0.5 * jnp.sum((x - target) ** 2)

    def body(carry, _):
        x, state = carry
        updates, state = optimizer.update(jax.grad(loss)(x), state, x)
        return (optax.apply_updates(x, updates), state), None

    x0 = jnp.array([0.3, 0.2, -0.1])
    (x, _), _ = jax.lax.scan(body, (x0, optimizer.init(x0)), None, length=200)
    assert loss(x) < 0.1 * loss(x0)


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
