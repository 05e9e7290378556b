"""Every option is read or refused: a table over all fields and modes, checked against what a run really reads."""

import dataclasses

import pytest
from absl import flags
from rich.console import Console

from md_jax import main as main_job
from md_jax.config import FIELDS, Config
from md_jax.errors import UserError
from md_jax.options.combinations import ALWAYS, RULES, unread
from md_jax.options.flags import define_flags, from_flags

READ: set[str] = set()  # fields that somebody has asked a Recording for
# Who reads these is not the run itself: `resolve` before it, `open_run` before it, or the prompt's stand-in.
BEFORE = {"preset", "workdir", "resume"}


class Recording(Config):
    """A Config that notes what is read of it."""

    def __getattribute__(self, name):
        if name in FIELDS:
            READ.add(name)
        return super().__getattribute__(name)


def parse(*argv):
    values = flags.FlagValues()
    define_flags(values)
    values(["md_jax", *argv])
    return from_flags(values)


def test_every_field_is_in_the_table():
    ruled = {name for rule in RULES for name in rule.names}
    assert set(ALWAYS) | ruled == set(FIELDS)
    assert not set(ALWAYS) & ruled


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"mode": "pose"}, marks=pytest.mark.slow),
        {"mode": "latent"},
        {"mode": "fit", "fit_steps": 1, "sample_steps": 2},
    ],
)
def test_a_run_reads_what_the_table_says(changes, tmp_path, monkeypatch):
    """Asked of a real run: no field that counts as read may go unasked for."""
    small = {"steps": 1, "views": 1, "preview_every": 1, "log_every": 1, "device": "cpu", "prompt": "a person runs"}
    config = Recording(**small, **changes)
    READ.clear()
    main_job.run_job(config, tmp_path, Console(quiet=True))
    counts = set(FIELDS) - set(unread(Config(**small, **changes))) - BEFORE
    assert not counts - READ


IN_LATENT = {"detail", "frequencies", "bound", "bound_sigma", "posefield", "reg_weight", "tiny_vae", "encode_chunk",
             "export_fps", "ground", "hands", "up", "seconds", "loop", "pin", "keyframes", "start", "end", "path",
             "avoid", "character"}  # fmt: skip


def test_latent_mode_leaves_the_posefield_aside():
    assert unread(Config(mode="latent")).keys() - unread(Config(mode="pose")).keys() == IN_LATENT - {"encode_chunk"}


def another(name):
    """A legal value of a field that is not its default in the given mode."""
    special = {
        "prompt": "a man runs", "negative_prompt": "x", "source_prompt": "x", "t_min": "0.2", "t_max": "0.7",
        "image_prior_path": "x", "tiny_vae": "x", "bound_sigma": "2", "image_frames": "3", "motion_amp": "2",
        "gender": "male", "oom": "retry", "posefield": "paper", "bound": "clamp", "image_weighting": "one",
        "hands": "flat", "ground": "none", "up": "y", "detail": "full", "loop": "true", "avoid": "true",
        "image_size": "16", "frequencies": "5", "scale_arr": "false", "prior_batch": "3", "encode_chunk": "2",
    }  # fmt: skip
    return special.get(name, "7")


@pytest.mark.parametrize("mode", ["pose", "fit", "latent"])
@pytest.mark.parametrize("name", sorted({name for rule in RULES for name in rule.names}))
def test_an_unread_option_is_refused_when_given(name, mode):
    """With the plainest command: refused by the table, in one line that names the flag, or taken over."""
    argv = [f"--mode={mode}", f"--{name}={another(name)}"]
    if name in unread(parse(f"--mode={mode}")):
        with pytest.raises(UserError, match=f"--(no)?{name} would do nothing here: ") as info:
            parse(*argv)
        assert "\n" not in str(info.value)
    else:
        default = getattr(parse(f"--mode={mode}"), name)
        assert getattr(parse(*argv), name) != default


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--posefield=paper", "--frequencies=5"], "--frequencies would do nothing"),
        (["--image_prior=sd15", "--image_prior_path=x", "--guidance_low=3"], "--guidance_low would do nothing"),
        (["--distillation=csd", "--guidance_scale=0"], "--guidance_scale=0 leaves --distillation=csd nothing"),
        (["--distillation=source", "--negative_prompt=x"], "--negative_prompt would do nothing"),
        (["--guidance_scale=0", "--guidance_low=3"], "--guidance_low would do nothing"),
        (["--prior=sd21"], "makes pictures"),
        (["--noscale_arr"], "--noscale_arr would do nothing"),
        (["--low_vram", "--prior_batch=4"], "--prior_batch would do nothing"),
        (["--device=cpu", "--oom=retry"], "--oom would do nothing"),
        (["--prompts_file=p.txt", "--prompt=a man runs"], "--prompt would do nothing"),
        (["--mode=latent", "--preset=paper"], "is of pose mode"),
    ],
)
def test_what_was_dropped_in_silence(argv, message):
    with pytest.raises(UserError, match=message):
        parse(*argv)


def test_an_option_given_as_it_is_anyway_may_stand():
    assert parse("--mode=latent", "--bound=tanh", "--gender=neutral", "--image_frames=2").mode == "latent"


def test_defaults_are_never_refused():
    for changes in ({}, {"mode": "latent"}, {"posefield": "paper"}, {"low_vram": "true"}, {"device": "cpu"}):
        parse(*(f"--{name}={value}" for name, value in changes.items()))


def test_a_recorded_run_loads_back_whatever_it_reads(tmp_path):
    from md_jax.options.flags import from_flagfile, to_flagfile

    config = dataclasses.replace(Config(mode="latent"), reg_weight=9.0)  # nobody could type that
    (tmp_path / "run.flags").write_text(to_flagfile(config))
    assert from_flagfile(tmp_path / "run.flags") == config
