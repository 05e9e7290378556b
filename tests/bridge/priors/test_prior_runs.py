"""Three steps of the whole program on each prior, small and at random, with its own flagfile."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.bridge.priors import tiny_transformers
from tests.bridge.priors import videocrafter_twin as twin
from tests.bridge.priors.test_animatediff import folders  # noqa: F401
from tests.bridge.priors.test_stable_diffusion import pictures  # noqa: F401
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


PRIORS = (
    "modelscope", "zeroscope", "videocrafter1", "videocrafter2", "animatediff", "wan21", "wan22", "skyreels2",
    "cogvideox", "cogvideox15", "ltx",
)  # fmt: skip


@pytest.fixture(scope="module")
def path_of(made, folders, tmp_path_factory):  # noqa: F811
    """The --prior_path of a prior: small and random, in its published layout."""
    root = tmp_path_factory.mktemp("priors")

    def make(prior):
        if prior == "animatediff":
            return ",".join(map(str, folders))
        if prior.startswith("videocrafter"):
            torch.save({"state_dict": twin.checkpoint(int(prior[-1]), prior[-1] == "2")[1]}, root / f"{prior}.ckpt")
            return root / f"{prior}.ckpt"
        if prior in tiny_transformers.MAKERS:
            folder = root / prior
            return folder if folder.exists() else tiny_transformers.transformer_folder(folder, prior)
        return made

    return make


@pytest.mark.slow
@pytest.mark.parametrize("prior", PRIORS)
def test_three_steps(prior, path_of, tmp_path):
    flags = [f"--flagfile=configs/{prior}.flags", f"--prior_path={path_of(prior)}"]
    flags += [f"--workdir={tmp_path / 'run'}", *SMALL]
    run = subprocess.run([sys.executable, "-m", "md_jax.main", *flags], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3 and not any("NaN" in line for line in lines)
    assert (tmp_path / "run" / "motion.npz").exists()
