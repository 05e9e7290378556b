"""bridge.configure: one device for both frameworks, or a line that says what is wrong."""

import os
import subprocess
import sys

import jax
import pytest
import torch

from bridge import configure as module
from bridge.configure import configure, cuda_problem
from bridge.errors import BridgeError


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be on a machine with a GPU, JAX not started; returns monkeypatch for further pretence."""
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "_kept_on_cpu", lambda: False)
    monkeypatch.setattr(module, "_jax_started", lambda: False)
    monkeypatch.setattr(module, "jax_cuda_major", lambda: 13)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    for name in (*module._JAX_MEMORY, "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "")  # remembered, so that what configure sets is undone
        monkeypatch.delenv(name)
    return monkeypatch


def test_cpu():
    assert configure("cpu") == "cpu" and configure("auto") in ("cpu", "cuda")


def test_unknown_device():
    with pytest.raises(BridgeError, match="auto, cpu, cuda, got 'tpu'"):
        configure("tpu")


def test_cuda_shares_the_memory_out(machine):
    assert configure("cuda") == "cuda"
    assert os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert os.environ["PYTORCH_ALLOC_CONF"] == "expandable_segments:True"


def test_the_users_memory_plan_stays(machine):
    machine.setenv("XLA_CLIENT_MEM_FRACTION", "0.2")
    machine.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:128")
    configure("auto")
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ and "PYTORCH_ALLOC_CONF" not in os.environ


def test_two_memory_plans(machine):
    machine.setenv("XLA_CLIENT_MEM_FRACTION", "0.2")
    machine.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.3")
    with pytest.raises(BridgeError, match="unset the other"):
        configure("cuda")


@pytest.mark.parametrize(
    "version, variable", [("2.8.0", "PYTORCH_CUDA_ALLOC_CONF"), ("2.13.0+cu130", "PYTORCH_ALLOC_CONF")]
)
def test_the_allocators_variable_has_the_name_that_this_torch_reads(machine, version, variable):
    real = module.importlib.metadata.version
    machine.setattr(module.importlib.metadata, "version", lambda name: version if name == "torch" else real(name))
    configure("cuda")
    assert os.environ[variable] == "expandable_segments:True"


@pytest.mark.parametrize(("plugins", "major"), [(("jax-cuda12-plugin",), 12), (("jax-cuda13-plugin",), 13), ((), None)])
def test_the_cuda_major_of_jax_is_its_plugins(monkeypatch, plugins, major):
    def version(name):
        if name in plugins:
            return "0.10.2"
        raise module.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(module.importlib.metadata, "version", version)
    assert module.jax_cuda_major() == major


@pytest.mark.parametrize(
    ("target", "name", "value", "words"),
    [
        (torch.version, "cuda", None, "without CUDA"),
        (torch.cuda, "is_available", lambda: False, "finds no CUDA device"),
        (module, "jax_cuda_major", lambda: None, r"'\.\[cuda13\]'"),
        (module, "jax_cuda_major", lambda: 12, "torch uses CUDA 13.0 and JAX CUDA 12"),
        (module, "_kept_on_cpu", lambda: True, "JAX_PLATFORMS"),
        (module, "_jax_started", lambda: True, "already started"),
        (jax, "default_backend", lambda: "cpu", "started on cpu"),
    ],
)
def test_cuda_says_what_is_wrong(machine, target, name, value, words):
    machine.setattr(target, name, value)
    with pytest.raises(BridgeError, match=words):
        configure("cuda")


def test_auto_warns_when_a_gpu_goes_unused(machine):
    machine.setattr(module, "jax_cuda_major", lambda: 12)
    machine.setattr(module, "_jax_started", lambda: True)
    machine.setattr(jax, "default_backend", lambda: "cpu")
    with pytest.warns(UserWarning, match="CUDA 12"):
        assert configure("auto") == "cpu"


def test_cpu_after_jax_started_on_the_gpu(machine):
    machine.setattr(module, "_jax_started", lambda: True)
    with pytest.raises(BridgeError, match="already runs on gpu"):
        configure("cpu")


def test_nothing_is_wrong_here_without_a_reason():
    assert (cuda_problem() is None) == (torch.cuda.is_available() and jax.default_backend() == "gpu")


def test_a_fresh_process_starts_on_the_cpu():
    code = (
        "from bridge.configure import configure; import jax; assert configure('cpu') == jax.default_backend() == 'cpu'"
    )
    environment = {k: v for k, v in os.environ.items() if k != "JAX_PLATFORMS"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
