"""The step benchmarks: every arm runs and is taken apart, rounds are pooled, the cost model finds known costs."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import arms, chart, priors, startup, step_time, step_worker, synthetic, throughput
from benchmarks.step_worker import Task
from bridge.distill import objectives as distill
from bridge.distill.critic import distill_latents
from bridge.priors import PriorError, load_prior
from md_jax.body.model import load_body
from md_jax.options.flags import from_flagfile
from tests.pictures import assert_drawn

SMALL = (("frames", 3), ("height", 16), ("width", 16), ("views", 1), ("device", "cpu"))


# --- arms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arm", "case"),
    [
        ("jax staged", "kernel"),
        pytest.param("jax jit", "null", marks=pytest.mark.slow),
        ("torch smplx foreach", "kernel"),
        ("torch ours fused", "null"),
    ],
)
def test_an_arm_is_timed_and_taken_apart(arm, case):
    result = step_worker.measure(Task(arm, case, options=SMALL, warmup=1, steps=2, apart=1))
    assert len(result["times"]) == 2 and min(result["times"]) > 0
    assert result["first_step"] > 0 and result["memory"]["process"] >= 0
    assert (result["motions"], result["views"], result["frames"], result["vertices"]) == (
        1, 1, 3, 13492 if arm.startswith("torch") else 3006,  # torch draws the full mesh, as people write it
    )  # fmt: skip
    parts = result["parts"]
    assert set(parts) == set(step_time.PARTS) == set(arms.PARTS)
    assert (parts["render"] > 0) == (case == "null")
    if arm != "jax jit":
        assert parts["pose + LBS"] > 0 and parts["optimiser"] > 0


def test_the_full_step_tells_prior_and_bridge_apart():
    options = (("views", 1), ("device", "cpu"))
    parts = step_worker.measure(Task("jax staged", "full", options=options, warmup=1, steps=1, apart=1))["parts"]
    assert all(parts[name] > 0 for name in ("pose + LBS", "render", "encode", "UNet", "optimiser", "bridge"))
    assert parts["UNet"] > parts["bridge"]


def test_kernel_arms_descend_alike():
    """With the same given gradient the JAX arm and the torch arm move the vertices against it by the same loss."""
    given = dataclasses.replace(from_flagfile(step_worker.ROOT / "configs/run.flags"), **dict(SMALL))
    config = arms.config_of("jax staged", given)
    job = arms.make_setup("kernel", config)
    fields, weights = arms.torch_baseline.fields_from_jax(job.problem.fields, job.params)
    body = arms.torch_baseline.baked_body(job.problem.baked)
    step = arms.torch_baseline.make_step(job.config, fields, weights, body, job.op.critic)
    state = arms.train.init_state(job.config, job.params)
    jax_step = arms.train.make_step(job.config, job.problem, job.op)
    for _ in range(4):
        state, report = jax_step(state)
        terms = step(None)
        np.testing.assert_allclose(terms["loss_sds"].numpy(), report.terms["loss_sds"], rtol=1e-4, atol=1e-3)


def test_a_worker_reports_from_a_fresh_process_and_says_why_it_failed():
    good = step_worker.run(Task("torch ours foreach", "kernel", options=SMALL, warmup=1, steps=1, apart=0, threads=1))
    assert len(good["times"]) == 1 and good["parts"] == {}
    bad = step_worker.run(Task("torch ours foreach", "kernel", flagfile="no/such.flags"))
    assert "no/such.flags cannot be read: No such file" in bad["failed"]


# --- priors -----------------------------------------------------------------------------------------------------


def test_the_null_priors_residual_is_the_gradient_of_a_quadratic():
    prior = priors.NullPrior(priors.spec_of("embedded"), torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 4, 8, 8, generator=generator)
    noise, t = torch.randn(2, 3, 4, 8, 8, generator=generator), torch.tensor([0.3, 0.8])
    z = prior.encode(video)
    alpha, sigma = prior.alpha_sigma(t)
    texts = prior.embed(["a"] * 2).pair(torch.tensor([0, 1]))
    g, _ = distill_latents(prior, z, t, noise, texts, distill.Guidance(objective="sds", scale=1.0))
    expected = (sigma**2 * alpha / sigma)[:, None, None, None, None] * z  # w(t) α/σ (z − 0)
    torch.testing.assert_close(g, expected)
    torch.testing.assert_close(prior.encode_vjp(video, g), 2 * g)
    torch.testing.assert_close(prior.decode(z), video)


def test_random_modelscope_has_the_size_of_the_original():
    from diffusers import AutoencoderKL, UNet3DConditionModel

    with torch.device("meta"):
        unet, vae = UNet3DConditionModel(**priors.MODELSCOPE_UNET), AutoencoderKL(**priors.MODELSCOPE_VAE)
    count = sum(parameter.numel() for parameter in unet.parameters())
    assert 1.40e9 < count < 1.42e9
    assert 83e6 < sum(parameter.numel() for parameter in vae.parameters()) < 84e6


def test_random_modelscope_runs_like_a_prior_small_on_a_cpu_and_whole_on_a_gpu_alone():
    small = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    unet = {
        **small, "cross_attention_dim": 8, "attention_head_dim": 4, "layers_per_block": 1, "sample_size": 4,
        "down_block_types": ("CrossAttnDownBlock3D", "DownBlock3D"),
        "up_block_types": ("UpBlock3D", "CrossAttnUpBlock3D"),
    }  # fmt: skip
    vae = {**small, "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    prior = priors.random_modelscope(torch.device("cpu"), torch.float32, unet, vae)
    texts = prior.embed(["a", "b"], "").pair(torch.tensor([0]))
    z = prior.encode(torch.rand(1, 3, 2, 8, 8))
    raw = prior.predict(z, torch.tensor([0.5]), texts)
    assert [tuple(x.shape) for x in raw] == [tuple(z.shape)] * 2
    assert not torch.equal(raw[0], raw[1])
    priors.register()
    with pytest.raises(PriorError, match="on a GPU alone"):
        load_prior(priors.RANDOM_MODELSCOPE)


# --- tables and charts ------------------------------------------------------------------------------------------


def outcome(times, **parts):
    return {
        "times": times, "first_step": 2.0, "memory": {"process": 2**20 * len(times)}, "device": "cpu", "motions": 1,
        "views": 3, "frames": 10, "vertices": 13492, "parts": {**dict.fromkeys(step_time.PARTS, 0.0), **parts},
    }  # fmt: skip


def test_rounds_are_pooled_and_headlines_told(tmp_path):
    seconds = {"torch smplx foreach": 0.08, "torch ours foreach": 0.01, "jax staged": 0.005}
    asked = []

    def run_task(task):
        asked.append((task.case, task.arm))
        if task.arm == "jax jit":
            return {"failed": "no such thing"}
        base = seconds[task.arm] + 0.001 * (len(asked) > 8)
        return outcome(list(np.linspace(base, 2 * base, 11)), bridge=1e-5)

    pairs = [(case, arm) for case in ("kernel", "full") for arm in [*seconds, "jax jit"]]
    results = step_time.measure(pairs, lambda case, arm: Task(arm, case), 2, run_task)
    assert asked[:8] == pairs and ("full", "jax jit") not in asked[8:]  # in turns; what failed is not tried again
    row = results["kernel"]["jax staged"]
    pooled = np.concatenate([np.linspace(0.005, 0.01, 11), np.linspace(0.006, 0.012, 11)])
    assert row["count"] == 22 and row["median"] == pytest.approx(np.median(pooled))
    assert (row["p10"], row["p90"]) == pytest.approx(tuple(np.percentile(pooled, (10, 90))))
    text = step_time.report(results)
    ratio = results["kernel"]["torch smplx foreach"]["median"] / row["median"]
    assert f"jax staged is {ratio:.2f}× as fast as torch smplx foreach (asked: ≥ 4×; reached)" in text
    full = results["full"]
    ratio = full["torch ours foreach"]["median"] / full["jax staged"]["median"]  # the faster of the torch arms
    assert f"full step: jax staged is {ratio:.2f}× as fast as torch ours foreach (asked: ≥ 1×; reached)" in text
    assert "jax jit failed: no such thing" in text
    assert "% of the full step (asked: < 2 %; reached)" in text
    step_time.draw(tmp_path / "chart.png", results, "words")
    assert Image.open(tmp_path / "chart.png").width == chart.WIDTH


def test_ctrl_c_keeps_what_was_measured():
    def run_task(task):
        if task.arm == "jax jit":
            raise KeyboardInterrupt
        return outcome([0.1, 0.2])

    results = step_time.measure([("full", "jax staged"), ("full", "jax jit")], lambda c, a: Task(a, c), 2, run_task)
    assert list(results["full"]) == ["jax staged"] and results["full"]["jax staged"]["count"] == 2
    assert "jax staged" in step_time.report(results)


def test_a_worker_has_the_cores_that_it_is_given_whatever_the_callers_setting(monkeypatch):
    seen = {}

    def run(command, env, **rest):
        seen.update(env)
        return type("Done", (), {"stdout": "", "stderr": "no", "returncode": 1})

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(step_worker.subprocess, "run", run)
    for threads, expected in ((0, step_worker.cores()), (3, 3)):
        assert step_worker.run(Task("jax staged", "full", threads=threads)) == {"failed": "no"}
        assert seen["OMP_NUM_THREADS"] == seen["MKL_NUM_THREADS"] == str(expected)


def test_bars_have_lengths_in_proportion(tmp_path):
    panel = chart.Panel("title", [chart.Bar("a", 1.0, strong=True), chart.Bar("b", 2.0, 1.5, 2.5, strong=True)])
    chart.bars(tmp_path / "bars.png", [panel])
    pixels = np.asarray(Image.open(tmp_path / "bars.png").convert("RGB")).astype(int)
    strong = np.abs(pixels - (0xD9, 0x71, 0x3C)).sum(axis=2) == 0
    lengths = sorted({int(n) for n in strong.sum(axis=1) if n > 50})
    assert lengths[-1] == pytest.approx(2 * lengths[0], abs=4)


# --- throughput and start-up ------------------------------------------------------------------------------------


def test_the_cost_model_finds_known_costs():
    true = {"fixed": 2e-3, "skinning": 3e-9, "mesh": 5e-9, "pixels": 2e-8, "prior": 0.03}
    base = throughput.Size(1, 3, 10, 13492, 32, 32, 2, prior=False)
    changes = [{"motions": m, "prior": True} for m in throughput.MOTIONS]
    changes += [{"frames": 20}, {"frames": 5}, {"views": 1}, {"views": 6}, {"height": 64, "width": 64}]
    changes += [{"vertices": 4000}, {"motions": 4}, {}]
    sizes = [dataclasses.replace(base, **change) for change in changes]
    points = [(size, throughput.predict(true, size)) for size in sizes]
    model, errors = throughput.fit(points)
    assert max(map(abs, errors)) < 1e-6
    assert model == pytest.approx(true, rel=1e-3)
    full = points[: len(throughput.MOTIONS)]
    assert throughput.motions_an_hour(full[1][0], 0.9, 400) == pytest.approx(20.0)  # 2 motions in 360 s
    assert "motions an hour (400 steps)" in throughput.report(full, 400, model, errors)


def test_a_point_that_fails_is_left_out_and_told_at_the_end(tmp_path, monkeypatch, capsys):
    def run_task(task):
        options = dict(task.options)
        if options.get("num_motions") == 16:
            return {"failed": "out of memory"}
        size = {"motions": 1, "views": 3, "frames": 10} | {
            name: options[option]
            for name, option in (("motions", "num_motions"), ("views", "views"), ("frames", "frames"))
            if option in options
        }
        clips = size["motions"] * size["views"]
        seconds = 0.01 + 0.02 * clips * (task.case == "full") + 1e-8 * clips * size["frames"] * 13492
        return {"times": [seconds] * 3, "vertices": 13492, **size}

    monkeypatch.setattr(throughput, "run", run_task)
    monkeypatch.setattr(throughput.synthetic, "coarser_free_body", lambda cell: None)
    monkeypatch.setattr(throughput.synthetic, "write", lambda path, body: path)
    figures, picture = tmp_path / "t.json", tmp_path / "t.png"
    monkeypatch.setattr(sys, "argv", ["throughput", f"--json={figures}", f"--chart={picture}"])
    with pytest.raises(SystemExit, match="full step, num_motions 16 failed: out of memory"):
        throughput.main()
    points = json.loads(figures.read_text())["points"]
    assert [p["motions"] for p in points if p["prior"]] == [1, 2, 4, 8]
    assert max(abs(point["model_error"]) for point in points) < 1e-3
    assert_drawn(picture)
    assert "motions an hour" in capsys.readouterr().out


def test_a_coarser_body_is_a_body_of_the_same_extent(tmp_path):
    free = load_body("free")
    coarse = load_body(synthetic.write(tmp_path / "coarse.npz", synthetic.coarser_free_body(0.03)))
    assert 0.1 < len(coarse.v_template) / len(free.v_template) < 0.5
    for end in (np.min, np.max):
        np.testing.assert_allclose(end(coarse.v_template, axis=0), end(free.v_template, axis=0), atol=0.03)
    corners = np.sort(coarse.triangles, axis=1)
    assert (np.diff(corners, axis=1) > 0).all() and len(np.unique(corners, axis=0)) == len(corners)
    joints = [np.asarray(body.J_regressor @ body.v_template) for body in (coarse, free)]
    np.testing.assert_allclose(*joints, atol=0.03)


def test_start_up_is_timed_to_the_lines_that_tell_it():
    code = "import time; print('  machine  x'); time.sleep(0.3); print('motion step 1'); time.sleep(60)"
    loaded, stepped = startup.time_until([sys.executable, "-c", code], ("machine", "motion"), {})
    assert 0.25 < stepped - loaded < 10
    with pytest.raises(SystemExit, match="no line 'motion'"):
        startup.time_until([sys.executable, "-c", "print('machine')"], ("machine", "motion"), {})
    assert startup.time_whole([sys.executable, "-c", "import time; time.sleep(0.2)"]) > 0.2
    with pytest.raises(SystemExit, match="ended with 3"):
        startup.time_whole([sys.executable, "-c", "raise SystemExit(3)"])
    with pytest.raises(SystemExit, match="ended with 0"):
        startup.time_whole([sys.executable, "-c", "print('no')"], says="--prompt")
