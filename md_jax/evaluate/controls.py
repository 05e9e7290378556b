"""Rows that every table stands beside: real motion, the mean pose held still, random motion, the previous release."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.evaluate import judges, likeness
from md_jax.evaluate.reference import Root, joint_windows
from md_jax.evaluate.scores import RATIOS, Entry, compare, score, summarise, wilson
from md_jax.evaluate.yardstick import Norm, Yardstick
from md_jax.fit.posefield import apply_fields, init_fields, octaves
from md_jax.mocap.motion import read_npz
from md_jax.mocap.statistics import known_actions, load_statistics

SEEDS = 5
FREQUENCIES = 3  # octaves of the PoseField's time features, as in configs/run.flags


def still(action: str, expected: str, frames: int) -> Entry:
    """The mean pose of an action ("generic": of all actions pooled), held still."""
    pose = load_statistics(action).body_mean
    return Entry(f"mean pose of {action}", joint_windows(np.repeat(pose[None, None], frames, axis=1)), expected)


def random_in_range(action: str, expected: str, seeds: Sequence[int], frames: int) -> list[Entry]:
    """PoseFields of an action's mean and ±3σ whose weights are all random, the head's too: any motion in the range.

    (The field of a run starts with a zero head, at the mean pose exactly: the control `still`.) The head is scaled so
    that the raw values, which the field then bounds by tanh, have a standard deviation of 1 over time and parameters.
    """
    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    statistics = [load_statistics(action)] * len(seeds)
    fields, params = init_fields(statistics, keys, frames=frames, frequencies=octaves(FREQUENCIES))
    heads = jnp.stack([jax.random.normal(jax.random.fold_in(key, 1), params["head"]["kernel"].shape[1:]) for key in keys])
    poses = []
    for _ in range(2):  # the first pass finds the raw values' size, the second has it at 1
        params["head"]["kernel"] = heads
        poses = np.asarray(apply_fields(fields, params))
        mean = np.stack([s.body_mean for s in statistics])[:, None]
        limit = 3 * np.stack([s.body_std for s in statistics])[:, None]
        raw = np.arctanh(np.clip((poses - mean) / limit, -0.999999, 0.999999))
        heads = heads / raw.std(axis=(1, 2, 3))[:, None, None]
    windows = joint_windows(poses)
    return [Entry(f"random, seed {seed}", windows[i : i + 1], expected) for i, seed in enumerate(seeds)]
