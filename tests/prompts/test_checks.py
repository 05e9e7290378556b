"""Refusals, the line on what was heard, and the text that goes to the prior."""

import json
import re
import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from md_jax.errors import UserError
from md_jax.prompts.checks import PromptError, check_prompt, hear, sentence_for_prior, texts_for_prior
from md_jax.prompts.vocabulary import actions_of_prior, prompt_of_action, shipped

KNOWN = actions_of_prior("embedded")


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("a person is walking", "walking"),
        ("a man is cleaning a big window, from the side", "washing a window, side view; not used: big"),
        ("washing a big dirty window", "washing a window; not used: big, dirty"),
        ("a man walks slowly in a red shirt", "walking; not used: slowly, red, shirt"),
        ("a person is doing a cartwheel, turning over", "doing a cartwheel"),
        ("walks forward and then punches",
         "walking; actions in order: walking, then punching; one sentence shows the first; for all of them put a bar"
         ' between: "a person is walking | a person is punching"; not used: forward'),
        ("a person jumps while punching",
         "jumping; actions at once: jumping and punching; one sentence shows the first; for all of them put a bar"
         ' between: "a person is jumping | a person is punching"'),
    ],
)  # fmt: skip
def test_what_was_heard_by_a_prior_of_closed_vocabulary(sentence, line):
    assert hear([sentence, sentence], KNOWN) == line


@pytest.mark.parametrize(
    ("sentence", "line"),
    [
        ("a man walks slowly, back view", "walking, back view"),
        ("a cat is sleeping", "no action that we know; the prior reads the sentence as it stands"),
        ("un hombre está caminando", "no action that we know; the prior reads the sentence as it stands;"
         " it does not look like English, and only English is read"),
    ],
)  # fmt: skip
def test_what_was_heard_by_an_open_prior(sentence, line):
    assert hear([sentence]) == line


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("a person is dansing", 'knows no action in it. Try "a person is dancing" or'),
        ("a person is runing, side view", 'Try "a person is running, side view" or'),
        ("a man plays footbal", 'Try "a person is playing soccer" or'),
        ("a man is crawling", "the prior does not know crawling. Try"),
        ("", "the prompt is empty. Try"),
        ("un hombre está caminando", "only English is read. Try"),
        ("人が歩いている", "only English is read. Try"),
        ("the of and", "knows no action in it. Try"),
        ("x" * 10000, "xxx...': the prior knows no action in it. Try"),
        ("a man does not walk", "a negation is not understood; say what the person does instead. Try"),
        ("a person is running, not walking", 'instead. Try "a person is running".'),
        ("a man who does not walk but runs", 'instead. Try "a person is running".'),
        ("en man springer", 'only English is read. Try "a person is running" or'),
        ("un hombre camina", 'only English is read. Try "a person is walking" or'),
        ("ein Mann läuft", 'only English is read. Try "a person is running" or'),
        ("une femme danse", 'only English is read. Try "a person is dancing" or'),
        ("a person is wlaking", 'knows no action in it. Try "a person is walking" or'),
        ("a person kneels", 'Try "a person is sitting" or'),
        ("a person does yoga", 'Try "a person is stretching" or'),
        ("a person is fighting", '"a person is sparring"'),
        ("a man kicks", '"a person is sparring"'),
        ("a person waves", '"a person is directing traffic"'),
    ],
)
def test_refusals_are_one_line_with_what_would_work(sentence, found):
    with pytest.raises(PromptError) as info:
        check_prompt(sentence, KNOWN)
    message = str(info.value)
    assert found in message and "\n" not in message and len(message) < 600
    for offered in re.findall('"([^"]+)"', message):
        assert check_prompt(offered, KNOWN).action


def test_an_open_prior_refuses_negations_and_empty_prompts_alone():
    for sentence in ("a man does not walk", "", "  "):
        with pytest.raises(PromptError):
            check_prompt(sentence)
    check_prompt("a cat is sleeping")


