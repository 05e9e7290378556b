"""Files of the right form with contents that would take hours, gigabytes, or a library's own check to refuse."""

import json
import os
import shutil
import struct

import numpy as np
import pytest

from bridge.errors import BridgeError
from bridge.priors import load_prior
from bridge.recipes import recipe_of
from md_jax import files
from md_jax.errors import UserError, one_line
from md_jax.mocap import clips
from md_jax.mocap.motion import load_motion
from md_jax.options.command import whole_numbers
from md_jax.options.flagfiles import with_flagfiles
from md_jax.prompts.vocabulary import actions_of_prior
from tests.bridge.priors import tiny_priors


def motion(path, **change):
    np.savez_compressed(path, **{"poses": np.zeros((40, 165), np.float32), "mocap_frame_rate": 30.0, **change})
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mocap_frame_rate": 0.01}, "at most 100,000 frames and 3600 s"),
        ({"poses": np.zeros((100_001, 165), np.float16)}, "cut it into pieces"),
        ({"trans": np.full((40, 3), 1e300)}, "expected trans within 100000"),
        ({"up_axis": "z", "pelvis": np.full(3, 1e6)}, "expected pelvis within 100000"),
        ({"betas": np.full(10, 1e38)}, "expected betas within"),
        ({"prompt": "walking " * 2000}, "at most 10000 characters"),
        ({"prompt": np.frombuffer(struct.pack("<I", 0x7FFFFFFF), "<U1")}, "no Unicode"),
        ({"prompt": np.frombuffer(struct.pack("<I", 0xDCFF), "<U1")}, "no Unicode"),
        ({"gender": np.frombuffer(struct.pack(">I", 0x7FFFFFFF), ">U1")}, "no Unicode"),
    ],
)
def test_a_motion_that_cannot_be_gone_through_is_refused(tmp_path, change, said):
    with pytest.raises(UserError, match=said):
        load_motion(motion(tmp_path / "m.npz", **change))


def test_a_prompt_of_a_file_steers_no_terminal(tmp_path):
    assert load_motion(motion(tmp_path / "m.npz", prompt="\x1b[2Ja\nman\x07")).prompt == "?[2Ja man?"
    assert one_line(ValueError("\x1b]0;x\x07 a\nb")) == "?]0;x? a b"


def test_packed_clips_of_days_are_refused(tmp_path):
    texts = {key: np.array(["a"]) for key in ("name", "action", "recording", "source")}
    steps = np.zeros((6, 66), np.int16)
    for fps in (1e-3, 1e-30, 1e20):
        np.savez(tmp_path / "c.npz", pose_steps=steps, lengths=np.array([6]), fps=np.array([fps], np.float32), **texts)
        with pytest.raises(UserError, match="fps from"):
            clips.load_clips(tmp_path / "c.npz")


def test_flag_files_that_multiply_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i in range(9):
        (tmp_path / f"f{i}").write_text(f"--flagfile=f{i + 1}\n" * 30)
    (tmp_path / "f9").write_text("--steps=3\n" * 30)
    (tmp_path / "long").write_text("--steps=3\n" * 500_000)
    for name in ("f0", "long"):
        with pytest.raises(UserError, match="more than 10,000 flags"):
            with_flagfiles([f"--flagfile={name}"])


def test_a_folder_of_everything_is_refused(tmp_path, monkeypatch):
    for i in range(20):
        (tmp_path / f"{i}.txt").touch()
    motion(tmp_path / "walking.npz")
    assert [file.name for file in files.files_under(tmp_path, ".npz")] == ["walking.npz"]
    monkeypatch.setattr(files, "MOST_FILES", 10)
    with pytest.raises(UserError, match="more than 10 files"):
        clips.load_clips(tmp_path)


def test_numbers_too_large_for_one_are_no_json(tmp_path):
    for number in ("1e999", str(2**64), str(-(2**63) - 1), "1" + "0" * 400, "9" * 9000):
        (tmp_path / "x.json").write_text(f'{{"a": [{number}]}}')
        with pytest.raises(UserError, match=f"holds {number[:40]}"):
            files.read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text(f"[{2**64 - 1}, {-(2**63)}]")
    assert files.read_json(tmp_path / "x.json") == [2**64 - 1, -(2**63)]


