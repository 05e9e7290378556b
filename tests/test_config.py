"""Config and flags: bounds, round trips, errors that name the flag."""

import dataclasses

import pytest
from absl import flags

from md_jax.config import FIELDS, Config, kind_of, prompts
from md_jax.errors import UserError
from md_jax.options.flags import define_flags, from_flagfile, from_flags, to_flagfile


def parse(*argv: str) -> Config:
    values = flags.FlagValues()
    define_flags(values)
    values(["md_jax", *argv])
    return from_flags(values)


def test_defaults_are_the_dataclass_defaults():
    assert parse() == Config()


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        (["--prompt=a man, running = fast"], "prompt", "a man, running = fast"),
        (["--t_min=0.1"], "t_min", (0.1,)),
        (["--azimuths=0,90,-90"], "azimuths", (0.0, 90.0, -90.0)),
        (["--frames=16"], "frames", 16),
        (["--noview_prompts"], "view_prompts", False),
        (["--steps=5", "--steps=7"], "steps", 7),
    ],
)
def test_a_flag_reaches_its_field(argv, name, value):
    assert getattr(parse(*argv), name) == value


@pytest.mark.parametrize(
    "argv",
    [
        ["--frames=1"],
        ["--height=-64"],
        ["--steps=0"],
        ["--num_motions=0"],
        ["--learning_rate=-1"],
        ["--learning_rate=nan"],
        ["--guidance_scale=inf"],
        ["--prompt=   "],
        ["--t_min=0.9", "--t_max=0.5"],
        ["--t_min=0.1,0.2,0.3"],
        ["--t_max="],
        ["--azimuths=left"],
        ["--background=1,1"],
        ["--background=1,1,2"],
        ["--seed=-1"],
        ["--seed=99999999999999999999"],
        ["--steps=3000000000"],
    ],
)
def test_bad_values_name_the_flag(argv):
    with pytest.raises(UserError) as info:
        parse(*argv)
    assert argv[0].split("=")[0] in str(info.value)
    assert "\n" not in str(info.value)


def test_an_unknown_choice_is_refused_by_absl():
    with pytest.raises(flags.IllegalFlagValueError, match="rotation"):
        parse("--rotation=euler")


def test_a_flag_file_loads_back(tmp_path):
    config = Config(
        prompt="a 'man' says \"hi\" # 5, side view",
        t_min=(0.3,),
        elevation=(5.0, 20.0),
        frames=12,
        background=(0.1, 0.2, 1 / 3),
        control_run=False,
        learning_rate=1 / 7,
    )
    (tmp_path / "run.flags").write_text(to_flagfile(config))
    assert from_flagfile(tmp_path / "run.flags") == config


def test_a_flag_file_of_another_version_is_an_error(tmp_path):
    (tmp_path / "run.flags").write_text("--no_such_flag=3\n")
    with pytest.raises(UserError, match=r"run\.flags"):
        from_flagfile(tmp_path / "run.flags")


def test_every_field_has_help_and_a_flag():
    values = flags.FlagValues()
    define_flags(values)
    for field in dataclasses.fields(Config):
        assert field.metadata["help"]
        assert field.name in values


def test_prompts_one_a_line(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# comment\na person is walking\n\n  a man is running  \n")
    assert prompts(Config(prompts_file=str(path))) == ["a person is walking", "a man is running"]
    assert prompts(Config(prompt=" x ", num_motions=3)) == ["x"] * 3


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf"), 1e300])
def test_every_number_is_checked_before_it_is_used(number):
    """What is made of several, as the steps of the seconds, comes after that."""
    names = [name for name in FIELDS if kind_of(name)[0] is float]
    assert {"seconds", "fps", "learning_rate"} <= set(names)
    for name in names:
        try:
            Config(**{name: number})
        except UserError as error:
            assert name in str(error)
        else:
            assert number == 1e300, name


@pytest.mark.parametrize("text", [None, "\n# only a comment\n"])
def test_a_bad_prompts_file_is_an_error(tmp_path, text):
    path = tmp_path / "prompts.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match="prompts_file"):
        prompts(Config(prompts_file=str(path)))
