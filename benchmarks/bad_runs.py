"""More bad inputs for `benchmarks.hostile`: files of control and characters, odd sentences and sizes, surroundings."""

from __future__ import annotations

import functools
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.bad_files import FEW, MAKERS, replace

SENTENCE = "a person is walking"
NOWHERE = "--prior_path=/nowhere/at/all"  # a run that is not refused before ends here, without a step


class Case(NamedTuple):
    """A program, its arguments, and what is odd about them."""

    what: str
    program: str
    argv: list[str]
    env: Mapping[str, str | None] = MappingProxyType({})
    prepare: Callable[[Path], None] = lambda home: None  # called with the case's own folder, its working folder
    fresh: bool = False  # started as a program of its own: what is odd is read while Python or a library starts


def of_place(place: str, program: str, argv: list[str], name: str = "BAD") -> Iterator[Case]:
    """Every kind of bad file where `argv` names one."""
    for kind, make in MAKERS.items():

        def prepare(home: Path, make: Callable[[Path], object] = make) -> None:
            replace(home / name, make)

        yield Case(f"{place}: {kind}", program, argv, prepare=prepare)


def of_text(what: str, program: str, argv: list[str], data: bytes, name: str = "BAD") -> Case:
    """One file of these bytes, where `argv` names it."""
    return Case(what, program, argv, prepare=lambda home: _write(home / name, data))


def _replace_bad(make: Callable[[Path], object], home: Path) -> None:
    replace(home / "BAD", make)


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


# --- control --------------------------------------------------------------------------------------------------------

PINS = (
    "left_hand", "left_hand:1,2", "left_hand:nan,0,0", "left_hand:0,1,0@5-1", "left_hand:0,1,0@99", "nosuch:0,1,0",
    ";;;", "left_hand:0,1,0@1.2.3", "left_hand:1e300,0,0", "left_hand:0,1,0@", "@", ":", "left_hand:0,1,0@-1",
    "left_hand:" + "1," * 100_000, "left_hand:0,1,0;" * 20_000, "left_hand:0x1,0,0", "left_hand:１,２,３@0",
)  # fmt: skip
KEYFRAMES: tuple[Any, ...] = (
    [], {}, {"keyframes": {}}, [{"time": 0}], [{"time": "x", "pose": "good.npz"}], [{"time": 0, "joints": []}],
    [{"time": 0, "joints": {"head": [0, 1]}}], [{"time": 0, "joints": {"head": [0, 1, None]}}],
    [{"time": 0, "joints": {"": [0, 1, 0]}}], [{"time": 0, "pose": "BAD.json"}], [{"time": 0, "pose": "/dev/zero"}],
    [{"time": 0, "pose": "../../etc/passwd"}], [{"time": 0, "pose": "good.npz", "at": 1e9}], [{"time": 1e9,
    "pose": ""}],
    [{"time": 3000, "pose": "good.npz"}], [{"time": 0, "pose": "\0"}], [{"time": True, "pose": "good.npz"}],
    [{"time": 0, "pose": "x" * 5000}], [{"time": 0, "joints": {"head": [10**400, 0, 0]}}],
    [{"time": 0, "joints": {"head": [0, 1, 0]}}] * 20_000, [[[]]], [5], [{"time": -0.1, "joints": {"head": [0, 1, 0]}}],
)  # fmt: skip
PATHS = {
    "one place": b"0,0\n", "words": b"x,z\na,b\n", "a heading alone": b"x,z\n", "three columns": b"0,0,0\n1,1,1\n",
    "NaN": b"0,0\nnan,1\n", "infinity": b"0,0\n1e999,1\n", "a long field": b"0," + b"1" * 200_000 + b"\n1,1\n",
    "an open quote": b'"0,0\n1,1\n', "NUL": b"0,0\0\n1,1\n", "UTF-16": "0,0\n1,1\n".encode("utf-16"),
    "a lone return": b"0,0\r1,1\r", "semicolons": b"0;0\n1;1\n", "a million places": b"0,0\n1,1\n" * 500_000,
    "the same place": b"0,0\n0,0\n",
}  # fmt: skip


