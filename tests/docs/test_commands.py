"""Commands and Python of README and docs: every flag exists; by `make test-slow` every command runs."""

import functools
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.bridge.priors.test_animatediff import folders  # noqa: F401
from tests.bridge.priors.test_prior_runs import path_of  # noqa: F401
from tests.bridge.priors.test_stable_diffusion import pictures  # noqa: F401
from tests.bridge.priors.test_text_to_video import made  # noqa: F401

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:OMP_NUM_THREADS=\d )?(?:\.venv/bin/)?(?:python -m (?:md_jax|benchmarks|tools)|md-jax|make )")


def commands():
    """(page, command) of every line in a fenced block and every inline code that starts a program of ours."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
        blocks = [block for language, block in fenced if language in ("", "sh", "console", "text")]
        blocks += re.findall(r"(?:^    \S.*\n(?:^    .*\n)*)", text, flags=re.M)  # indented code
        lines = [re.split(r" {2,}#", line)[0] for b in blocks for line in re.sub(r" *\\\n *", " ", b).splitlines()]
        lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
        found += [(page.name, line.strip()) for line in lines if PROGRAM.match(line.strip())]
    return sorted(set(found))


COMMANDS = commands()
PASS_ON = ("benchmarks.optimizers", "benchmarks.motion", "benchmarks.rare")  # take the main job's flags, too


def words_of(command):
    """(program, its words), where a program is a module or "make"."""
    words = [word for word in shlex.split(command) if not re.fullmatch(r"[A-Z_]+=\d+", word)]
    if words[0] == "make":
        return "make", words[1:]
    if words[0].endswith("md-jax"):
        return "md_jax", words[1:]
    return words[2], words[3:]


def test_commands_are_found():
    """In blocks, behind blocks in other languages, indented, and inside sentences."""
    for command in (
        "make run",
        ".venv/bin/md-jax --num_motions=4",
        "python -m md_jax.doctor --prior=wan21 --prior_path=FOLDER",
        "python -m benchmarks.memory",
    ):
        assert command in {found for _, found in COMMANDS}
    assert any("--root=orient --num_motions=6 --nocontrol_run --prompt=" in command for _, command in COMMANDS)
    assert len(COMMANDS) > 40


@cache
def flags_of(module):
    listing = "--help" if module.startswith("tools.") else "--helpfull"
    shown = subprocess.run(
        [sys.executable, "-m", module, listing], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    assert shown.returncode == 0, f"{module} --helpfull: {shown.stderr[-500:]}"
    return set(re.findall(r"--(?:\[no\]|no-)?(\w+)", shown.stdout))


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda value: value[:60])
def test_every_flag_exists(page, command):
    program, words = words_of(command)
    if program == "make":
        target = [word for word in words if "=" not in word]
        done = subprocess.run(["make", "-n", *target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0 or "needs a torch with CUDA" in done.stdout, done.stderr
        return
    named = {match.group(1) for word in words if (match := re.match(r"--(\w+)", word))}
    known = flags_of(program) | (flags_of("md_jax") if program in PASS_ON else set())
    assert all(name in known or name.removeprefix("no") in known for name in named - {"flagfile", "help", "helpfull"})
    for word in words:
        if word.startswith("--flagfile="):
            assert (ROOT / word.partition("=")[2]).is_file(), word


def python_blocks():
    return [
        pytest.param(block, id=f"{page.stem}-{n}")
        for page in PAGES
        for n, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S))
        if "import" in block  # the others are pieces of a module
    ]


@pytest.mark.parametrize("block", python_blocks())
def test_python_of_the_pages_runs(block, tmp_path, monkeypatch):
    from md_jax.options import resolve

    if "from aitviewer" in block:
        pytest.skip("tests/output/test_aitviewer.py runs it, in an environment of its own")
    full = resolve.resolve
    monkeypatch.setattr(
        resolve, "resolve", lambda given, **more: full({"fit_steps": 3, "sample_steps": 3, **given, "steps": 2}, **more)
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "the page", "exec"), {})


TWO_THREADS = """
import os, torch, md_jax
torch.set_num_threads(2)
md_jax.make_motion("a person is walking", seed=3, workdir="library", mode="pose", steps=2, views=1, preview_every=0)
assert torch.get_num_threads() == 2 and "OMP_NUM_THREADS" not in os.environ
"""


@pytest.mark.slow
def test_make_motion_is_the_command_line(tmp_path):
    """The same options give the same bytes, also in a process that has started torch with several threads."""
    outside = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    outside["PYTHONPATH"] = str(ROOT)
    run = functools.partial(subprocess.run, cwd=tmp_path, env=outside, check=True, capture_output=True)
    run([sys.executable, "-c", TWO_THREADS])
    flags = ["--seed=3", "--quick", "--steps=2", "--views=1", "--preview_every=0", "--workdir=typed", "--mode=pose"]
    run([sys.executable, "-m", "md_jax", "a person is walking", *flags])
    called, typed = (tmp_path / name / "motion.npz" for name in ("library", "typed"))
    assert called.read_bytes() == typed.read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompts_file": "x"}, "make_motion takes the sentences themselves"),
        ({"num_motions": 4}, "makes one motion, got num_motions=4"),
        ({"mode": "latent"}, "--mode=latent makes videos, not motions"),
    ],
)
def test_what_make_motion_refuses(options, said):
    import md_jax

    with pytest.raises(md_jax.UserError, match=said):
        md_jax.make_motion("a person is walking", **options)


# --- slow: everything runs -----------------------------------------------------------------------------------------

SHORTER = {
    "md_jax": ["--steps=2", "--quick", "--preview_every=0"],
    "md_jax.main": ["--steps=2", "--nocontrol_run", "--preview_every=0"],
    "md_jax.study": ["--steps=2", "--nocontrol_run", "--preview_every=0", "--noevaluate"],
}
QUICK = {**os.environ, "PYTHONPATH": str(ROOT)}
CELL = "short | --steps=2 --views=1 --preview_every=0\n"
# What would take hours, or data that nobody ships: the words of the command, and those that run in their place.
INSTEAD = {
    "--size=full": ["--quick"],
    "--minutes=110": ["--quick"],
    "--data=DATA": ["--help"],  # tests/benchmarks/test_rare.py trains its priors
}


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "run"
    command = [sys.executable, "-m", "md_jax", "a person is walking", "--steps=20", f"--workdir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def character(tmp_path_factory):
    from tests.retarget.characters import NAMINGS, write_character

    return write_character(tmp_path_factory.mktemp("character") / "hero.glb", NAMINGS["mixamo"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    sorted(
        {
            command.removeprefix(".venv/bin/")
            for _, command in COMMANDS
            if words_of(command)[0] != "make" and "--live" not in command
        }
    ),  # tests/view/test_live.py watches a run
    ids=lambda value: value[:60],
)
def test_every_command_runs(command, run_folder, character, path_of, tmp_path):  # noqa: F811
    """With few steps, small pictures and small priors of random weights."""
    program, words = words_of(command)
    full = flags_of(program)
    for given, instead in INSTEAD.items():
        if given in words:
            words = instead
    named = [m[1] for word in words if (m := re.match(r"--(?:prior|flagfile)=(?:configs/)?(\w+)", word))]
    path = next((word for word in words if word.startswith("--prior_path=")), None)
    if path is not None:
        words = [f"--prior_path={path_of(named[0])}" if word == path else word for word in words]
        words += ["--frames=3", "--height=32", "--width=32"]
    if program == "tools.convert_videocrafter":
        words = [str(path_of("videocrafter2")), str(tmp_path / "converted")]
    if program == "tools.build_yardstick":
        words = [*words, f"--out={tmp_path / 'yardstick.npz'}"]
    if program == "benchmarks.motion":
        (tmp_path / "cells.txt").write_text(CELL)
        words = [*words, f"--cells={tmp_path / 'cells.txt'}", "--seeds=0", "--actions=walking"]
    if "--timeline=FILE" in words:
        (tmp_path / "file").write_text("a person is walking: 1\na person is punching: 1\n")
    if program == "benchmarks.optimizers":
        words = [*words, f"--out={tmp_path / 'optimizers'}"]
    if "quick" in full and program.startswith("benchmarks.") and "--quick" not in words:
        words = [*words, "--quick"]
    words = [re.sub(r"\bCHARACTER\b", str(character.with_suffix("")), word) for word in words]
    for name in ("RUN1", "RUN2", "RUN", "runs/0001-[\\w-]+"):
        words = [re.sub(rf"^{name}$|(?<==){name}$", str(run_folder), word) for word in words]
    words = [
        re.sub(r"\b(FILE|RUNS)\b", lambda m: str(tmp_path / m[1].lower()), word) for word in words if word != "..."
    ]
    if not {"--resume", "--help"} & set(words):
        words += SHORTER.get(program, [])
    if program in ("md_jax", "md_jax.main", "md_jax.study") and f"--workdir={run_folder}" not in words:
        words = [*(word for word in words if not word.startswith("--workdir=")), f"--workdir={tmp_path / 'out'}"]
    command_line = [sys.executable, "-m", program, *words]
    done = subprocess.run(command_line, cwd=ROOT, capture_output=True, text=True, timeout=1800, env=QUICK)
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
