"""Every loader and the whole command line against generated files: it reads them, or says why not in one line.

1,800 cases are generated (30 tests of 60) over every loader and the main job's flags; some 240 more, which once went
wrong, stand below. Together 24 s of a core, or two minutes on two cores that others fill (measured at a load of 9).
`make fuzz` runs this with FUZZ times as many. SECURITY.md says why atheris is not used.
"""

import functools
import io
import json
import os
import struct
import tempfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from md_jax.body.model import load_body
from md_jax.config import FIELDS, Config, prompts
from md_jax.control.reading import asked_of
from md_jax.errors import UserError
from md_jax.files import read_json, read_text
from md_jax.fit.checkpoint import Checkpoints
from md_jax.main import read_options
from md_jax.mocap import statistics
from md_jax.mocap.clips import load_clips
from md_jax.mocap.motion import load_motion
from md_jax.options.flags import from_flagfile, to_flagfile
from md_jax.prompts.vocabulary import actions_of_prior
from md_jax.retarget.animate import read_character
from md_jax.run import inputs
from md_jax.run.logs import Metrics, read_metrics

CASES = int(os.environ.get("FUZZ", "1")) * 60
many = settings(
    max_examples=CASES,
    deadline=None,
    derandomize="FUZZ" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def answers(load, *args):
    """Whether `load` takes its input or refuses it in one line; everything else is a failure."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            load(*args)
    except UserError as error:
        text = str(error)
        assert text and "\n" not in text and "Traceback" not in text and len(text) < 3000
        assert "allow_pickle" not in text


def metrics_of(path):
    read_metrics(path.parent)
    Metrics(path.parent, 5).append(6, {"loss": [float("nan")]})
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        assert "NaN" not in line or "damaged" not in line


def table_of(path):
    statistics._table.cache_clear()
    statistics.load_statistics("generic", str(path))


def checkpoint_of(path):
    import jax.numpy as jnp

    from tests.fit.test_checkpoint import State

    folder = path.parent / "c"
    folder.mkdir(exist_ok=True)
    (folder / "step-00000007.safetensors").write_bytes(path.read_bytes())
    Checkpoints(folder).restore(State(jnp.int32(0), {"w": jnp.zeros((2, 3)), "n": jnp.arange(3)}))


def vocabulary_of(path):
    actions_of_prior("embedded", str(path.parent))


def inputs_of(path):
    inputs._recorded(path)


NPZ = {"motion.npz": load_motion, "clips.npz": load_clips, "body.npz": load_body, "statistics.npz": table_of}
TEXTS = {
    "vocabulary.json": vocabulary_of,
    "settings.json": read_json,
    "prompts.txt": lambda path: prompts(Config(prompts_file=str(path))),
    "text.txt": read_text,
    "run.flags": from_flagfile,
    "metrics.jsonl": metrics_of,
    "inputs.json": inputs_of,
    "keyframes.json": lambda path: asked_of(Config(prompt="a man runs", keyframes=str(path))),
    "path.csv": lambda path: asked_of(Config(prompt="a man runs", root="full", path=str(path))),
}


# --- good files, to be damaged ------------------------------------------------------------------------------------


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@functools.cache
def good_arrays(name):
    if name == "motion.npz":
        return {
            "poses": np.zeros((4, 165), np.float32), "trans": np.zeros((4, 3)), "mocap_frame_rate": np.float64(30),
            "betas": np.zeros(16), "gender": np.str_("neutral"), "up_axis": np.str_("y"), "prompt": np.str_("a"),
        }  # fmt: skip
    if name == "clips.npz":
        texts = {key: np.array(["a", "b"]) for key in ("name", "action", "recording", "source")}
        steps = np.zeros((6, 66), np.int16)
        return {"pose_steps": steps, "lengths": np.array([2, 4], np.int32), "fps": np.full(2, 30, np.float32), **texts}
    if name == "statistics.npz":
        path = Path(statistics.__file__).parents[1] / "assets" / "statistics.npz"
        with np.load(path) as file:
            return dict(file)
    return {  # a body of three vertices
        "v_template": np.eye(3), "shapedirs": np.zeros((3, 3, 20)), "posedirs": np.zeros((3, 3, 486)),
        "J_regressor": np.full((55, 3), 1 / 3), "weights": np.eye(55)[:3], "f": np.array([[0, 1, 2]]),
        "kintree_table": np.zeros((2, 55), np.int64),
    }  # fmt: skip


def good_text(name):
    return {
        "vocabulary.json": '{"actions": ["walk", "run"]}',
        "settings.json": '{"a": [1, 2.5, null, "x"]}',
        "prompts.txt": "a person is walking\n# no\r\na man is running\n",
        "text.txt": "one\ntwo\n",
        "run.flags": to_flagfile(Config(prompt="a person is walking")),
        "metrics.jsonl": '{"step": 1, "loss": [0.5]}\n{"step": 2, "loss": [0.25]}\n',
        "inputs.json": '{"sha256": "0", "prompts": ["a"]}',
        "keyframes.json": '{"keyframes": [{"time": 0, "joints": {"head": [0, 1.5, 0.25]}}]}',
        "path.csv": "x,z\n0,0\n1.5,2\n",
    }[name].encode()


def damaged(data, draw):
    """Bytes after some flips, cuts, repetitions and insertions."""
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        kind, at = draw(st.sampled_from(["flip", "cut", "insert", "repeat", "zero"])), draw(st.integers(0, len(data)))
        if kind == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del data[at:]
        elif kind == "insert":
            data[at:at] = draw(st.binary(max_size=20))
        elif kind == "repeat":
            data[at:at] = data[: draw(st.integers(0, 200))]
        else:
            data[at : at + 8] = bytes(len(data[at : at + 8]))
    return bytes(data)


SHAPES = st.lists(st.integers(0, 5), max_size=3).map(tuple)
KINDS = ["f4", "f8", "i8", "u1", "c8", "?", "U3", "S2", "M8[s]", "f2", ">f4", "O", "V4"]


@st.composite
def odd_arrays(draw, name):
    """The arrays of a good file, some of them replaced by others or left out."""
    arrays = {key: np.asarray(value) for key, value in good_arrays(name).items()}
    for key in draw(st.lists(st.sampled_from(sorted(arrays)), min_size=1, max_size=3)):
        kind = draw(st.sampled_from(["drop", "odd", "value", "transpose", "kind"]))
        if kind == "drop":
            arrays.pop(key, None)
        elif kind == "odd":
            dtype = draw(st.sampled_from(KINDS))
            arrays[key] = np.zeros(draw(SHAPES), dtype) if dtype != "V4" else np.zeros(3, "V4")
        elif kind == "kind" and key in arrays and arrays[key].dtype.kind in "fiu":
            arrays[key] = arrays[key].astype(draw(st.sampled_from(["f2", "f8", "c16", "i4", "u1", "U5", "O"])))
        elif kind == "transpose" and key in arrays:
            arrays[key] = arrays[key].T
        elif key in arrays and arrays[key].dtype.kind == "f":
            odd = draw(st.sampled_from([np.nan, np.inf, -1.0, 0.0, 1e30, 1e300]))
            arrays[key] = np.full_like(arrays[key], odd, np.float64)
    return arrays


@pytest.mark.parametrize("name", NPZ)
@many
@given(st.data())
def test_damaged_archives(tmp_path_factory, name, data):
    path = tmp_path_factory.mktemp("f") / name
    path.write_bytes(damaged(npz(**good_arrays(name)), data.draw))
    answers(NPZ[name], path)


@pytest.mark.parametrize("name", NPZ)
@many
@given(st.data())
def test_archives_of_other_arrays(tmp_path_factory, name, data):
    path = tmp_path_factory.mktemp("f") / name
    path.write_bytes(npz(**data.draw(odd_arrays(name))))
    answers(NPZ[name], path)


@pytest.mark.parametrize("name", TEXTS)
@many
@given(st.data())
def test_damaged_texts(tmp_path_factory, name, data):
    path = tmp_path_factory.mktemp("f") / name
    path.write_bytes(damaged(good_text(name), data.draw))
    answers(TEXTS[name], path)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["actions", "step", "x", "keyframes", "time", "joints"]), inner)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("name", ["vocabulary.json", "metrics.jsonl", "settings.json", "inputs.json", "keyframes.json"])
@many
@given(value=JSON)
def test_other_json(tmp_path_factory, name, value):
    path = tmp_path_factory.mktemp("f") / name
    path.write_text(json.dumps(value), encoding="utf-8")
    answers(TEXTS[name], path)


@many
@given(st.data())
def test_damaged_checkpoints(tmp_path_factory, data):
    from md_jax.fit.checkpoint import encode
    from tests.fit.test_checkpoint import state_at

    path = tmp_path_factory.mktemp("f") / "x"
    path.write_bytes(damaged(encode(state_at(7)), data.draw))
    answers(checkpoint_of, path)


@functools.cache
def good_figure():
    from tests.retarget.characters import NAMINGS, write_character

    with tempfile.TemporaryDirectory() as folder:
        return write_character(Path(folder) / "a.glb", NAMINGS["mixamo"]).read_bytes()


@many
@given(st.data())
def test_damaged_characters(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("f") / "a.glb"
    path.write_bytes(damaged(good_figure(), data.draw))
    answers(read_character, path)


def edited(value, draw, depth=6):
    """A JSON value in which one thing, somewhere, is another."""
    inner = sorted(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not inner or not depth or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([None, -1, 0, 10**30, 1e300, float("nan"), "x", [], {}, [0] * 16, True]))
    key = draw(st.sampled_from(inner))
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[key] = edited(value[key], draw, depth - 1)
    return copy


@many
@given(st.data())
def test_characters_that_say_nonsense(tmp_path_factory, data):
    whole = good_figure()
    size = struct.unpack_from("<I", whole, 12)[0]
    text = json.dumps(edited(json.loads(whole[20 : 20 + size]), data.draw)).encode()
    text += b" " * (-len(text) % 4)
    path = tmp_path_factory.mktemp("f") / "a.glb"
    path.write_bytes(whole[:12] + struct.pack("<I4s", len(text), b"JSON") + text + whole[20 + size :])
    answers(read_character, path)


VALUES = st.one_of(
    st.sampled_from(["", "0", "-1", "1e300", "nan", "inf", "-inf", "99999999999999999999", "abc", "1,2", ",", "~x/y",
                     "/dev/zero", "\0", "a\nb", "--steps=1", "é", "\udcff", "x" * 300, "[draft]", "true"]),
    st.text(max_size=12),
    st.floats().map(str),
    st.integers().map(str),
)  # fmt: skip


@pytest.mark.parametrize("half", range(4))
@many
@given(st.data())
def test_command_lines(half, data):
    names = sorted(FIELDS)[half::4]
    argv = [f"--{data.draw(st.sampled_from(names))}={data.draw(VALUES)}" for _ in range(data.draw(st.integers(1, 3)))]
    answers(read_options, argv)


@many
@given(st.text(max_size=40), st.sampled_from(["prompt", "negative_prompt"]))
def test_any_sentence_comes_back_from_its_flag_file(tmp_path_factory, text, name):
    try:
        config = Config(**{"prompt": "a man runs", name: text})
    except UserError:
        return
    path = tmp_path_factory.mktemp("f") / "run.flags"
    path.write_text(to_flagfile(config), encoding="utf-8", newline="")
    assert getattr(from_flagfile(path), name).strip() == getattr(config, name).strip()


# --- what once went wrong -----------------------------------------------------------------------------------------


def header(shape, kind="<f8"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def archive(*members, method=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members:
            file.writestr(name, data)
    return buffer.getvalue()


def encrypted():
    data = bytearray(archive(("poses.npy", header("(1, 165)") + bytes(1320))))
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    data[6] |= 1
    return bytes(data)


ARCHIVES = {
    "empty": b"",
    "zip header alone": b"PK\x03\x04",
    "no archive": b"hello",
    "a pickle": b"\x80\x04\x95.",
    "a single array": header("(2,)") + bytes(16),
    "a terabyte declared": archive(("poses.npy", header("(1000000000, 165)"))),
    "a negative shape": archive(("poses.npy", header("(-5, 165)"))),
    "no npy": archive(("poses.npy", b"hello"), ("v_template.npy", b""), ("action.npy", b"\x93NUMPY")),
    "an unknown format": archive(("poses.npy", b"\x93NUMPY\x09\x00" + bytes(200))),
    "a header of code": archive(("poses.npy", header("(__import__('os').system('true'),)"))),
    "lzma": archive(("poses.npy", header("(1, 165)") + bytes(1320)), method=zipfile.ZIP_LZMA),
    "encrypted": encrypted(),
    "objects": npz(poses=np.array([{}], object), v_template=np.array([None]), action=np.array([[]], object)),
    "text rate": npz(poses=np.zeros((2, 165)), fps=np.array("abc")),
    "complex rate": npz(poses=np.zeros((2, 165)), fps=np.array(3j)),
    "betas a frame": npz(poses=np.zeros((2, 165)), fps=30, betas=np.zeros((2, 10))),
    "Latin-1 gender": npz(poses=np.zeros((2, 165)), fps=30, gender=np.array(b"m\xe4nnlich")),
    "odd axis": npz(poses=np.zeros((2, 165)), fps=30, up_axis="w"),
    "flat statistics": npz(**{key: np.zeros(3) for key in good_arrays("statistics.npz")}),
    "no frames": npz(poses=np.zeros((0, 165)), fps=30),
}
BAD_TEXTS = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "UTF-16": "--steps=3".encode("utf-16"),
    "Latin-1": b"--prompt=gr\xfc\xdfe",
    "NUL": b"--prompt=a\0b",
    "digits": b"[" + b"9" * 10_000 + b"]",
    "NaN": b'{"step": NaN}',
    "null": b"null\n",
    "a number": b"5\n",
    "itself": b"--flagfile=run.flags",
}


@pytest.mark.parametrize("load", NPZ)
@pytest.mark.parametrize("what", ARCHIVES)
def test_known_archives(tmp_path, load, what):
    (tmp_path / load).write_bytes(ARCHIVES[what])
    with pytest.raises(UserError) as caught:
        NPZ[load](tmp_path / load)
    assert "\n" not in str(caught.value) and "allow_pickle" not in str(caught.value)


@pytest.mark.parametrize("load", TEXTS)
@pytest.mark.parametrize("what", BAD_TEXTS)
def test_known_texts(tmp_path, monkeypatch, load, what):
    monkeypatch.chdir(tmp_path)
    (tmp_path / load).write_bytes(BAD_TEXTS[what])
    answers(TEXTS[load], tmp_path / load)


@pytest.mark.parametrize("name", [*NPZ, *[name for name in TEXTS if name not in ("metrics.jsonl", "inputs.json")]])
@pytest.mark.parametrize("kind", ["fifo", "device", "missing", "long", "nul", "socket-like"])
def test_no_loader_waits_for_what_is_no_file(tmp_path, name, kind):
    path = tmp_path / name
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "long":
        path = tmp_path / ("x" * 300) / name
    elif kind == "nul":
        path = tmp_path / "a\0b" / name
    elif kind == "socket-like":
        path.symlink_to(path)
    answers({**NPZ, **TEXTS}[name], path)


def test_a_bomb_in_an_unused_key_is_not_unpacked(tmp_path):
    members = [("x.npy", header("(50000000,)") + bytes(400_000_000))]
    good = npz(**good_arrays("motion.npz"))
    with zipfile.ZipFile(io.BytesIO(good)) as file:
        members += [(name, file.read(name)) for name in file.namelist()]
    (tmp_path / "m.npz").write_bytes(archive(*members))
    import tracemalloc

    tracemalloc.start()
    load_motion(tmp_path / "m.npz")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_nothing_is_unpickled(tmp_path, monkeypatch):
    import pickle

    def refuse(*args, **kwargs):
        raise AssertionError("a loader unpickles")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    for name, load in NPZ.items():
        for what in ("objects", "a pickle", "no archive"):
            (tmp_path / name).write_bytes(ARCHIVES[what])
            answers(load, tmp_path / name)
        (tmp_path / name).write_bytes(npz(**good_arrays(name)))
        answers(load, tmp_path / name)