def of_control() -> Iterator[Case]:
    """Pins, keyframes, paths, motions to begin or end with."""
    for pin in PINS:
        yield Case(f"new: --pin={pin[:30]}", "main", [SENTENCE, f"--pin={pin}", NOWHERE])
    for n, data in enumerate(KEYFRAMES):
        argv = [SENTENCE, "--keyframes=BAD.json", NOWHERE]
        text = json.dumps(data)
        yield of_text(f"new: keyframes {n}: {text[:30]}", "main", argv, text.encode(), "BAD.json")
    for name, lines in PATHS.items():
        yield of_text(f"new: path of {name}", "main", [SENTENCE, "--path=BAD", "--root=full", NOWHERE], lines)
    for flag in ("keyframes", "path", "start", "end", "character_map"):
        argv = [SENTENCE, f"--{flag}=BAD", NOWHERE, *(["--character=BAD"] if flag == "character_map" else [])]
        yield from of_place(f"new: --{flag}", "main", argv)


# --- characters -----------------------------------------------------------------------------------------------------


def glb(document: Any, binary: bytes = bytes(64), size: int | None = None) -> bytes:
    """A binary glTF of this document; `size` is what it says of its JSON's length."""
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    parts = struct.pack("<I4s", len(text) if size is None else size, b"JSON") + text
    parts += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(parts)) + parts


def _figure(**change: Any) -> bytes:
    found = {
        "asset": {"version": "2.0"}, "buffers": [{"byteLength": 64}], "skins": [{"joints": [0, 1]}],
        "nodes": [{"name": "Hips", "children": [1]}, {"name": "Spine"}],
    }  # fmt: skip
    return glb({**found, **change})


FIGURES = {
    "no asset": glb({}), "a list": glb([]), "null": glb(None), "deep": glb(b"[" * 100_000),
    "Latin-1": glb(b'{"a":"\xfc"}'),
    "a length beyond": glb({"asset": {}}, size=2**31), "a length of 0": glb({"asset": {}}, size=0),
    "no skin": _figure(skins=[]), "a circle": _figure(nodes=[{"children": [1]}, {"children": [0]}]),
    "its own child": _figure(nodes=[{"name": "Hips", "children": [0]}, {"name": "Spine"}]),
    "nodes of null": _figure(nodes=[None, None]), "children of text": _figure(nodes=[{"children": "x"}, {}]),
    "a child beyond": _figure(nodes=[{"children": [10**30]}, {}]), "joints beyond": _figure(skins=[{"joints": [99]}]),
    "joints of NaN": _figure(skins=[{"joints": [float("nan")]}]), "joints of text": _figure(skins=[{"joints": "ab"}]),
    "a flat matrix": _figure(nodes=[{"matrix": [0] * 16, "children": [1]}, {}]),
    "a zero rotation": _figure(nodes=[{"rotation": [0, 0, 0, 0], "children": [1]}, {}]),
    "huge scales": _figure(nodes=[{"scale": [1e300] * 3, "children": [1]}, {"scale": [1e300] * 3}]),
    "many nodes": _figure(nodes=[{"name": "x"}] * 50_000), "many joints": _figure(skins=[{"joints": [0] * 500_000}]),
    "an accessor of a terabyte": _figure(skins=[{"joints": [0, 1], "inverseBindMatrices": 0}], accessors=[
        {"componentType": 5126, "type": "MAT4", "count": 10**12}]),
    "an accessor of no type": _figure(skins=[{"joints": [0, 1], "inverseBindMatrices": 0}], accessors=[{}]),
    "other files": _figure(buffers=[{"uri": "../../etc/passwd", "byteLength": 64}]), "names of null": _figure(
        nodes=[{"name": None, "children": [1]}, {"name": ["x"]}]),
    "half of it": _figure()[:40], "no chunks": b"glTF\2\0\0\0" + bytes(12), "version 1": b"glTF\1\0\0\0" + bytes(12),
}  # fmt: skip
MAPS: tuple[Any, ...] = (
    {"left_hip": 5}, {"nosuch": "Hips"}, {"left_hip": "nosuch"}, {"spine": []}, {"spine": "Hips"}, {"left_hip": None},
    [["left_hip", "Hips"]],
)  # fmt: skip


