"""What a run was made from: another sentence, file or setting is refused when it is resumed."""

import pytest

from md_jax.config import Config
from md_jax.errors import UserError
from md_jax.run import inputs, workdir

CONFIG = Config(prompt="a person is walking")
PROMPTS = ["a person is walking"]


def check(folder, config=CONFIG, prompts=PROMPTS, surface="0123456789abcdef"):
    told: list[str] = []
    inputs.check_inputs(folder, config, prompts, surface, told.append)
    return told


def test_the_same_inputs_pass_in_silence(tmp_path):
    assert check(tmp_path) == []
    assert check(tmp_path) == []


def test_an_edited_sentence_is_refused(tmp_path):
    check(tmp_path)
    with pytest.raises(UserError, match=r"with 'a person is walking' where .* 'a man'"):
        check(tmp_path, prompts=["a man"])


def test_a_changed_file_is_refused(tmp_path):
    prior = tmp_path / "prior"
    (prior / "unet").mkdir(parents=True)
    (prior / "unet" / "weights").write_bytes(b"one")
    before = inputs.digest(prior)
    (prior / "unet" / "weights").write_bytes(b"onf")
    assert inputs.digest(prior) != before


def test_another_mesh_of_the_body_is_refused(tmp_path):
    check(tmp_path)
    with pytest.raises(UserError, match="begun with another mesh of the body than --detail gives here"):
        check(tmp_path, surface="f" * 16)


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS"])
def test_another_setting_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    check(tmp_path)
    monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match=rf"begun with {name}=1, and it is now '2'"):
        check(tmp_path)


def test_a_flipped_bit_is_told_or_refused(tmp_path):
    check(tmp_path)
    path = tmp_path / "inputs.json"
    data = path.read_bytes()
    for bit in range(0, 8 * len(data), 5):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        assert len(check(tmp_path)) == 1


def test_every_flipped_bit_of_run_flags_is_refused(tmp_path):
    workdir.open_run(Config(prompt="a man [draft] runs", workdir=str(tmp_path / "a[1]")), set())
    path = tmp_path / "a[1]" / "run.flags"
    data = path.read_bytes()
    workdir.check_signed(path)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(flipped))
        with pytest.raises(UserError):
            workdir.check_signed(path)


def test_a_second_line_of_a_prompt_is_no_flag(tmp_path):
    config = Config(prompt="a man\n--steps=1\r\n runs", workdir=str(tmp_path / "r"))
    assert config.prompt == "a man --steps=1 runs"
    workdir.open_run(config, set())
    back, _ = workdir.open_run(Config(workdir=str(tmp_path / "r"), resume=True), set())
    assert back.prompt == config.prompt and back.steps == config.steps


@pytest.mark.parametrize("text", ["a\0b", "a\x1bb", "a\x7fb"])
def test_other_control_characters_are_refused(text):
    with pytest.raises(UserError, match="control character"):
        Config(prompt=text)
