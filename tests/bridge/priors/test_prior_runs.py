"""Three steps of the whole program on each prior, small and at random, with its own flagfile."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.bridge.priors import single_files, tiny_transformers
from tests.bridge.priors import videocrafter_twin as twin
from tests.bridge.priors.test_text_to_video import made  # noqa: F401

ROOT = Path(__file__).parents[3]
SMALL = [
    "--steps=3",
    "--frames=3",
    "--height=32",
    "--width=32",
    "--nocontrol_run",
    "--preview_every=0",
    "--log_every=1",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "prior",
    [
        "modelscope",
        "zeroscope",
        "videocrafter1",
        "videocrafter2",
        "animatediff",
        "wan21",
        "wan22",
        "skyreels2",
        "cogvideox",
        "cogvideox15",
        "ltx",
    ],
)
def test_three_steps(prior, made, tmp_path):  # noqa: F811
    path = made
    if prior == "animatediff":
        from tests.bridge.priors.test_animatediff import motion_adapter

        path = f"{single_files.stable_diffusion(tmp_path, 1)[0]},{motion_adapter(tmp_path / 'motion')}"
    if prior.startswith("videocrafter"):
        path = tmp_path / "model.ckpt"
        torch.save({"state_dict": twin.checkpoint(int(prior[-1]), prior[-1] == "2")[1]}, path)
    if prior in tiny_transformers.MAKERS:
        path = tiny_transformers.transformer_folder(tmp_path / "folder", prior)
    flags = [f"--flagfile=configs/{prior}.flags", f"--prior_path={path}", f"--workdir={tmp_path / 'run'}", *SMALL]
    run = subprocess.run([sys.executable, "-m", "md_jax.main", *flags], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3 and not any("NaN" in line for line in lines)
    assert (tmp_path / "run" / "motion.npz").exists()
