"""The embedded prior's training: captions, the tokenizer, and a few steps that stop, go on and export."""

import json
import math
import random

import numpy as np
import pytest
import torch

from bridge.priors import load_prior
from md_jax.prompts.reading import read_prompt
from md_jax.prompts.vocabulary import shipped
from tests.bridge.priors.tiny_priors import ACTIONS, MOMENTS
from tests.bridge.priors.tiny_priors import TWO_CAMERAS as SETTINGS
from tools import prior_sheet, prior_text, train_prior


def test_captions_name_their_action_and_never_a_wrong_view():
    rng = random.Random(0)
    vocabulary = shipped().only(tuple(ACTIONS))
    named = 0
    for i in range(400):
        name = rng.choice(list(ACTIONS))
        azimuth = 2 * math.pi * i / 400 - math.pi
        how = ["slowly", "with the left hand", "turning right"] if i % 3 else ["", "", ""]
        text = prior_text.caption(ACTIONS[name], how, 1 + i % 5, azimuth, rng)
        reading = read_prompt(text, vocabulary)
        assert [heard.action for heard in reading.actions] == [name], text
        arcs = reading.arcs
        named += arcs is not None
        inside = [low <= azimuth + turn <= high for low, high in arcs or [] for turn in (0, 2 * math.pi)]
        assert arcs is None or any(inside), (text, azimuth)
    assert 200 < named < 400  # some say nothing of the view


def test_tokenizer_ignores_case_and_punctuation_and_keeps_unknown_words_apart():
    tokenizer = prior_text.make_tokenizer(ACTIONS)
    assert tokenizer("A man is WALKING, side view!").input_ids == tokenizer("a man is walking side view").input_ids
    ids = tokenizer("zebra walking").input_ids
    assert ids[1] == tokenizer.unk_token_id and tokenizer.unk_token_id not in ids[2:]


@pytest.fixture
def data(tmp_path):
    """Eight clips of noise in the layout of tools.prior_data."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = [SETTINGS["frames"], SETTINGS["height"], SETTINGS["width"], 3]
    rng.integers(0, 255, (8, *shape), np.uint8).tofile(folder / "clips.u8")
    np.savez(
        folder / "clips.npz",
        action=np.arange(8) % 2,
        azimuth=rng.uniform(0, 6.28, 8),
        held_out=np.arange(8) >= 6,
        moment=1 + np.arange(8) % 3,
        manner=np.array(["", "slowly"] * 4),
        side=np.array(["", "with the left hand"] * 4),
        turn=np.array(["", "turning left"] * 4),
    )
    (folder / "meta.json").write_text(
        json.dumps({"actions": list(ACTIONS), "moments": MOMENTS, "shape": shape, "settings": SETTINGS})
    )
    (tmp_path / "actions.json").write_text(json.dumps(ACTIONS))
    return tmp_path


def arguments(data, out, steps):
    words = f"--data {data}/data --out {out} --actions_file {data}/actions.json --actions walking,washwindow".split()
    words += f"--widths 16,16 --batch 4 --steps {steps} --threads 1 --device cpu --lr 1e-3".split()
    return train_prior.parse_args(words)


def test_training_goes_on_where_it_stopped_and_exports_a_prior(data, capsys):
    train_prior.train(arguments(data, data / "out", 2))
    before = torch.load(data / "out" / "resume.pt", weights_only=True)
    train_prior.train(arguments(data, data / "out", 3))
    after = torch.load(data / "out" / "resume.pt", weights_only=True)
    assert (before["step"], after["step"]) == (2, 3)
    assert "resumed at step 2" in capsys.readouterr().out
    assert any((before["networks"][k] != after["networks"][k]).any() for k in before["networks"])

    prior = load_prior("embedded", str(data / "out" / "prior"))
    texts = prior.embed(["a person is walking, side view"]).pair(torch.zeros(1).long())
    video = prior_sheet.sample(prior, texts, scale=2.0, steps=2)
    assert video.shape == (1, 3, SETTINGS["frames"], SETTINGS["height"], SETTINGS["width"])
    assert torch.isfinite(video).all()
    assert prior_sheet.sheet(video, zoom=1).size == (SETTINGS["frames"] * SETTINGS["width"], SETTINGS["height"])
