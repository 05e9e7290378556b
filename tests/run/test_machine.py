"""The flags about the machine reach the step, and change its numbers by rounding alone."""

import jax
import numpy as np
import pytest

from bridge.errors import BridgeError
from md_jax.config import Config
from md_jax.run.machine import amounts
from tests.bridge.priors import tiny_priors


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_priors.packed_folder(tmp_path_factory.mktemp("prior")))


def make(folder, **flags):
    from md_jax.run.build import make_job

    plain = {"prior_path": folder, "steps": 2, "views": 2, "device": "cpu", "supersample": 1}
    return make_job(Config(**{**plain, **flags}))


def test_amounts():
    assert amounts(Config()) == (16, 0)
    assert amounts(Config(low_vram=True)) == (1, 1)
    assert amounts(Config(low_vram=True, encode_chunk=4)) == (1, 4)


def test_low_vram_takes_the_same_step(folder):
    from md_jax.fit.train import init_state, make_step

    losses = []
    for flags in ({}, {"low_vram": True, "oom": "retry"}):
        job = make(folder, **flags)
        state = jax.device_put(init_state(job.config, job.params), jax.devices()[0])
        _, report = make_step(job.config, job.problem, job.op)(state)
        losses.append(np.asarray(report.terms["loss_sds"]))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


@pytest.mark.parametrize("flags", [{"renderer": "nvdiffrast"}, {"antialias": "nvdiffrast"}])
def test_what_the_machine_lacks_is_said_before_anything_is_computed(folder, flags):
    with pytest.raises(BridgeError, match="GPUs alone"):
        make(folder, **flags)
