"""What can be known of a GPU without one: its kernels compile, the step is lowered for it, nothing waits or travels."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest
import torch.utils.backend_registration
import warp as wp

from bridge.critic import FunctionCritic
from bridge.op import torch_loss
from bridge.render.kernels import adopt as render_adopt
from bridge.render.kernels import blend as render_blend
from bridge.render.kernels import edges as render_edges
from bridge.render.kernels import shading as render_shading
from bridge.render.kernels import visibility as render_visibility
from md_jax.fit import problems, train
from tests.fit.test_train import CONFIG, problem  # noqa: F401

ROOT = Path(__file__).parents[2]
KERNELS = (render_adopt, render_blend, render_edges, render_shading, render_visibility)


@pytest.mark.parametrize("module", KERNELS, ids=lambda module: module.__name__)
def test_the_kernels_compile_for_cuda(module, tmp_path):
    """By NVRTC, which Warp brings along, for cards from Ampere to Blackwell's architecture."""
    if not wp.get_cuda_supported_archs():
        pytest.skip("this Warp has no CUDA compiler")
    names = [name for name, value in vars(module).items() if isinstance(value, wp.Kernel)]
    for arch in (80, 90, 100):
        (path,) = wp.compile_aot_module(module, arch=arch, module_dir=tmp_path, use_ptx=True)
        entries = re.findall(r"\.entry (\w+)\(", Path(path).read_text())
        own = [name for name in names if vars(module)[name].module.name == module.__name__]
        assert own and all(any(entry.startswith(name) for entry in entries) for name in own)


@pytest.mark.parametrize("transport", ["staged", "jit"])
def test_the_step_is_lowered_for_cuda_without_the_host(problem, transport):  # noqa: F811
    """Of calls that leave XLA there is one to torch, by buffers on the device, and none by the host."""

    def judge(verts, draws, grad_out):
        raise AssertionError("nothing runs when a step is lowered")

    config = dataclasses.replace(CONFIG, transport="jit")
    state = train.init_state(config, problem.params)
    step = train.make_step(config, problem.fixed, torch_loss(FunctionCritic(judge, ("t",)), "jit"))
    if transport == "staged":  # what surrounds the torch call there: the fields, the body and the draws
        step = lambda s: (problems.posed_vertices(problem.fixed.fields, s.params, problem.fixed.baked),  # noqa: E731
                          train.draws_at(config, problem.fixed, 2, s.step, problem.fixed.key))  # fmt: skip
    text = jax.jit(step).trace(state).lower(lowering_platforms=("cuda",)).as_text()
    calls = [call for call in re.findall(r"custom_call @(\w+)", text) if "callback" in call]
    assert calls == (["xla_buffer_python_gpu_callback"] if transport == "jit" else [])


FIRST = ("embedded", "modelscope", "wan21", "image term", "csd, everything else")  # of each kind one


def pretend(*cases):
    """What `tests.bridge.pretend_device` finds in these cases; none named: in all."""
    if not hasattr(torch.utils.backend_registration, "_setup_privateuseone_for_python_backend"):
        pytest.skip("this torch cannot register a device from Python")
    run = subprocess.run(
        [sys.executable, "-m", "tests.bridge.pretend_device", *cases], cwd=ROOT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return json.loads(run.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def pretended():
    return pretend(*FIRST)


def assert_nothing_waits(steps):
    """On torch's fake tensors: one device throughout, no value read back, and what is sent is sent once."""
    once = "_on_device"  # the camera's target and the background's colour, kept from then on
    assert {name: set(found) - {once} for name, found in steps.items() if set(found) - {once}} == {}


def test_a_step_waits_for_nothing_and_moves_nothing(pretended):
    assert set(pretended["steps"]) == set(FIRST)
    assert_nothing_waits(pretended["steps"])


@pytest.mark.slow
def test_a_step_of_every_prior_waits_for_nothing_and_moves_nothing():
    steps = pretend()["steps"]
    assert len(steps) == 14
    assert_nothing_waits(steps)


def test_what_should_not_be_in_a_step_would_be_found(pretended):
    found = pretended["spoils"]
    assert found["a value"] == ["DataDependentOutputException"] and found["a mask"] == ["DynamicOutputShapeException"]
    assert found["a stranger"] and found["a copy"] == found["a constant"] == ["<lambda>"]
