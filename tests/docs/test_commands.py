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

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"(?:OMP_NUM_THREADS=\d )?(?:\.venv/bin/)?(?:python -m (?:md_jax|benchmarks|tools)|md-jax|make )")


def commands():
    """(page, command) of every line in a fenced block and every inline code that starts a program of ours."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:sh|console|text)?\n(.*?)^```", text, flags=re.M | re.S)
        lines = [line.split("   #")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]
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
    assert len(COMMANDS) > 20


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

    full = resolve.resolve
    monkeypatch.setattr(resolve, "resolve", lambda given, **more: full({**given, "steps": 2}, **more))
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "the page", "exec"), {})


TWO_THREADS = """
import os, torch, md_jax
torch.set_num_threads(2)
md_jax.make_motion("a person is walking", seed=3, workdir="library", steps=2, views=1, preview_every=0)
assert torch.get_num_threads() == 2 and "OMP_NUM_THREADS" not in os.environ
"""


def test_make_motion_is_the_command_line(tmp_path):
    """The same options give the same bytes, also in a process that has started torch with several threads."""
    outside = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    outside["PYTHONPATH"] = str(ROOT)
    run = functools.partial(subprocess.run, cwd=tmp_path, env=outside, check=True, capture_output=True)
    run([sys.executable, "-c", TWO_THREADS])
    flags = ["--seed=3", "--quick", "--steps=2", "--views=1", "--preview_every=0", "--workdir=typed"]
    run([sys.executable, "-m", "md_jax", "a person is walking", *flags])
    made, typed = (tmp_path / name / "motion.npz" for name in ("library", "typed"))
    assert made.read_bytes() == typed.read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"prompts_file": "x"}, "make_motion takes the sentences themselves"),
        ({"num_motions": 4}, "makes one motion, got num_motions=4"),
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
NEEDS_MORE = ("tools.", "benchmarks.gpu", "--size=full", "--minutes", "--cells", "--body=/path", "--statistics=FOLDER",
              "--live")  # fmt: skip


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "run"
    command = [sys.executable, "-m", "md_jax", "a person is walking", "--steps=20", f"--workdir={folder}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tiny_folders(tmp_path_factory):
    from tests.bridge.priors import tiny_priors

    root = tmp_path_factory.mktemp("priors")
    return {"modelscope": str(tiny_priors.video_folder(root / "video"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "command"),
    [pair for pair in COMMANDS if words_of(pair[1])[0] != "make" and not any(part in pair[1] for part in NEEDS_MORE)],
    ids=lambda value: value[:60],
)
def test_every_command_runs(page, command, run_folder, tiny_folders, tmp_path, monkeypatch):
    program, words = words_of(command)
    if "FOLDER" in command or "model.ckpt" in command:
        name = next(
            (m.group(1) for word in words if (m := re.match(r"--(?:prior|flagfile)=(?:configs/)?(\w+)", word))), ""
        )
        if name not in tiny_folders:
            pytest.skip(f"tests/bridge/priors/test_prior_runs.py runs the main job on {name or 'this prior'}")
        words = [word.replace("FOLDER", tiny_folders[name]) for word in words]
        words += ["--frames=3", "--height=32", "--width=32"]
    swaps = {"RUN": str(run_folder), "FILE": str(tmp_path / "file"), "DATE": "today"}
    words = [re.sub(r"\b(RUN|FILE|DATE)\b", lambda m: swaps[m.group(1)], word) for word in words]
    words = [re.sub(r"runs/0001-[\w-]+", str(run_folder), word) for word in words]
    resumed = "--resume" in words
    words += [] if resumed or "--help" in words else SHORTER.get(program, [])
    if program in ("md_jax", "md_jax.main", "md_jax.study") and not any(w.startswith("--workdir") for w in words):
        words.append(f"--workdir={tmp_path / 'out'}")
    if program.startswith("benchmarks.") and "--quick" in flags_of_words(program):
        words.append("--quick")
    words = [
        word.replace("docs/images/", f"{tmp_path}/").replace("benchmarks/results/", f"{tmp_path}/") for word in words
    ]
    done = subprocess.run(
        [sys.executable, "-m", program, *words], cwd=ROOT, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]


def flags_of_words(program):
    return {f"--{name}" for name in flags_of(program)}
