"""A prompt of several sentences: how it is split, and how the seconds are shared out."""

import pytest

from md_jax.errors import UserError
from md_jax.prompts.checks import hear
from md_jax.prompts.parts import Part, joined, parts_of, seconds_of


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("a person is walking", [("a person is walking", None)]),
        ("a clock at 10:30", [("a clock at 10:30", None)]),  # without a bar nothing is read as seconds
        ("walking | punching", [("walking", None), ("punching", None)]),
        ("walking:2 | punching:1.5", [("walking", 2.0), ("punching", 1.5)]),
        ("walking: 2 s|punching : .5 seconds|running", [("walking", 2.0), ("punching", 0.5), ("running", None)]),
    ],
)
def test_parts(prompt, expected):
    assert parts_of(prompt) == tuple(Part(*each) for each in expected)


@pytest.mark.parametrize("prompt", ["walking |", "| walking", "walking || punching", "walking | :2", "|"])
def test_an_empty_part_is_refused(prompt):
    with pytest.raises(UserError, match="empty part"):
        parts_of(prompt)


@pytest.mark.parametrize("seconds", ["0", "601", "1000000"])
def test_seconds_have_bounds(seconds):
    with pytest.raises(UserError, match="between 0 and 600 seconds"):
        parts_of(f"walking: {seconds} | punching")


@pytest.mark.parametrize(
    ("given", "whole", "expected"),
    [
        ([None], None, [1.0]),
        ([None], 4.0, [4.0]),
        ([2.0, None], None, [2.0, 1.0]),
        ([2.0, None, None], 5.0, [2.0, 1.5, 1.5]),
        ([2.0, 3.0], 5.0, [2.0, 3.0]),
    ],
)
def test_parts_without_a_number_share_what_is_left(given, whole, expected):
    assert seconds_of([Part("x", each) for each in given], whole, 1.0) == pytest.approx(expected)


@pytest.mark.parametrize(("given", "whole"), [([2.0, None], 2.0), ([2.0, 3.0], 4.0), ([2.0, 3.0], 6.0)])
def test_parts_that_do_not_fit_are_refused(given, whole):
    with pytest.raises(UserError, match=f"--seconds={whole:g}"):
        seconds_of([Part("x", each) for each in given], whole, 1.0)


def test_the_lines_of_a_timeline_file_are_a_prompt():
    assert [part.sentence for part in parts_of(joined(["walking: 2", "punching"]))] == ["walking", "punching"]


def test_every_part_is_heard_and_a_sentence_of_two_actions_is_offered_as_parts():
    known = ("walking", "punching")
    assert hear(["walking slowly | a person is punching"], known) == "walking; not used: slowly; then punching"
    line = hear(["a person walks forward and then punches"], known)
    assert '"a person is walking | a person is punching"' in line
    with pytest.raises(UserError, match="knows no action"):
        hear(["walking | flying"], known)