def of_characters() -> Iterator[Case]:
    """Rigged characters and maps of their bones."""
    for name, data in FIGURES.items():
        yield of_text(f"new: a character: {name}", "retarget", ["good.npz", "BAD.glb"], data, "BAD.glb")
    yield of_text(
        "new: a character of a run", "main", [SENTENCE, "--character=BAD.glb"], FIGURES["a circle"], "BAD.glb"
    )
    yield from of_place("new: retarget, character", "retarget", ["good.npz", "BAD.glb"], "BAD.glb")
    yield from of_place("new: retarget, motion", "retarget", ["BAD.npz", "good.glb"], "BAD.npz")
    for n, map_ in enumerate(MAPS):

        def prepare(home: Path, map_: Any = map_) -> None:
            _write(home / "f.glb", _figure())
            _write(home / "m.json", json.dumps(map_).encode())

        yield Case(f"new: map {n}: {map_}", "retarget", ["good.npz", "f.glb", "--map=m.json"], prepare=prepare)


# --- sentences, sizes, places -----------------------------------------------------------------------------------------

SENTENCES = (
    "🚶" * 50, "\u202ea person is walking\u202c", "a\u200bperson\u200bis\u200bwalking", "...", "|", "| | |", "walking:",
    "a person is walking: -1 | a person is walking: nan", "a person is walking: 1e9", "a person is walking: 2 |",
    "a person is walking: 0", "a man \ud800 walks", "\u0301" * 300, "a person is walking" + " and walking" * 3000,
    "a person is walking | " * 3000, "1", "--", "a person is walking: 1:2", "a\rb", "\ufeffa person is walks",
    "ⓦalking",
)  # fmt: skip
FLAGS = (
    "fps=0.1 export_fps=240", "seconds=3600", "seconds=1e-300", "loop seconds=0.1", "frames=2 seconds=100",
    "azimuths=nan", "azimuths=0,,90", "azimuths=" + "0," * 100_000 + "0", "t_min=0.5 t_max=0.5", "t_min=0.1,0.2,0.3",
    "elevation=80,-80", "betas=" + "0," * 300 + "0", "background=1,2", "optimizer=__class__", "optimizer=", "schedule=",
    "action=../walking", "action=WALKING", "action=", "seed=-1", "seed=9223372036854775808", "first_motion=-1",
    "first_motion=2147483648", "log_every=0", "checkpoint_every=99999999999999999999", "preview_every=-1",
    "distillation=csd guidance_scale=0", "mode=latent pin=left_hand:0,1,0", "mode=fit start=good.npz",
    "mode=fit prior=modelscope", "preset=paper mode=fit prior_path=/nowhere", "image_prior=sd15", "fit_steps=1e9",
    "prior_path=../../../../etc", "prior_path=", "character_map=good.npz", "character=good.npz", "tiny_vae=good.npz",
    "flagfile=.", "flagfile=good.npz", "flagfile=-", "prompts_file=/proc/self/mem", "body=/proc/self/mem",
    "statistics=/proc/kcore", "gender=x", "device=cuda", "device=tpu", "dtype=float8", "transport=",
    "renderer=nvdiffrast",
    "workdir=good.npz", "workdir=good.npz/x", "workdir=" + "x" * 300, "workdir=/dev/full/x", "workdir=/proc/1/x",
    "workdir=/sys/x", "workdir=a\tb", "resume workdir=nowhere", "resume workdir=good.npz", "resume steps=3",
    "noresume=1", "steps=3 steps=x", "undefok=steps", "num_motions=0", "detail=5999", "height=9999999", "width=-1",
    "learning_rate=-1", "views=0 azimuths=", "guidance_low=nan", "image_frames=1e3",
)  # fmt: skip
OTHERS = (
    ("evaluate", "."), ("evaluate", "good.npz good.npz --reference=."), ("evaluate", "good.npz --root=zzz"),
    ("evaluate", "good.npz --out=."), ("view", "nowhere"),
    ("view", "good.npz --live"), ("view", ". --live --port=-1"), ("view", ". --live --port=99999999"), ("view", "."),
    ("view", "good.npz --out=/nowhere/x/y.html"), ("view", "good.npz --out=."), ("view", "/dev/zero"), ("view",
    "--port=x"),
    ("view", "good.npz --body=nowhere"), ("view", "good.npz --body=good.npz"), ("retarget", "good.npz"), ("retarget",
    ""),
    ("retarget", "good.npz good.npz"), ("retarget", "nowhere nowhere.glb"), ("retarget", "good.npz /dev/zero"),
    ("retarget", "a b c"), ("doctor", "--device=zzz"), ("doctor", "--frames=-1"), ("doctor", "--prior_path=/dev/zero"),
    ("doctor", "extra"), ("doctor", "--body=good.npz"), ("study", "--prompts=| --seeds=1"), ("study", "--priors=a=b=c"),
    ("study", "--launcher=zzz --prompts=a"), ("study", "--retries=-1 --prompts=a"), ("study", "--seeds=0..9"),
)  # fmt: skip


