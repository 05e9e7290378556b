"""What a process finds around it: no home, a narrow encoding, a notebook's drawing."""

import gc
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from md_jax import errors
from md_jax.outside import environment

CODE = """
import os, sys
from md_jax.outside import environment
environment.prepare()
print(os.environ["XDG_CACHE_HOME"] if "XDG_CACHE_HOME" in os.environ else "")
print("ü…“")
"""


def run(**env):
    base = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CACHE_HOME")}
    return subprocess.run(
        [sys.executable, "-c", CODE], env={**base, **env}, capture_output=True, timeout=60, check=True
    )


def test_a_home_that_cannot_be_written_gets_a_temporary_cache(tmp_path):
    (tmp_path / "file").write_text("")
    done = run(HOME=str(tmp_path / "file"))
    assert b"md_jax-cache-" in done.stdout and b"XDG_CACHE_HOME" in done.stderr


def test_a_home_that_is_no_text_gets_one_too(tmp_path):
    """JAX refuses such a path with a TypeError in the middle of a run."""
    done = run(HOME=os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    assert b"md_jax-cache-" in done.stdout and b"XDG_CACHE_HOME" in done.stderr


def test_a_good_home_stays(tmp_path):
    done = run(HOME=str(tmp_path))
    assert not done.stderr and (tmp_path / ".cache" / "md_jax").is_dir()


def test_what_an_encoding_lacks_is_replaced(tmp_path):
    assert run(HOME=str(tmp_path), PYTHONIOENCODING="ascii").stdout.endswith(b"???\n")


def test_pictures_go_to_files_whatever_is_set(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://nowhere")
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    environment.prepare()
    assert os.environ["MPLBACKEND"] == "Agg"


@pytest.mark.parametrize(
    ("program", "unbuffered"),
    [
        ("md_jax.main --helpfull", ""),
        ("md_jax.main --helpfull", "1"),
        ("md_jax.doctor", ""),
        pytest.param("md_jax.doctor", "1", marks=pytest.mark.slow),
    ],
)
def test_output_that_nobody_reads_or_that_finds_no_room(program, unbuffered):
    """`| head` ends a program's output and not the program; a full disk is one line."""
    command = f"{sys.executable} -m {program}"
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    piped = ["bash", "-c", f"{command} | head -1; exit ${{PIPESTATUS[0]}}"]
    head = subprocess.run(piped, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (head.returncode, head.stderr, head.stdout.count("\n")) == (0, "", 1)
    full = subprocess.run(
        ["bash", "-c", f"{command} > /dev/full"], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert (full.returncode, full.stderr) == (2, "error: [Errno 28] No space left on device\n")


def test_a_warning_is_one_line(tmp_path):
    code = (
        CODE + "import warnings\nwarnings.warn('a clip\\n  of 9 latents')\nwarnings.warn('old', DeprecationWarning)\n"
    )
    env = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    first, second = done.stderr.splitlines()
    assert first == "note: a clip of 9 latents" and second.startswith("DeprecationWarning: old (<string>:")


def test_a_stream_that_only_python_held_stays_open(tmp_path, monkeypatch):
    with (tmp_path / "out").open("wb") as file:
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.FileIO(os.dup(file.fileno()), "w")))
        sys.stdout = environment.patient(sys.stdout)
        gc.collect()
        print("said", flush=True)
        os.fstat(sys.stdout.fileno())
    assert (tmp_path / "out").read_text() == "said\n"


@pytest.mark.parametrize("program", ["md_jax.main 'a person is walking'", "md_jax.evaluate x.npz"])
@pytest.mark.parametrize("name", ["JAX_ENABLE_X64", "JAX_DEFAULT_MATMUL_PRECISION"])  # of two kinds
def test_what_jax_does_not_take_is_named_and_no_folder_stays(program, name, tmp_path):
    np.savez(tmp_path / "x.npz", poses=np.zeros((40, 165), np.float32), mocap_frame_rate=30.0)
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m {program}"], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env=os.environ | {name: "nonsense", "PYTHONPATH": here}, check=False,
    )  # fmt: skip
    said = f"error: JAX does not take {name}='nonsense' of the environment: unset it, or give another value.\n"
    assert (done.returncode, done.stderr) == (2, said)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.parametrize("value", ["nonsense", "--xla_no_such_flag=1"])
def test_xla_flags_over_which_xla_would_end_the_process_are_named(value, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", value)
    with pytest.raises(errors.UserError, match="XLA does not take XLA_FLAGS="):
        environment.keep_compiled()


def test_what_torch_does_not_take_is_named(monkeypatch):
    monkeypatch.setenv("TORCH_LOGS", "nonsense")
    code = "import torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, check=False)
    said = done.stderr.partition("ValueError: ")[2]
    assert errors.of_surroundings(ValueError(said)).startswith("torch does not take TORCH_LOGS='nonsense' of the")
    assert errors.of_surroundings(ValueError("another")) == errors.of_surroundings(KeyError("JAX flag jax_x")) == ""
