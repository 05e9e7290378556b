"""The same command gives the same files, byte for byte, in both modes; and a picture without a body is refused."""

import hashlib
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from bridge.errors import BridgeError
from md_jax import main
from md_jax.body.model import load_body
from md_jax.config import Config
from md_jax.run import torch_side, workdir
from tests.bridge.priors import tiny_priors

SHORT = {"steps": 3, "views": 2, "log_every": 1, "checkpoint_every": 2, "preview_every": 2, "learning_rate": 0.05}
# What may differ: seconds, and the most memory that the process has used so far.
CLOCKS = {"metrics.jsonl": ("step_seconds", "parts_seconds"), "summary.json": ("peak_memory_mib",)}
MADE = {
    "pose": {"motion.npz", "motion.mp4", "motion.glb", "motion.bvh", "sheet.png", "summary.json"},
    "latent": {"latents.npz", "video.mp4", "sheet.png", "summary.json"},
}


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a run, without the clocks."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        data = path.read_bytes()
        if path.name in CLOCKS:
            lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
            values = [json.loads(line) for line in lines]
            for value in values:
                for key in CLOCKS[path.name]:
                    del value[key]
            data = json.dumps(values).encode()
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


@pytest.mark.parametrize("mode", MADE)
def test_the_same_command_gives_the_same_files(mode, tmp_path, monkeypatch):
    prior = str(tiny_priors.packed_folder(tmp_path / "prior"))
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        config, folder = workdir.open_run(Config(mode=mode, prior_path=prior, workdir="run", **SHORT), set())
        main.run_job(config, folder, Console(quiet=True))
        found.append(digests(folder))
    names = set(found[0])
    assert MADE[mode] | {"run.flags", "inputs.json", "environment.json", "metrics.jsonl"} <= names
    assert {"previews/step-00002.png", "control/metrics.jsonl", "checkpoints/step-00000003.safetensors"} <= names
    assert found[0] == found[1]


def test_a_first_picture_without_the_body_is_refused_in_latent_mode(tmp_path):
    config = Config(mode="latent", prior_path=str(tiny_priors.packed_folder(tmp_path / "prior")), **SHORT)
    body = load_body("free")
    built, _ = torch_side.build(config, torch_side.start("cpu"), [config.prompt], body)
    vertices = jnp.broadcast_to(jnp.asarray(body.v_template), (1, built.frames, *body.v_template.shape))
    angle = jnp.zeros(1)
    assert np.isfinite(built.first_latents(vertices, angle, angle)).all()
    with pytest.raises(BridgeError, match="the body is not in the first picture"):
        built.first_latents(vertices + 100.0, angle, angle)
