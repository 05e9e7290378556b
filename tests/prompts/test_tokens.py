"""Words of a sentence, and the forms of English words."""

import pytest

from md_jax.prompts.tokens import bases_of, tokens_of


@pytest.mark.parametrize(
    ("sentence", "tokens"),
    [
        ("A man's walk-through, isn’t it?", ["a", "man's", "walk", "through", ",", "isn't", "it", "?"]),
        ("directing_traffic 3D", ["directing", "traffic", "3", "d"]),
        ("人 étage", ["人", "étage"]),
        ("🕺 -- ()", []),
    ],
)
def test_tokens(sentence, tokens):
    assert tokens_of(sentence) == tokens


@pytest.mark.parametrize(
    ("word", "base"),
    [
        ("walks", "walk"), ("walking", "walk"), ("walked", "walk"), ("jogging", "jog"), ("jogged", "jog"),
        ("dancing", "dance"), ("danced", "dance"), ("punches", "punch"), ("boxes", "box"), ("boxing", "box"),
        ("washes", "wash"), ("windows", "window"), ("carries", "carry"), ("carried", "carry"), ("carrying", "carry"),
        ("ran", "run"), ("swung", "swing"), ("spun", "spin"), ("leapt", "leap"), ("playing", "play"),
        ("rolled", "roll"),
    ],
)  # fmt: skip
def test_forms_of_a_word(word, base):
    assert base in bases_of(word)


@pytest.mark.parametrize(
    ("word", "base"),
    [("hoped", "hop"), ("marche", "march"), ("boxe", "box"), ("sing", "s"), ("sidewalk", "walk"), ("red", "r"),
     ("planing", "plan"), ("barred", "bar e")],
)  # fmt: skip
def test_what_is_no_form_of_a_word(word, base):
    assert base not in bases_of(word)
