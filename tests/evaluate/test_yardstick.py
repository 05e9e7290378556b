"""What ships was made of what ships: digests, accuracy on real motion, and the same training once more."""

import json
from pathlib import Path

import numpy as np
import pytest

from md_jax.evaluate import judges, likeness, reference, yardstick
from md_jax.mocap.clips import split_source
from tools import prior_data


@pytest.fixture(scope="module")
def shipped():
    return yardstick.load_yardstick()


def test_the_shipped_file_fits_the_shipped_motion_capture(shipped):
    """If this fails, the clips have changed: python -m tools.build_yardstick."""
    split = split_source(None, None, reference.HELD_OUT)
    found = {"held_out": reference.digest_of(split.held_out), "train": reference.digest_of(split.train)}
    assert yardstick._read(split) is not None, found
    assert shipped.digests == found
    assert shipped.actions == reference.actions_of(split)


def test_the_shipped_prior_has_seen_nothing_that_is_held_out(shipped):
    """If this fails, the clips or their split have changed, and the prior has to be trained anew."""
    seen = prior_data.split_shipped().train
    card = Path(yardstick.__file__).parents[2] / "bridge" / "priors" / "embedded" / "assets" / "prior.json"
    assert json.loads(card.read_text(encoding="utf-8"))["trained_on"] == reference.digest_of(seen)

    def frames(clips):
        return {(clip.action, pose.tobytes()) for clip in clips for pose in clip.body_pose.round(3)}

    assert frames(shipped.split.train) <= frames(seen) and not frames(shipped.split.held_out) & frames(seen)


def test_other_clips_are_not_judged_by_it(shipped):
    split = shipped.split
    fewer = split._replace(held_out=split.held_out[1:])
    assert yardstick._read(fewer) is None


def test_the_classifier_knows_real_motion_that_it_has_not_seen(shipped):
    """The training side: the classifier has learned from the held-out side alone."""
    right = []
    for a, action in enumerate(shipped.actions):
        others = reference.some_of(shipped.reference(action, "fixed").others, 20).joints
        right.append((judges.probabilities(shipped.classifier, others, shipped.fps).argmax(axis=1) == a).mean())
        assert shipped.real[action] == pytest.approx(right[-1], abs=0.25)
    assert np.mean(right) > 0.55  # of 15 actions; chance is 6 %
    assert shipped.real["walking"] > 0.85 and shipped.real["running"] > 0.85


def test_norms_are_those_of_the_clips(shipped):
    for root in ("fixed", "turning"):
        again = yardstick.norm_of(shipped.reference("punching", root))
        known = shipped.norms[root, "punching"]
        assert (again.how, again.recordings, again.windows) == (known.how, known.recordings, known.windows)
        for name, values in known.held_out.items():
            np.testing.assert_allclose(again.held_out[name], values, rtol=1e-3, atol=1e-4)
        assert (again.spread, again.covered) == pytest.approx((known.spread, known.covered), rel=1e-3)


def test_norms_tell_quantiles_and_ranks(shipped):
    norm = shipped.norms["fixed", "walking"]
    speeds = likeness.EXTENTS["speed"](shipped.reference("walking", "fixed").held_out.joints, 10.0)
    assert norm.at("speed") == pytest.approx(np.median(speeds), rel=1e-3)
    assert norm.rank("speed", np.quantile(speeds, 0.3)) == pytest.approx(0.3, abs=0.02)
    assert (norm.rank("speed", 0.0), norm.rank("speed", 99.0)) == (0, 1)


def test_a_file_is_what_was_saved(shipped, tmp_path, monkeypatch):
    (tmp_path / "assets").mkdir()
    yardstick.save(tmp_path / "assets" / "yardstick.npz", shipped)
    monkeypatch.setattr(yardstick.resources, "files", lambda package: tmp_path)
    again = yardstick._read(shipped.split)
    assert again.norms == shipped.norms and again.real == shipped.real and again.controls == shipped.controls
    for name, weights in shipped.classifier.weights.items():
        np.testing.assert_array_equal(again.classifier.weights[name], weights)


@pytest.mark.slow
def test_the_same_training_gives_the_same_classifier(shipped):
    held = [clip for clip in shipped.split.held_out if clip.action in shipped.actions]
    again = yardstick.train_on(held, shipped.actions)
    windows = reference.some_of(shipped.reference("walking", "fixed").others, 40).joints
    said = [judges.probabilities(classifier, windows, 10.0) for classifier in (again, shipped.classifier)]
    np.testing.assert_allclose(*said, atol=0.1)  # half precision, and the order of sums on another processor
    assert (said[0].argmax(axis=1) == said[1].argmax(axis=1)).mean() > 0.9
