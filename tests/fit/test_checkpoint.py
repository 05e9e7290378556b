"""Checkpoints: exact round trip of any state, the newest whole one wins, and no flipped bit goes unnoticed."""

import errno
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from md_jax.errors import UserError
from md_jax.files import WriteError
from md_jax.fit.checkpoint import Checkpoints, DamagedError, decode, encode


class State(NamedTuple):
    step: Any
    params: Any


def state_at(step, seed=0):
    rng = np.random.default_rng(seed + step)
    return State(jnp.int32(step), {"w": jnp.asarray(rng.normal(size=(2, 3)), jnp.float32), "n": jnp.arange(3)})


def raw(x):
    return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape and raw(x).tobytes() == raw(y).tobytes()


def save(folder, *steps):
    for step in steps:
        Checkpoints(folder).save(state_at(step))


def restore(folder, *tell):
    return Checkpoints(folder).restore(state_at(0), *tell)


def file_of(folder, step):
    return folder / f"step-{step:08d}.safetensors"


def damage(folder, step):
    path = file_of(folder, step)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_without_checkpoints_the_given_state_comes_back(tmp_path):
    equal(restore(tmp_path / "c"), state_at(0))


def test_the_newest_comes_back_exactly_and_three_are_kept(tmp_path):
    save(tmp_path / "c", 10, 20, 30, 40)
    equal(restore(tmp_path / "c"), state_at(40))
    assert sorted(tmp_path.glob("c/*")) == [file_of(tmp_path / "c", step) for step in (20, 30, 40)]


def test_every_kind_of_array_comes_back_bit_for_bit():
    state = State(
        jnp.int32(7),
        {
            "bfloat16": jnp.asarray([1.5, jnp.nan, -0.0], jnp.bfloat16),
            "float8": jnp.asarray([0.5, 2.0], jnp.float8_e4m3fn),
            "scalar": jnp.ones((), jnp.bfloat16),
            "complex": jnp.asarray([1j, 2], jnp.complex64),
            "empty": jnp.zeros((0, 3)),
            "flag": jnp.asarray(True),
            "keys": jax.random.split(jax.random.key(1), 4),
            "other keys": jax.random.key(2, impl="rbg"),
            "none": None,
        },
    )
    equal(decode(encode(state), state), state)


@pytest.mark.parametrize("name", ["adam", "lion", "prodigy", "schedule_free_adamw", "lbfgs", "shampoo-like"])
def test_every_optimisers_state_comes_back(name):
    makers: dict[str, Any] = {
        "prodigy": optax.contrib.prodigy,
        "schedule_free_adamw": lambda rate: optax.contrib.schedule_free_adamw(rate, warmup_steps=2),
        "shampoo-like": lambda rate: optax.chain(optax.add_noise(0.1, 0.5, 3), optax.adafactor(rate)),
    }
    maker = makers.get(name) or getattr(optax, name)
    params = {"w": jnp.linspace(0, 1, 6).reshape(2, 3)}
    state = State(jnp.int32(3), maker(1e-3).init(params))
    equal(decode(encode(state), state), state)


def test_one_flipped_bit_anywhere_is_noticed():
    data = encode(state_at(10))
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedError):
            decode(bytes(flipped), state_at(0))


def test_a_cut_file_is_noticed_wherever_it_ends():
    data = encode(state_at(10))
    for length in range(len(data)):
        with pytest.raises(DamagedError):
            decode(data[:length], state_at(0))


def test_saving_a_step_again_mends_a_damaged_file(tmp_path):
    save(tmp_path / "c", 10)
    damage(tmp_path / "c", 10)
    save(tmp_path / "c", 10)
    equal(restore(tmp_path / "c"), state_at(10))


def test_a_damaged_newest_gives_way_to_the_one_before(tmp_path):
    save(tmp_path / "c", 10, 20)
    damage(tmp_path / "c", 20)
    told: list[str] = []
    equal(restore(tmp_path / "c", told.append), state_at(10))
    assert len(told) == 2 and "left aside, step-00000020" in told[0] and told[1] == "going on from step 10"
    assert file_of(tmp_path / "c", 20).exists()


@pytest.mark.parametrize("make", [lambda p: p.write_bytes(b""), lambda p: p.mkdir(), lambda p: os.mkfifo(p)])
def test_an_empty_file_a_folder_and_a_pipe_are_left_aside(tmp_path, make):
    save(tmp_path / "c", 10)
    make(file_of(tmp_path / "c", 20))
    equal(restore(tmp_path / "c"), state_at(10))


def test_only_damaged_ones_is_one_line_that_advises_to_delete_nothing(tmp_path):
    save(tmp_path / "c", 10)
    damage(tmp_path / "c", 10)
    with pytest.raises(UserError, match=r"no checkpoint in .* is whole") as caught:
        restore(tmp_path / "c")
    assert "delete" not in str(caught.value) and "\n" not in str(caught.value)


def test_folders_of_an_older_version_are_refused_not_begun_anew(tmp_path):
    (tmp_path / "c" / "40").mkdir(parents=True)
    with pytest.raises(UserError, match="older versions"):
        restore(tmp_path / "c")


@pytest.mark.parametrize("other", [
    {"w": jnp.zeros((5, 5)), "n": jnp.arange(3)}, {"w": jnp.zeros((2, 3)), "n": jnp.zeros(3)}, {"w": jnp.zeros((2, 3))},
])  # fmt: skip
def test_a_run_with_other_arrays_is_an_error(tmp_path, other):
    save(tmp_path / "c", 10)
    with pytest.raises(UserError, match="other options"):
        Checkpoints(tmp_path / "c").restore(State(jnp.int32(0), other))


def test_any_legal_path_works(tmp_path):
    folder = tmp_path / "a[1]{*}?" / "[draft] x"
    save(folder, 10)
    equal(restore(folder), state_at(10))


def test_a_full_disk_leaves_the_old_ones(tmp_path, monkeypatch):
    save(tmp_path / "c", 10)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match="No space left"):
        save(tmp_path / "c", 20)
    equal(restore(tmp_path / "c"), state_at(10))
    assert list((tmp_path / "c").iterdir()) == [file_of(tmp_path / "c", 10)]
