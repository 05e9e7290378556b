"""The painted appearance: what is where, and that it holds for other bodies."""

import colorsys
from pathlib import Path

import numpy as np
import pytest

from md_jax.body import appearance
from md_jax.body.appearance import paint

BODY = Path(__file__).parents[2] / "md_jax" / "assets" / "body.npz"


@pytest.fixture(scope="module")
def body():
    with np.load(BODY) as file:
        vertices, weights, regressor = (file[name] for name in ("v_template", "weights", "J_regressor"))
        return {
            "v_template": vertices,
            "weights": weights,
            "joints": regressor @ vertices,
            "axes": file["shapedirs"][:, :, :2],
            "regressor": regressor,
            "stored": file["vertex_colors"],
        }


def parts(body):
    """Names of body regions and the vertices in them, from the joint that moves each vertex most."""
    v, joint = body["v_template"], body["weights"].argmax(1)
    eyes = body["joints"][[23, 24], 1].mean()
    return {
        "left arm": joint == 18, "right arm": joint == 19, "left leg": joint == 4, "right leg": joint == 5,
        "left foot": joint == 10, "right foot": joint == 11, "left hand": joint == 28, "right hand": joint == 43,
        "face": (joint == 22) & (v[:, 2] > body["joints"][22, 2] + 0.02),
        "back of the head": (joint == 15) & (v[:, 2] < 0) & (v[:, 1] > eyes),
        "chest": (joint == 9) & (v[:, 2] > 0.1) & (np.abs(v[:, 0]) < 0.1),
        "back": (joint == 9) & (v[:, 2] < -0.05) & (np.abs(v[:, 0]) < 0.1),
    }  # fmt: skip


def check(body, colors):
    mean = {name: colors[part].mean(0) for name, part in parts(body).items()}
    for limb in ("arm", "leg", "foot"):
        hues = [colorsys.rgb_to_hsv(*mean[f"{side} {limb}"])[0] for side in ("left", "right")]
        assert min(abs(hues[0] - hues[1]), 1 - abs(hues[0] - hues[1])) > 0.25, limb
    for one, other in (("face", "back of the head"), ("chest", "back"), ("left arm", "left leg")):
        assert np.linalg.norm(mean[one] - mean[other]) > 0.3, (one, other)
    for skin in ("face", "left hand", "right hand"):
        np.testing.assert_allclose(mean[skin], appearance.SKIN, atol=0.08)


def test_parts_have_their_colours(body):
    colors = paint(body["v_template"], body["weights"], body["joints"])
    assert colors.shape == body["v_template"].shape
    assert colors.dtype == np.float32
    assert colors.min() >= 0
    assert colors.max() <= 1
    check(body, colors)


def test_clothes_mirror_and_torso_is_alike_on_both_sides(body):
    colors = paint(body["v_template"], body["weights"], body["joints"])
    ears = np.abs(body["v_template"][:, 0]) > 0.9 * np.abs(body["v_template"][parts(body)["face"], 0]).max()
    for name in ("face", "back of the head", "chest", "back"):
        part = parts(body)[name] & ~ears
        left, right = (colors[part & (sign * body["v_template"][:, 0] > 0.005)].mean(0) for sign in (1, -1))
        np.testing.assert_allclose(left, right, atol=0.03, err_msg=name)


def test_eyes_are_white_with_a_dark_pupil(body):
    colors = paint(body["v_template"], body["weights"], body["joints"])
    for joint in (23, 24):
        ball = np.flatnonzero(body["weights"][:, joint] > 0.5)
        foremost = ball[body["v_template"][ball, 2].argmax()]
        assert colors[foremost].max() < 0.1
        assert (colors[ball].min(1) > 0.9).any()


@pytest.mark.parametrize("change", ["tall", "short and heavy", "larger, elsewhere", "fewer vertices"])
def test_other_bodies(body, change):
    other = dict(body)
    if change == "fewer vertices":
        kept = np.random.default_rng(0).permutation(len(body["v_template"]))[:6000]
        other |= {name: body[name][kept] for name in ("v_template", "weights")}
    elif change == "larger, elsewhere":
        other["v_template"], other["joints"] = body["v_template"] * 1.1, body["joints"] * 1.1
    else:
        betas = np.array([2.0, 0.0] if change == "tall" else [-2.0, 2.0])
        other["v_template"] = body["v_template"] + body["axes"] @ betas
        other["joints"] = body["regressor"] @ other["v_template"]
    check(other, paint(other["v_template"], other["weights"], other["joints"]))


def test_stored_colours_are_these(body):
    colors = paint(body["v_template"], body["weights"], body["joints"])
    assert np.abs(255 * colors - body["stored"]).max() <= 2


def test_a_body_without_eyeballs_is_painted(body):
    weights = body["weights"].copy()
    weights[:, 15] += weights[:, 23] + weights[:, 24]
    weights[:, [23, 24]] = 0
    assert np.isfinite(paint(body["v_template"], weights, body["joints"])).all()


def test_arrays_that_do_not_belong_together_are_refused(body):
    with pytest.raises(ValueError, match=r"expected v_template .* found .*\(13492, 54\)"):
        paint(body["v_template"], body["weights"][:, :54], body["joints"])
