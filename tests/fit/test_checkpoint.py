"""Checkpoints: exact round trip, the newest readable one wins, damage is one clear error."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from md_jax.errors import UserError
from md_jax.fit.checkpoint import Checkpoints


class State(NamedTuple):
    step: Any
    params: Any


def state_at(step, seed=0):
    rng = np.random.default_rng(seed + step)
    return State(jnp.int32(step), {"w": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), "n": jnp.arange(3)})


def equal(a, b):
    assert int(a.step) == int(b.step)
    for name in a.params:
        np.testing.assert_array_equal(a.params[name], b.params[name])
        assert a.params[name].dtype == b.params[name].dtype


def save(folder, *steps):
    checkpoints = Checkpoints(folder)
    for step in steps:
        checkpoints.save(state_at(step))
    checkpoints.close()


def restore(folder, *tell):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(state_at(0), *tell)
    finally:
        checkpoints.close()


def damage(folder, step):
    for path in (folder / str(step)).rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_without_checkpoints_the_given_state_comes_back(tmp_path):
    equal(restore(tmp_path / "c"), state_at(0))


def test_the_newest_comes_back_exactly_and_two_are_kept(tmp_path):
    save(tmp_path / "c", 10, 20, 30)
    equal(restore(tmp_path / "c"), state_at(30))
    assert sorted(p.name for p in (tmp_path / "c").iterdir() if p.name.isdigit()) == ["20", "30"]


def test_saving_a_step_twice_is_harmless(tmp_path):
    save(tmp_path / "c", 10, 10)
    save(tmp_path / "c", 10)
    equal(restore(tmp_path / "c"), state_at(10))


def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path):
    save(tmp_path / "c", 10, 20)
    damage(tmp_path / "c", 20)
    told: list[str] = []
    equal(restore(tmp_path / "c", told.append), state_at(10))
    assert len(told) == 2 and "cannot be read, step 20" in told[0] and told[1] == "going on from step 10"


def test_only_damaged_ones_is_an_error_that_says_what_to_do(tmp_path):
    save(tmp_path / "c", 10)
    damage(tmp_path / "c", 10)
    with pytest.raises(UserError, match=r"no checkpoint in .* can be read.*delete that folder"):
        restore(tmp_path / "c")


def test_a_run_with_other_shapes_is_an_error(tmp_path):
    save(tmp_path / "c", 10)
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(UserError, match="can be read"):
        checkpoints.restore(State(jnp.int32(0), {"w": jnp.zeros((5, 5)), "n": jnp.arange(3)}))
    checkpoints.close()