def of_lines() -> Iterator[Case]:
    """Sentences and flags that no list above has."""
    for text in SENTENCES:
        yield Case(f"new: sentence {text[:20]!r}", "main", [text, NOWHERE])
    for line in FLAGS:
        argv = [f"--{flag}" for flag in line.split(" ")]
        yield Case(f"new: --{line[:40]}", "main", [SENTENCE, *argv, *([] if "prior" in line else [NOWHERE])])
    for program, line in OTHERS:
        yield Case(f"new: {program} {line[:40]}", program, line.split())
    for kind in FEW:
        for program, flag in (("evaluate", "out"), ("evaluate", "figure"), ("view", "out")):
            make = MAKERS[kind]
            what, argv = f"new: {program} --{flag}: {kind}", ["good.npz", f"--{flag}=BAD"]
            yield Case(what, program, argv, prepare=functools.partial(_replace_bad, make))
    for place in ("view", "doctor"):
        argv = ["BAD", "--no_open"] if place == "view" else ["--body=BAD"]
        yield from (each for each in of_place(f"new: {place}", place, argv) if each.what.split(": ")[-1] in FEW)


SURROUNDINGS: tuple[dict[str, str | None], ...] = (
    {"XLA_FLAGS": "nonsense"}, {"XLA_FLAGS": "--xla_nonsense=1"}, {"JAX_PLATFORMS": "nonsense"},
    {"JAX_PLATFORMS": "cuda"}, {"JAX_NUMPY_DTYPE_PROMOTION": "strict"}, {"JAX_NUMPY_DTYPE_PROMOTION": "nonsense"},
    {"JAX_ENABLE_X64": "nonsense"}, {"JAX_NUMPY_RANK_PROMOTION": "raise"}, {"JAX_DEBUG_NANS": "x"},
    {"OMP_NUM_THREADS": "x"}, {"OMP_NUM_THREADS": "-1"}, {"OMP_NUM_THREADS": "99999999999999999999"},
    {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, {"LANG": "C", "PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "utf-16"}, {"HOME": None, "XDG_CACHE_HOME": None}, {"HOME": "/proc"}, {"TMPDIR": "/proc"},
    {"PYTHONWARNINGS": "error"}, {"PYTHONUTF8": "0", "LC_ALL": "C"}, {"TORCH_LOGS": "nonsense"},
    {"WARP_CACHE_PATH": "/proc"},
    {"CUDA_VISIBLE_DEVICES": "nonsense"}, {"PYTHONOPTIMIZE": "2"}, {"COLUMNS": "-5", "LINES": "x"}, {"TERM": None},
)  # fmt: skip


def of_surroundings(short: list[str]) -> Iterator[Case]:
    """A run in odd surroundings, as a program of its own."""
    for env in SURROUNDINGS:
        said = ", ".join(f"{name}={value}" for name, value in env.items())
        argv = [SENTENCE, "--mode=latent", *short, "--workdir=run"]
        yield Case(f"new: {said}", "main", argv, env, fresh=True)


def more(short: list[str]) -> Iterator[Case]:
    """All of the above; `short` are the flags of a short run."""
    yield from of_lines()
    yield from of_control()
    yield from of_characters()
    yield from of_surroundings(short)


def folder_of(name: str, make: Callable[[Path], object], source: Path, home: Path) -> None:
    """A copy of a folder in which one file is bad."""
    target = home / "p"
    for path in source.rglob("*"):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            os.link(path, place)
    replace(target / name, make)
