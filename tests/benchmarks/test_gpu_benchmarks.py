"""The benchmarks for GPUs, as far as a CPU goes: their arithmetic, their reports, and that they say what they lack."""

import json
import os
import sys
import time

import pytest
import torch

from benchmarks import gpu_check, gpu_step, memory, memory_transformers, precision
from bridge.configure import cuda_problem
from tests.bridge.priors import tiny_transformers

TINY_UNET = precision.SIZES["tiny"][0]
TINY_VAE = {
    "block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
TINY = gpu_step.Case(4, 32, 32, 1.0, 1.0)


# --- precision


def test_half_precision_rounds_less_than_bfloat16():
    errors = {row["arm"]: row["error"] for row in precision.measure("tiny", "cpu", draws=1)}
    assert errors["float32 (again)"] == 0
    assert 0 < errors["float16, combined in float32"] < 0.5 * errors["bfloat16, combined in float32"]
    assert errors["float16, combined in float32"] <= 1.1 * errors["float16 throughout"]
    assert "bfloat16" in precision.report(precision.measure("tiny", "cpu", draws=1))


def test_float16_convolutions_round_as_torchs_own_do(monkeypatch):
    """Those that add up in float32 against the CPU's own, which are right and slow: errors of one size."""
    ours = precision.measure("tiny", "cpu", draws=2)[0]["error"]
    monkeypatch.setattr(precision, "convolve_as_tensor_cores", lambda unet: None)
    own = precision.measure("tiny", "cpu", draws=2)[0]["error"]
    assert ours != own and ours == pytest.approx(own, rel=0.2)


# --- memory


def test_bytes_that_are_born_and_die_are_counted():
    x = torch.empty(1000, device="meta")
    with memory.counted(x) as counter:
        y = x + 1
        z = y.reshape(10, 100)  # no memory of its own
        del y, z
        (x * 2).sum()
        x.view(10, 100)
    assert counter.peak == 4000 + 4 and counter.live == 0


def test_what_a_gradient_keeps_is_counted():
    layer = torch.nn.Linear(8, 8, bias=False, device="meta").requires_grad_(False)
    x = torch.empty(100, 8, device="meta", requires_grad=True)
    with memory.counted(layer, x) as counter:
        y = torch.exp(layer(x))  # keeps its result
        y = y * 2
    assert counter.live == 2 * 100 * 8 * 4 and y.requires_grad


def test_the_estimate_follows_the_plan():
    unet, vae = memory.networks(TINY_UNET, TINY_VAE)
    plans = {name: memory.estimate(unet, vae, TINY, plan) for name, plan in memory.PLANS.items()}
    default, low = plans["default"], plans["--low_vram"]
    assert default["weights"] == 2 * sum(p.numel() for n in (unet, vae) for p in n.parameters())
    assert low["denoise"] < 0.6 * default["denoise"]  # one text of two
    assert low["encode"] < 0.5 * default["encode"]
    longer = memory.estimate(unet, vae, TINY._replace(frames=8), memory.PLANS["default"])
    assert longer["encode"] == pytest.approx(2 * default["encode"], rel=0.05)
    text = memory.report(memory.measure({"ModelScope, tiny": TINY}, unet, vae))
    assert "ModelScope, tiny, --low_vram" in text


FIRST, *OTHERS = memory_transformers.MODELS


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_memory_of_the_video_transformers(name, monkeypatch):
    """Small networks: recomputed parts take less than plain autograd, and what is kept grows with the chunks."""
    nets = tiny_transformers.MAKERS[name]()
    for network, dtype in zip(nets, (torch.float16, memory_transformers.MODELS[name].vae_dtype), strict=True):
        torch.nn.Module.to(network, "meta", dtype).requires_grad_(False).eval()
    model = memory_transformers.MODELS[name]._replace(clips=((17, 64, 64), (49, 64, 64)))
    monkeypatch.setattr(memory_transformers, "networks", lambda _: nets)
    short, long = memory_transformers.measure({name: model})
    assert short["weights"] == sum(p.numel() * p.element_size() for n in nets for p in n.parameters())
    for row in (short, long):
        assert 0 <= row["kept"] < row["encode"] <= row["plain"] and row["denoise"] > 0
    assert long["plain"] > 2.5 * short["plain"] and long["kept"] > 2 * short["kept"]
    assert name == "ltx" or long["encode"] < 0.8 * long["plain"]  # so small an encoder is mostly its first block
    assert "17 x 64x64" in memory_transformers.report([short, long])


@pytest.mark.slow
def test_low_vram_fits_the_cards_that_were_asked_for():
    rows = memory.measure(gpu_step.CASES, *memory.networks())
    lines = memory.verdicts(rows)
    assert len(lines) == 3 and all(" fits " in line for line in lines)


# --- the step beside its floor


def test_the_floor_and_what_is_over_it():
    asked = []

    def worker(task):
        asked.append(task)
        if task.arm == "torch ours fused":
            return {"failed": "out of memory"}
        parts = {"render": 0.01, "encode": 0.04, "UNet": 0.04, "pose + LBS": 0.005, "optimiser": 0.005}
        return {"times": [0.03, 0.04, 0.05], "parts": parts, "memory": {"torch": 2**30}, "first_step": 9.0}

    name = "ModelScope 256x256, 10 frames"
    rows = gpu_step.measure([name], ["staged", "peer: torch alone, CUDA graphs"], 580.0, 50, worker=worker)
    assert rows[0]["floor"] == pytest.approx(0.02) and rows[0]["over_floor"] == pytest.approx(2.0)
    assert rows[0]["render_share"] == pytest.approx(0.1)
    assert dict(asked[0].options)["frames"] == 10 and dict(asked[1].options)["compile"] == "graphs"
    text = gpu_step.report(rows)
    assert "floor 20.0 ms" in text and "out of memory" in text and "2.00" in text
    assert gpu_step.verdicts(rows) == [
        f"{name}: 2.00 times the floor by staged (asked: 3, goal 2); renderer 10 % (asked: 10 %)"
    ]


def test_every_way_names_an_arm_and_flags_that_exist():
    import dataclasses

    from benchmarks.arms import ARMS
    from md_jax.config import Config

    fields = {field.name for field in dataclasses.fields(Config)}
    for way in gpu_step.WAYS.values():
        assert way.arm in ARMS and {name for name, _ in way.options} <= fields


# --- everything at once


@pytest.mark.skipif(cuda_problem() is None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line(capsys):
    assert gpu_check.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("gpu-check needs a GPU") and captured.err.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        sys.argv = ["gpu_step"]
        gpu_step.main()
    assert str(stop.value.code).startswith("benchmarks.gpu_step needs a GPU: ")  # Python prints it, and exits with 1


def test_one_report_of_all_parts(monkeypatch, tmp_path, capsys):
    parts = (
        gpu_check.Part("Fine", ("this", "--help"), 1),
        gpu_check.Part("Broken", ("no_such_module_here",), 1),
        gpu_check.Part("Slow", ("timeit", "-n1", "-r1", "import time; time.sleep(60)"), 0.02),
    )
    monkeypatch.setattr(gpu_check, "PARTS", parts)
    monkeypatch.setattr(gpu_check, "cuda_problem", lambda: None)
    assert gpu_check.main(["--out", str(tmp_path)]) == 1
    (markdown,) = tmp_path.glob("*-gpu-check.md")
    text = markdown.read_text()
    assert "| Fine" in text and "FAILED, exit code 1" in text and "given up" in text and "Zen of Python" in text
    results = json.loads(markdown.with_suffix(".json").read_text())
    assert [part["code"] for part in results["parts"]] == [0, 1, None]


def test_what_a_part_started_ends_with_it(tmp_path):
    """A grandchild that would hold the GPU (and its parent's output) is gone once the part is given up."""
    note = tmp_path / "pid"
    child = f"import os, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    code = f"import subprocess, sys; print('began', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    begun = time.monotonic()
    assert gpu_check.run_group([sys.executable, "-c", code], dict(os.environ), 5) == (None, "began\n")
    assert time.monotonic() - begun < 60
    with pytest.raises(ProcessLookupError):
        for _ in range(100):  # it may still have to be reaped
            os.kill(int(note.read_text()), 0)
            time.sleep(0.1)


def test_outcome_of_tests_is_told():
    output = "....\n3 failed, 20 passed, 2 skipped in 5.00s\n"
    assert gpu_check._outcome({"code": 1, "output": output}) == "FAILED, exit code 1 (3 failed, 20 passed, 2 skipped)"
