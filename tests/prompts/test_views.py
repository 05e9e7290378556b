"""The table of views, and sentences as they read from every side."""

import math

import pytest

from md_jax.prompts.views import VIEWS, arcs_of, as_seen, azimuth_arcs, names_of_quarters, view_of

DEGREE = math.pi / 180


@pytest.mark.parametrize(
    ("degrees", "phrase"),
    [
        (0, "front view"),
        (44, "front view"),
        (46, "left side view"),
        (90, "left side view"),
        (180, "back view"),
        (-180, "back view"),
        (270, "right side view"),
        (-90, "right side view"),
        (359, "front view"),
        (725, "front view"),
    ],
)
def test_view_of(degrees, phrase):
    assert view_of(degrees * DEGREE).name == phrase


def test_names_and_arcs_agree():
    for view in VIEWS:
        ((low, high),) = azimuth_arcs(f"a man, {view.name}")
        assert view_of((low + high) / 2) is view
        assert (low, high) == pytest.approx((view.azimuth - 45 * DEGREE, view.azimuth + 45 * DEGREE))


def test_captions_name_their_own_view():
    for view in VIEWS:
        for caption in view.captions:
            assert view.arc in azimuth_arcs(f"a man is walking, {caption}"), caption


def test_cameras_stand_where_the_sentence_says_and_wins_what_is_given():
    circle, back = arcs_of(["a man walks", "a man walks, back view"])
    assert circle == [(-math.pi, math.pi)] and back == azimuth_arcs("back view")
    assert arcs_of(["a man walks, back view"] * 2, (90.0,)) == [[(pytest.approx(math.pi / 2),) * 2]] * 2


def test_both_sides_together_are_the_side_view():
    assert names_of_quarters((1, 3)) == ["side view"]
    assert names_of_quarters((0, 3)) == ["front view", "right side view"]
    assert names_of_quarters(()) == []


@pytest.mark.parametrize(
    ("sentence", "seen"),
    [
        ("a man walks.", [f"a man walks, {name}" for name in
                          ("front view", "left side view", "back view", "right side view")]),
        ("a shot of {view} view of a man", [f"a shot of {place} view of a man" for place in
                                            ("front", "side", "back", "side")]),
        ("a man walks, side view.", ["a man walks, side view."] * 4),
    ],
)  # fmt: skip
def test_a_sentence_reads_from_every_side(sentence, seen):
    assert list(as_seen(sentence)) == seen
    assert list(as_seen(sentence, view_prompts=False)) == (seen if "{view}" in sentence else [sentence] * 4)


def test_given_azimuths_stand_in_the_view_that_a_sentence_names_where_any_do():
    cross = (0.0, 90.0, 180.0, 270.0)
    sentences = ["a person walks, side view", "a person walks", "a person walks, front view"]
    degrees = [[math.degrees(low) for low, _ in arcs] for arcs in arcs_of(sentences, cross)]
    assert degrees == [[90, 270], [*cross], [0]]
    assert arcs_of(["a person walks, front view"], (90.0,)) == [[(math.pi / 2, math.pi / 2)]]
