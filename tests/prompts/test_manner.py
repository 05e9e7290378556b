"""How an action is done, in the phrases that a prior's captions have."""

import collections

import pytest

from md_jax.prompts.checks import hear, sentence_for_prior
from md_jax.prompts.manner import draw_moment, manner_of

KNOWN = ("slowly", "quickly", "turning left", "turning right", "with the left hand", "with the right hand",
         "with the left foot", "with the right foot")  # fmt: skip
ACTIONS = ("walking", "punching", "soccer")


@pytest.mark.parametrize(
    ("sentence", "phrases"),
    [
        ("an old man walks slowly to the left", ["slowly", "turning left"]),
        ("a person is punching with his right fist", ["with the right hand"]),
        ("a woman walks fast, left side view", ["quickly"]),
        ("he plays soccer with the left leg", ["with the left foot"]),
        ("a person is walking", []),
        ("a person is walking, not too fast", []),
        ("a person walks, never fast", []),
        ("he isn't quick but walks slowly", ["slowly"]),
        ("he walks from left to right", []),
        ("he throws a right uppercut", ["with the right hand"]),
        ("a person walks on the right, from the right", ["turning right"]),
    ],
)
def test_phrases_of_a_sentence(sentence, phrases):
    assert list(manner_of(sentence, KNOWN)) == phrases
    assert manner_of(sentence, ()) == {}


def test_a_prior_gets_its_own_caption_and_the_rest_is_called_unused():
    sentence = "an old man walks slowly to the left"
    assert sentence_for_prior(sentence, ACTIONS, KNOWN) == "a person is walking slowly turning left"
    assert sentence_for_prior(sentence, ACTIONS) == sentence  # another prior gets it as it stands
    assert hear([sentence], ACTIONS, KNOWN) == "walking slowly turning left; not used: old"
    assert hear([sentence], ACTIONS) == "walking; not used: old, slowly, left"
    assert hear(["a man turns left while walking"], ACTIONS, KNOWN) == "walking turning left"


def test_a_seed_draws_moments_by_their_shares():
    drawn = [draw_moment("walking", (0.5, 0.0, 0.25, 0.25), seed, motion) for seed in range(20) for motion in range(20)]
    counts = collections.Counter(drawn)
    assert set(counts) == {f"moment walking{k}" for k in (1, 3, 4)} and 160 < counts["moment walking1"] < 240
    assert draw_moment("jump_up", (0.5, 0.5), 3, 1) == draw_moment("jump_up", (0.5, 0.5), 3, 1)
    assert draw_moment("jump_up", (1.0,), 3) == "moment jumpup1"  # one word, as captions have it
    assert draw_moment("walking", (), 0, 0) == ""
