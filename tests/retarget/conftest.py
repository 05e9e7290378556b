"""The motion that is put on characters, made once."""

import numpy as np
import pytest

from md_jax.ground.floor import on_floor
from md_jax.mocap.motion import Motion
from tests.retarget.characters import the_body


@pytest.fixture(scope="session")
def body():
    return the_body()


@pytest.fixture(scope="session")
def motion(body):
    """Everything turns, fingers too; the body turns over and travels."""
    rng, t = np.random.default_rng(5), np.linspace(0, 2 * np.pi, 9)[:, None, None]
    swing = 0.5 * np.sin(t + rng.uniform(0, 6, (54, 1))) * rng.normal(0, 1, (54, 3))
    path = np.concatenate([0.4 * t[:, 0], 0.2 * np.sin(t[:, 0]) ** 2, 0.3 * t[:, 0]], axis=1)
    clip = Motion(swing[:, :21], 1.5 * np.sin(t[:, 0]) * [0.3, 1.0, 0.5], path, 30.0, swing[:, 21:], prompt="it moves")
    return on_floor(clip, body).motion
