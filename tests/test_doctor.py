"""md_jax.doctor: every check says OK or what to do, and the exit code says whether the main job can run."""

import argparse
import importlib.metadata
import json
import sys

import pytest

from md_jax import doctor

NAMES = [name for name, _, _ in doctor.LOOKS]


def options(**changes):
    plain = {"prior": "embedded", "prior_path": "", "body": "free", "device": "cpu"}
    return argparse.Namespace(**{**plain, **changes})


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


def test_a_folder_without_a_model(tmp_path):
    assert "model_index.json" in only("prior", prior="modelscope", prior_path=str(tmp_path)).advice
    (tmp_path / "model_index.json").write_text("{}")
    assert only("prior", prior="modelscope", prior_path=str(tmp_path)).found == f"modelscope: {tmp_path}"


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
    monkeypatch.setattr(doctor, "_free_memory", lambda: doctor.GIB)
    assert only("memory").found == "1.0 GiB free" and not only("memory").ok
    monkeypatch.setattr(doctor, "_free_memory", lambda: None)
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
