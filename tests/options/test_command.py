"""The command line: help, positional prompt, old names, and errors of one line with exit code 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from md_jax import main as main_job
from md_jax.config import FIELDS, GROUPS
from md_jax.errors import UserError
from md_jax.options import command
from md_jax.options.flags import as_command

ROOT = Path(__file__).parents[2]


def test_a_sentence_is_the_prompt():
    config, typed = main_job.read_options(["a person is running", "--steps=5"])
    assert (config.prompt, config.steps, config.control_run) == ("a person is running", 5, True)
    assert typed >= {"prompt", "steps"}
    assert main_job.read_options(["--steps=5", "--quick", "a man runs"])[0].control_run is False


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["a", "person", "runs"], 'got 3 words: md-jax "a person runs"'),
        (["a man runs", "--prompt=a man walks"], "two prompts"),
        (["steps=5"], "flags start with --"),
        (["configs/run.flags"], "--flagfile=configs/run.flags"),
        (["--stpes=5"], "unknown flag --stpes: did you mean --steps?"),
        (["--noquikc"], "did you mean --quick"),
        (["--xyzzy"], "--help lists the flags"),
        (["--steps=many"], "--steps takes a whole number, got 'many'"),
        (["--fov=wide"], "--fov takes a number, got 'wide'"),
        (["--rotation=euler"], "--rotation takes one of axis_angle, 6d, got 'euler'"),
        (["--resume=maybe"], "--resume takes true or false, got 'maybe'"),
        (["--steps"], "--steps needs a value"),
        (["--flagfile=nowhere.flags"], r"--flagfile: nowhere.flags cannot be read: No such file"),
        (["--prior=zeroscope"], "--prior=zeroscope does not ship with the program: give --prior_path"),
        (["--quick", "--control_run"], "--quick leaves the control run out"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(argv, message):
    with pytest.raises(UserError) as info:
        main_job.read_options(argv)
    assert message in str(info.value) and "\n" not in str(info.value)


def test_a_resumed_run_is_not_judged_by_the_defaults():
    """Which prior it has, its own run.flags say."""
    config, typed = main_job.read_options(["--resume", "--workdir=x", "--encode_chunk=4"])
    assert config.encode_chunk == 4 and "encode_chunk" in typed


def test_a_broken_flag_file_is_one_line(tmp_path):
    (tmp_path / "a.flags").write_bytes(b"--prompt=caf\xe9\n")
    with pytest.raises(UserError, match="UTF-8"):
        main_job.read_options([f"--flagfile={tmp_path / 'a.flags'}"])


def test_old_names_still_work_and_say_so(tmp_path, capsys):
    (tmp_path / "old.flags").write_text("--sds_weight=0.5\n--nocontrols\n--distillation=bridge\n")
    config, _ = main_job.read_options([f"--flagfile={tmp_path / 'old.flags'}"])
    assert (config.distillation_weight, config.control_run, config.distillation) == (0.5, False, "source")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and all("is now" in line for line in said)
    assert command.typed(["--nocontrols", "--sds_weight", "2"]) >= {"control_run", "distillation_weight"}
    main_job.read_options(["a man runs"])  # the next command line does not hold them
    assert not capsys.readouterr().err


def test_help_is_quick_light_and_grouped():
    code = (
        "import sys, runpy; sys.argv = ['md-jax', '--help']\n"
        "try:\n    runpy.run_module('md_jax.main', run_name='__main__')\n"
        "finally:\n    assert not {'torch', 'jax', 'numpy', 'diffusers'} & set(sys.modules), 'heavy'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    titles = [line for line in done.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == [f"{title}:" for title, _ in GROUPS] and len(titles) == 8
    assert 18 <= done.stdout.count("\n  --") <= 26 and "embedded: 1.5" in done.stdout


def test_helpfull_lists_every_option_and_no_old_name(capsys):
    with pytest.raises(SystemExit) as info:
        main_job.read_options(["--helpfull"])
    assert info.value.code == 0
    said = capsys.readouterr().out
    listed = {line.split()[0].split("=")[0].replace("[no]", "") for line in said.splitlines() if line[:4] == "  --"}
    assert listed == {f"--{name}" for name in FIELDS} | {"--quick", "--timeline"}


@pytest.mark.parametrize("module", ["md_jax.doctor", "md_jax.evaluate", "md_jax.study"])
def test_the_other_programs_speak_the_same(module):
    wrong = subprocess.run([sys.executable, "-m", module, "--no_such=1"], cwd=ROOT, capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: unknown flag --no_such")
    assert wrong.stderr.count("\n") == 1


def test_small_programs():
    options = {
        "quick": (False, "few"),
        "rounds": (3, "how many"),
        "only": ([], "which"),
        "device": (("auto", "cpu"), ""),
    }
    asked = command.parse_simple(
        "Doc.\n\nMore.", "benchmarks.x", ["--quick", "--only=a,b", "f"], rest="files", **options
    )
    assert (asked.quick, asked.rounds, asked.only, asked.device, asked.files) == (True, 3, ["a", "b"], "auto", ["f"])
    with pytest.raises(SystemExit):
        command.parse_simple("Doc.", "benchmarks.x", ["f"], **options)


@pytest.mark.parametrize(
    "argv",
    [
        ["a person is running"],
        ['a man\'s walk, "slow"', "--seed=3", "--quick", "--export_fps=24"],
        ["x", "--mode=latent", "--steps=7", "--azimuths=0,90"],
        ["x", "--posefield=paper", "--prior=zeroscope", "--prior_path=some folder"],
    ],
)
def test_the_command_of_a_config_means_it(argv):
    import shlex

    config, _ = main_job.read_options(argv)
    program, *again = shlex.split(as_command(config))
    assert program == "md-jax" and main_job.read_options(again)[0] == config
