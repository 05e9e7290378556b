"""md_jax.doctor: every check says OK or what to do, and the exit code says whether the main job can run."""

import importlib.metadata
import json
import sys

import pytest

from md_jax import doctor

NAMES = [name for name, _, _ in doctor.LOOKS]


def options(**changes):
    return doctor.Options(**{"device": "cpu", **changes})


def only(name, **changes):
    """The one check `name`."""
    return doctor.examine(options(**changes), [look for look in doctor.LOOKS if look[0] == name])[0]


def test_this_machine_can_run_the_main_job(capsys):
    code = doctor.main(["--json", "--device=cpu"])
    answer = json.loads(capsys.readouterr().out)
    wrong = [check for check in answer["checks"] if check["needed"] and not check["ok"]]
    assert not wrong and code == 0 and answer["ok"]
    assert [check["name"] for check in answer["checks"]] == NAMES
    assert all(check["ok"] or check["advice"] for check in answer["checks"])


def test_the_report_for_people():
    checks = [
        doctor.Check("torch", True, True, "2.13"),
        doctor.Check("nvdiffrast", False, False, "not used", "install it"),
    ]
    text = doctor.report(checks)
    assert "OK       torch       2.13" in text and "advice   nvdiffrast" in text and "install it" in text
    assert text.endswith("The main job can run here.")
    broken = doctor.report([*checks, doctor.Check("body", False, True, "gone", "look for it")])
    assert "PROBLEM  body" in broken and broken.endswith("cannot run here: body.")


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("body", {"body": "/nowhere/SMPLX_NEUTRAL.npz"}, "--body"),
        ("prior", {"prior_path": "/nowhere/prior"}, "--prior_path"),
        ("prior", {"prior": "modelscope"}, "--prior_path"),
        ("prior", {"prior": "sora"}, "the priors are embedded"),
        ("device", {"device": "cuda"}, "CUDA cannot be used"),
        ("seam", {}, "device right first"),
    ],
)
def test_what_is_missing_gets_advice(name, changes, words):
    if name == "device":
        from bridge.configure import cuda_problem

        if cuda_problem() is None:
            pytest.skip("there is a GPU here")
    check = only(name, **changes)
    assert not check.ok and check.needed and words in check.advice


@pytest.fixture
def folder(tmp_path):
    from tests.bridge.priors import tiny_priors

    return tiny_priors.packed_folder(tmp_path)


def test_a_whole_folder_is_fine_by_its_headers_and_by_loading(folder, tmp_path):
    assert only("prior", prior="embedded", prior_path=str(folder)).found == f"embedded: {folder}"
    from tests.bridge.priors import tiny_priors

    other = tiny_priors.video_folder(tmp_path / "video")
    check = only("prior", prior="modelscope", prior_path=str(other))
    assert check.ok and check.found.startswith(f"modelscope: {other}: a text-to-video UNet (TextToVideoSDPipeline)")
    assert "every weight has its place" in check.found and "GiB for a step of 16 x 256x256" in check.found
    assert "not what prior 'modelscope' reads" in only("prior", prior="modelscope", prior_path=str(folder)).advice


def cut(file):
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "model_index.json").unlink(), "model_index.json"),
        (lambda folder: (folder / "model_index.json").write_text("{}"), "unet"),
        (lambda folder: cut(next((folder / "unet").glob("*.safetensors"))), "unet"),
        (lambda folder: next((folder / "text_encoder").glob("*.safetensors")).unlink(), "holds no weights"),
        (lambda folder: (folder / "unet" / "config.json").write_text("{"), "config.json cannot be read as JSON"),
        (lambda folder: (folder / "scheduler" / "scheduler_config.json").unlink(), "scheduler_config.json is missing"),
    ],
)
@pytest.mark.parametrize("name", ["embedded", "modelscope"])
def test_a_damaged_prior_is_a_problem(folder, damage, words, name):
    damage(folder)
    check = only("prior", prior=name, prior_path=str(folder))
    assert not check.ok and words in check.advice


def test_pieces_and_checkpoints_are_looked_at(folder, tmp_path):
    (whole,) = (folder / "unet").glob("*.safetensors")
    piece = whole.with_name("diffusion_pytorch_model-00001-of-00002.safetensors")
    whole.rename(piece)
    index = folder / "unet" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": piece.name, "b": piece.name.replace("00001-of", "00002-of")}}))
    assert "00002-of-00002.safetensors is missing" in only("prior", prior="wan21", prior_path=str(folder)).advice
    import torch

    file = tmp_path / "model.ckpt"
    torch.save({"state_dict": {"w": torch.zeros(1000)}}, file)
    assert "is no VideoCrafter checkpoint" in only("prior", prior="videocrafter2", prior_path=str(file)).advice
    from tests.bridge.priors import videocrafter_twin as twin

    torch.save({"state_dict": twin.checkpoint(2, True)[1]}, file)
    check = only("prior", prior="videocrafter2", prior_path=str(file))
    assert check.ok and "every weight of the UNet has its place" in check.found
    cut(file)
    assert "cut short" in only("prior", prior="videocrafter2", prior_path=str(file)).advice


def test_a_hub_id_that_was_never_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    assert "not fetched yet" in only("prior", prior="modelscope", prior_path="nobody/no-such-prior").advice


def test_what_keeps_a_gpu_from_use_is_told_as_it_was_before_jax_started(capsys):
    from bridge.configure import cuda_problem

    before = cuda_problem()
    code = doctor.main(["--json"])
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert code == 0 and checks["gpu"]["advice"] == (before or "")


def test_versions(monkeypatch):
    real = importlib.metadata.version

    def version(name):
        if name == "diffusers":
            return "0.1"
        if name == "optax":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    check = only("packages")
    assert not check.ok and "optax is missing" in check.found and "diffusers 0.1 is not" in check.found


def test_other_pythons(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 0))
    assert "3.11 to 3.13" in only("python").advice


def test_memory_and_disk(monkeypatch):
    monkeypatch.setattr(doctor, "available", lambda: doctor.GIB)
    assert only("memory").found == "1.0 GiB free" and not only("memory").ok
    monkeypatch.setattr(doctor, "available", lambda: None)
    assert only("memory").ok
    monkeypatch.setattr(doctor, "DISK_NEEDED", 1 << 60)
    assert "--workdir" in only("disk").advice


def test_caches_that_cannot_be_written(monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "XDG_CACHE_HOME" in only("caches").advice


def test_nothing_raises():
    def broken(options):
        raise RuntimeError("of all things")

    check = doctor.examine(options(), [("x", True, broken)])[0]
    assert (check.ok, check.found, check.advice) == (False, "RuntimeError", "of all things")
