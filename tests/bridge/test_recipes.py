"""bridge.recipes: light to import, complete, and the embedded prior's recipe lies with its weights."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import BridgeError
from bridge.priors import LOADERS, PriorSpec, load_prior
from bridge.recipes import BORROWED, IMAGE_PRIORS, PRIORS, camera_of, recipe_of

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "bridge" / "priors" / "embedded" / "assets"


def test_every_prior_has_a_recipe():
    assert set(PRIORS) | set(IMAGE_PRIORS) == set(LOADERS) - {"null", "random-modelscope"}  # of benchmarks
    assert set(BORROWED.values()) <= set(PRIORS)


def test_it_reads_without_any_framework():
    code = (
        "import sys; from bridge.recipes import recipe_of; recipe_of('embedded'); recipe_of('ltx', 'latent');"
        "sys.exit(bool({'torch', 'jax', 'numpy', 'diffusers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_embedded_recipe_is_its_folders():
    stated = json.loads((ASSETS / "prior.json").read_text())["recipe"]
    own, pose = recipe_of("embedded"), recipe_of("embedded", "pose")
    assert (own.mode, pose.mode) == (stated["mode"], "pose")
    assert own.guidance_scale == stated[own.mode]["guidance_scale"]
    assert pose.t_min == tuple(stated["pose"]["t_min"])
    assert recipe_of("embedded", "latent").guidance_scale == stated["latent"]["guidance_scale"]


def test_fit_mode_refines_gently():
    """Below the times that decide a motion, with less guidance and less smoothness than distillation from scratch."""
    pose, fit = recipe_of("embedded", "pose"), recipe_of("embedded", "fit")
    assert fit.t_max[0] < pose.t_max[0] and fit.guidance_scale < pose.guidance_scale
    assert fit.reg_weight < pose.reg_weight and fit.steps < pose.steps and fit.views == pose.views


def test_the_mode_is_the_priors_own(tmp_path):
    """Large priors, and folders that say nothing, move a body from its mean pose."""
    assert recipe_of("embedded").mode == "fit" and recipe_of("wan21").mode == "pose"

    def mode_of(name, **stated):
        (tmp_path / name).mkdir()
        return recipe_of("embedded", path=folder(tmp_path / name, {**stated, "pose": {"steps": 9}})).mode

    assert (mode_of("silent"), mode_of("latent", mode="latent")) == ("pose", "latent")
    with pytest.raises(BridgeError, match="states mode='dream'; expected one of pose, fit, latent"):
        mode_of("dream", mode="dream")


def folder(tmp_path, recipe):
    (tmp_path / "prior.json").write_text(json.dumps({"frames": 10} | ({"recipe": recipe} if recipe else {})))
    return str(tmp_path)


def test_a_folder_brings_its_own(tmp_path):
    path = folder(tmp_path, {"pose": {"guidance_scale": 12, "steps": 9}})
    assert (recipe_of("embedded", path=path).guidance_scale, recipe_of("embedded", path=path).steps) == (12.0, 9)
    assert recipe_of("embedded", "latent", path).guidance_scale == 12.0


def test_a_folder_without_a_recipe_runs_by_the_shipped_one(tmp_path):
    assert recipe_of("embedded", path=folder(tmp_path, None)) == recipe_of("embedded", "pose")


@pytest.mark.parametrize(
    "recipe",
    [
        {"latent": {}},
        {"pose": {"mode": "fit"}},
        {"pose": {"step": 9}},
        {"pose": {"steps": "many"}},
        {"pose": {"t_min": 0.1}},
        [1],
    ],
)
def test_a_damaged_recipe_is_named(tmp_path, recipe):
    with pytest.raises(BridgeError, match=r"prior\.json.*recipe"):
        recipe_of("embedded", path=folder(tmp_path, recipe))


@pytest.mark.parametrize(("name", "message"), [("sd21", "makes pictures"), ("sora", "the priors are embedded")])
def test_what_is_no_video_prior_is_refused(name, message):
    with pytest.raises(BridgeError, match=message):
        recipe_of(name)


def test_the_camera_is_known_before_the_prior_is_loaded(tmp_path):
    stated = json.loads((ASSETS / "prior.json").read_text())
    known, loaded = camera_of("embedded"), load_prior("embedded").spec
    for name in ("elevation", "fov", "distance", "height"):
        assert getattr(known, name) == pytest.approx(getattr(loaded, name)), name
    assert (known.width * known.cameras, known.cameras) == (loaded.width, len(loaded.cameras))
    assert known.distance == stated["distance"]
    assert (camera_of("wan21").height, camera_of("videocrafter1").width) == (480, None)
    assert camera_of("wan21").fov == PriorSpec.fov
    for wrong in ({"fov": "40"}, {"distance": 0}, {"elevation": [5]}, {"height": None}):
        (tmp_path / "prior.json").write_text(json.dumps({**stated, **wrong}))
        assert camera_of("embedded", str(tmp_path)) is None
