"""Presets: what they set, what wins over them, and the paper's flag files."""

import itertools
from pathlib import Path

import pytest
from absl import flags

from md_jax import presets
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.options.flags import define_flags, from_flagfile, from_flags, to_flagfile

ROOT = Path(__file__).parents[1]
SD = "--image_prior_path=sd"


def parse(*argv):
    values = flags.FlagValues()
    define_flags(values)
    values(["md_jax", *argv])
    return from_flags(values)


@pytest.fixture(autouse=True)
def no_nvdiffrast(monkeypatch):
    monkeypatch.setattr(presets, "nvdiffrast_installed", lambda: False)


def test_no_preset_is_no_change():
    assert parse() == parse("--preset=none") == Config()


def test_the_papers_code():
    config = parse("--preset=paper", "--prior=modelscope", SD)
    assert (config.bound, config.bound_sigma, config.rotation, config.posefield) == ("clamp", 3.0, "6d", "paper")
    assert (config.image_prior, config.image_frames, config.image_weighting) == ("sd21", 2, "sqrt_abar_sigma2")
    assert (config.guidance_scale, config.motion_amp, config.scale_arr) == (100.0, 1.0, True)
    assert (config.optimizer, config.learning_rate, config.steps, config.grad_clip) == ("adam_paper", 5e-4, 10_000, 0)
    assert (config.distillation_weight, config.reg_weight, config.image_weight) == (1e-3, 1e-3, 1e-3)
    assert "in the beach" in config.prompt and "{view} view" in config.prompt
    assert config.renderer == "auto"


def test_videocrafter2_has_quirks_of_its_own():
    config = parse("--preset=paper", "--prior=videocrafter2", SD)
    assert (config.guidance_scale, config.motion_amp, config.scale_arr) == (101.0, 2.0, False)
    assert config.image_guidance_scale == 100.0
    corrected = parse("--preset=corrected", "--prior=videocrafter2")
    assert (corrected.guidance_scale, corrected.motion_amp, corrected.scale_arr) == (100.0, 1.0, True)
    assert (corrected.bound, corrected.image_prior, corrected.prompt) == ("tanh", "none", Config().prompt)


def test_nvdiffrast_renders_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(presets, "nvdiffrast_installed", lambda: True)
    config = parse("--preset=paper", SD)
    assert (config.renderer, config.antialias) == ("nvdiffrast", "nvdiffrast")


def test_what_is_typed_wins_even_where_it_is_the_default(tmp_path):
    file = tmp_path / "mine.flags"
    file.write_text("--learning_rate=0.01\n")
    config = parse("--preset=paper", "--bound=tanh", "--image_prior=none", "--scale_arr", f"--flagfile={file}",
                   "--prior=videocrafter2")  # fmt: skip
    assert (config.bound, config.image_prior, config.learning_rate, config.scale_arr) == ("tanh", "none", 0.01, True)
    assert config.motion_amp == 2.0


def test_a_run_records_resolved_values(tmp_path):
    config = parse("--preset=paper", "--prior=videocrafter2", SD, "--steps=7")
    (tmp_path / "run.flags").write_text(to_flagfile(config))
    assert "--guidance_scale=101.0\n" in to_flagfile(config)
    assert from_flagfile(tmp_path / "run.flags") == config


def test_the_image_prior_of_the_paper_is_asked_for():
    with pytest.raises(UserError, match=r"--image_prior=sd21 does not ship.*--image_prior_path.*--image_prior=none"):
        parse("--preset=paper")


@pytest.mark.parametrize(
    ("prior", "action"),
    itertools.product(["modelscope", "zeroscope", "videocrafter2"], ["walking", "running", "punching", "cartwheel"]),
)
def test_paper_flag_files(prior, action, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = [f"--flagfile=configs/paper_{name}.flags" for name in (prior, action)]
    config = parse(*files, SD)
    assert (config.preset, config.prior, config.action, config.steps) == ("paper", prior, action, 10_000)
    assert config.prompt.startswith("a shot of {view} view of a man ") and action in config.prompt


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--image_prior_path=sd"], "--image_prior_path would do nothing"),
        (["--image_prior=sd15"], "give --image_prior_path"),
        (["--image_prior=sd15", SD, "--image_weight=0"], "--image_weight and --distillation_weight above 0"),
        (["--image_prior=sd15", SD, "--distillation_weight=0"], "--image_weight and --distillation_weight above 0"),
        (["--image_prior=sd15", SD, "--mode=latent"], "--mode=latent has none"),
        (["--tiny_vae=x", "--mode=latent"], "--tiny_vae would do nothing"),
    ],
)
def test_combinations_that_cannot_work(argv, message):
    with pytest.raises(UserError, match=message):
        parse(*argv)
