"""Whole runs, small: every objective's texts, an image prior and a tiny VAE beside the video prior."""

import dataclasses
import json

import numpy as np
import pytest
from rich.console import Console

from bridge.diagnose import peak_memory
from md_jax import main
from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.run import workdir
from md_jax.run.build import make_job
from tests.bridge.priors import tiny_priors

SMALL = {"prior": "modelscope", "frames": 4, "height": 16, "width": 16, "steps": 2, "views": 1, "supersample": 1,
         "log_every": 1, "checkpoint_every": 2, "preview_every": 0, "control_run": False}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("priors")
    return {
        "video": str(tiny_priors.video_folder(root / "video")),
        "pictures": str(tiny_priors.picture_folder(root / "pictures")),
        "tiny": str(tiny_priors.tiny_vae_folder(root / "tiny")),
        "packed": str(tiny_priors.packed_folder(root / "packed")),
    }


def run(config, target):
    config, target = workdir.open_run(dataclasses.replace(config, workdir=str(target)), set())
    main.run_job(config, target, Console(quiet=True))
    lines = [json.loads(line) for line in (target / "metrics.jsonl").read_text().splitlines()]
    return lines, json.loads((target / "summary.json").read_text())


@pytest.mark.slow
def test_an_image_prior_and_a_tiny_vae_beside_the_video_prior(folders, tmp_path):
    config = Config(
        prior_path=folders["video"], tiny_vae=folders["tiny"], encode_chunk=2, image_prior="sd15",
        image_prior_path=folders["pictures"], image_weight=0.5, distillation_weight=0.25, reg_weight=2.0, **SMALL,
    )  # fmt: skip
    before = peak_memory()["host"]
    lines, summary = run(config, tmp_path / "run")
    assert len(lines) == 2
    for line in lines:
        parts = 0.25 * line["loss_sds"][0] + 0.5 * line["loss_image"][0] + 2.0 * line["loss_reg"][0]
        assert line["loss"][0] == pytest.approx(parts, rel=1e-4)
        assert line["image_t"] != line["t"]
    assert before <= summary["peak_memory_mib"]["host"] <= peak_memory()["host"]
    again, same = run(config, tmp_path / "again")
    assert [line["loss"] for line in again] == [line["loss"] for line in lines]
    cosine = summary[
        "tiny_vae_gradient_cosine"
    ]  # two encoders of random weights agree little; test_tiny_vae.py checks it
    assert 0 < abs(cosine) < 0.9 and same["tiny_vae_gradient_cosine"] == cosine


@pytest.mark.parametrize("distillation", ["source", pytest.param("nfsd", marks=pytest.mark.slow)])
def test_objectives_of_three_texts_and_of_a_source(distillation, folders, tmp_path):
    small = SMALL | {"prior": "embedded", "frames": None, "control_run": True}
    lines, _ = run(Config(prior_path=folders["packed"], distillation=distillation, **small), tmp_path / "run")
    assert all(np.isfinite(line["loss"]).all() and line["guidance_rms"][0] > 0 for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_prior": "sd15", "image_prior_path": "pictures", "image_frames": 5}, "at most the clip's 4 frames"),
        ({"scale_arr": False}, "--noscale_arr is for VideoCrafter"),
    ],
)
def test_options_that_the_prior_decides(changes, message, folders):
    changes = {name: folders.get(value, value) if isinstance(value, str) else value for name, value in changes.items()}
    with pytest.raises(UserError, match=message):
        make_job(Config(prior_path=folders["video"], **SMALL, **changes))