@pytest.mark.parametrize(
    ("sentence", "text"),
    [
        ("a person is walking", "a person is walking"),
        ("a boxer is boxing in a gym!", "a boxer is boxing in a gym!"),
        ("a man is washing the window", "a man is washing the window"),
        ("a man is cleaning a big window", "a person is washing a window"),
        ("he strode slowly, seen from behind", "a person is walking, back view"),
        ("he strode, front view or side view", "a person is walking, front view or side view"),
        ("he strode, {view} view", "a person is walking, {view} view"),
        ("she cart-wheeled and did a cart-wheel, turning over", "a person is doing a cartwheel turning over"),
        (f"{'very ' * 30} long way that he walks", "a person is walking"),
    ],
)
def test_the_text_for_a_prior_of_closed_vocabulary(sentence, text):
    assert sentence_for_prior(sentence, KNOWN) == text
    assert sentence_for_prior(sentence) == sentence


def test_every_side_is_read():
    assert texts_for_prior("he strode", KNOWN) == tuple(
        f"a person is walking, {view}" for view in ("front view", "left side view", "back view", "right side view")
    )
    assert texts_for_prior("he strode", KNOWN, view_prompts=False) == ("a person is walking",) * 4


CAPTIONS = [text for name in KNOWN for text in (shipped().entries[name].phrase, *shipped().entries[name].synonyms)]
OTHERS = ["a man", "is", "slowly", "side view", "{view} view", "then", ",", "and", "with a hat", "from the left"]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*CAPTIONS, *OTHERS]), min_size=1, max_size=6).map(" ".join))
def test_what_version_0_1_took_goes_to_the_prior_unchanged(sentence):
    def plain(text):
        return f" {' '.join(w for w in re.findall(r'[a-z0-9]+', text.lower()) if w not in ('a', 'an', 'the'))} "

    words = plain(" ".join(re.findall(r"[a-z0-9]+", sentence)[:20]))
    if any(plain(caption) in words for caption in CAPTIONS):
        assert check_prompt(sentence, KNOWN).action
        assert sentence_for_prior(sentence, KNOWN) == sentence


@settings(max_examples=200, deadline=None)
@given(st.text())
@example("YYS")  # forms of a word of one letter, if there were one
@example("AAS")
def test_nothing_but_the_typed_error_is_raised(text):
    for known in (KNOWN, None):
        try:
            assert "\n" not in hear([text], known)
        except PromptError as error:
            assert "\n" not in str(error)


def test_a_priors_vocabulary_is_read_from_its_folder(tmp_path):
    assert {"walking", "washwindow"} <= set(KNOWN) <= set(shipped().entries)
    assert actions_of_prior("modelscope") is None
    assert actions_of_prior("embedded", str(tmp_path)) is None
    file = tmp_path / "vocabulary.json"
    for value in ({"actions": ["walking"]}, {"walking": ["walk"]}):
        file.write_text(json.dumps(value))
        assert actions_of_prior("embedded", str(tmp_path)) == ("walking",)
    for text in ("{", "[1]"):
        file.write_text(text)
        with pytest.raises(UserError, match=r"vocabulary\.json"):
            actions_of_prior("embedded", str(tmp_path))


def test_plain_sentences_of_actions():
    assert prompt_of_action("washwindow") == "a person is washing a window"
    with pytest.raises(UserError, match="unknown action 'flying'"):
        prompt_of_action("flying")


@pytest.mark.parametrize("flags", ["--prompt=a cat is sleeping", "--prompt=a man does not walk"])
def test_the_command_line_refuses_before_torch_and_jax_load(flags, tmp_path):
    code = (
        "import sys\nfor name in ('torch', 'jax', 'diffusers', 'transformers'): sys.modules[name] = None\n"
        "from md_jax import main\nmain.run()"
    )
    command = [sys.executable, "-c", code, flags, f"--workdir={tmp_path / 'run'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and done.stderr.startswith("error: prompt 'a ") and not done.stdout, done.stderr
    assert not (tmp_path / "run").exists()