def test_output_goes_to_files_only(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (".", "/", "..", tmp_path, "~"):
        with pytest.raises(UserError, match="expected the name of a file to write"):
            files.output_file(path)
    assert files.output_file("~/x.png") == tmp_path / "x.png"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="a device or a pipe"):
        files.output_file(tmp_path / "pipe")
    with pytest.raises(files.WriteError, match="a device or a pipe"):
        files.write_bytes(tmp_path / "pipe", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.parametrize("texts", [["inf"], ["nan"], ["1.5"]])
def test_whole_numbers_are_whole(texts, capsys):
    with pytest.raises(SystemExit):
        whole_numbers("seeds", texts)
    assert capsys.readouterr().err.startswith("error: --seeds takes whole numbers")


@pytest.mark.parametrize("names", [[], [""], ["[/]"], ["a\nb"], ["the"], ["x" * 100], ["a"] * 1001, 5])
def test_actions_that_no_sentence_could_name(tmp_path, names):
    (tmp_path / "vocabulary.json").write_text(json.dumps({"actions": names}))
    with pytest.raises(UserError):
        actions_of_prior("embedded", str(tmp_path))


PRIOR_JSON = [
    ("frames", 1e999), ("frames", 0), ("frames", 1.5), ("frames", 10**9), ("frames", True), ("frames", 11),
    ("fps", 1e300), ("fps", None), ("height", -8), ("height", 10**9), ("width", 0), ("elevation", [80, -80]),
    ("elevation", [1e300, 1e300]), ("elevation", 5), ("fov", 400), ("distance", -1), ("background", [9, 9, 9]),
    ("frame_packing", "x"), ("frame_packing", None), ("frame_packing", 0), ("frame_packing", 10**9),
]  # fmt: skip
OTHERS = [
    ("scheduler/scheduler_config.json", "_class_name", 0), ("scheduler/scheduler_config.json", "_class_name", []),
    ("scheduler/scheduler_config.json", "prediction_type", []),
    ("scheduler/scheduler_config.json", "num_train_timesteps", 10**12),
    ("scheduler/scheduler_config.json", "num_train_timesteps", 0),
    ("scheduler/scheduler_config.json", "beta_end", 1e999),
    ("scheduler/scheduler_config.json", "trained_betas", []),
    ("scheduler/scheduler_config.json", "trained_betas", [2.0] * 10),
    ("scheduler/scheduler_config.json", "trained_betas", [0.0] * 1000),
    ("unet/config.json", "block_out_channels", [4096, 4096, 4096]), ("unet/config.json", "layers_per_block", 100_000),
    ("text_encoder/config.json", "num_hidden_layers", 1_000_000), ("text_encoder/config.json", "vocab_size", 10**10),
    ("tokenizer/tokenizer_config.json", "model_max_length", -1),
    ("tokenizer/tokenizer_config.json", "model_max_length", "x"),
    ("tokenizer/tokenizer_config.json", "pad_token", None),
]  # fmt: skip


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return tiny_priors.packed_folder(tmp_path_factory.mktemp("packed") / "p")


@pytest.mark.parametrize(("name", "key", "value"), [*(("prior.json", *case) for case in PRIOR_JSON), *OTHERS])
def test_a_prior_that_says_nonsense_is_refused(packed, tmp_path, name, key, value):
    folder = shutil.copytree(packed, tmp_path / "p")
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**settings, key: value}).replace("Infinity", "1e999"))
    with pytest.raises(BridgeError):
        load_prior("embedded", str(folder))


@pytest.mark.parametrize(
    "pose",
    [
        {"guidance_scale": 1e999},
        {"steps": 10**400},
        {"views": -(10**30)},
        {"learning_rate": True},
        {"azimuths": [1e999]},
    ],
)
def test_a_recipe_of_no_numbers_is_refused(tmp_path, pose):
    text = json.dumps({"recipe": {"pose": pose}}).replace("Infinity", "1e999")
    (tmp_path / "prior.json").write_text(text)
    with pytest.raises(BridgeError, match="states"):
        recipe_of("embedded", path=str(tmp_path))
