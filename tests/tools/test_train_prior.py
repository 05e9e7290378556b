"""The embedded prior's training: captions, the tokenizer, and a few steps that stop, go on and export."""

import json
import math
import random

import numpy as np
import pytest
import torch

from bridge.priors import load_prior
from bridge.priors.embedded.files import SCHEDULE
from bridge.priors.embedded.frames import Shape
from bridge.priors.embedded.network import alphas_cumprod
from bridge.priors.embedded.words import PADDING
from md_jax.prompts.reading import read_prompt
from md_jax.prompts.vocabulary import shipped
from tests.bridge.priors.tiny_priors import ACTIONS, OWN
from tools import prior_autoencoder, prior_sheet, prior_text, train_prior
from tools.prior_clips import AUTOENCODER, LATENTS


def test_captions_name_their_action_and_never_a_wrong_view():
    rng = random.Random(0)
    vocabulary = shipped().only(tuple(ACTIONS))
    named = 0
    for i in range(400):
        name = rng.choice(list(ACTIONS))
        azimuth = 2 * math.pi * i / 400 - math.pi
        how = ["slowly", "with the left hand", "turning right"] if i % 3 else ["", "", ""]
        text = prior_text.caption(name, ACTIONS[name], how, 1 + i % 5, azimuth, rng)
        reading = read_prompt(text, vocabulary)
        assert [heard.action for heard in reading.actions] == [name], text
        arcs = reading.arcs
        named += arcs is not None
        inside = [low <= azimuth + turn <= high for low, high in arcs or [] for turn in (0, 2 * math.pi)]
        assert arcs is None or any(inside), (text, azimuth)
    assert 200 < named < 400  # some say nothing of the view


def test_tokenizer_ignores_case_and_punctuation_and_keeps_unknown_words_apart():
    tokenizer = prior_text.make_tokenizer(ACTIONS, MOMENTS)
    one, other = (tokenizer.encode(text).ids for text in ("A man is WALKING, side view!", "a man is walking side view"))
    assert one == other and len(one) == prior_text.MAX_TOKENS
    ids = tokenizer.encode("zebra walking, moment walking3").ids
    assert ids[0] == prior_text.UNKNOWN and prior_text.UNKNOWN not in ids[1:]
    assert ids[4:] == [PADDING] * (prior_text.MAX_TOKENS - 4)


MOMENTS = {action: 3 for action in ACTIONS}


@pytest.fixture
def data(tmp_path):
    """Eight clips of noise in the layout of tools.prior_data."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = [OWN["frames"], len(OWN["cameras"]), 6]
    rng.normal(size=(8, *shape)).astype(np.float16).tofile(folder / LATENTS)
    prior_autoencoder.save(prior_autoencoder.fit(torch.rand(40, 16, 16, 3), 6), folder / AUTOENCODER)
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
    moments = {action: [0.5, 0.25, 0.25] for action in ACTIONS}
    (folder / "meta.json").write_text(
        json.dumps({"actions": list(ACTIONS), "moments": moments, "shape": shape, "settings": OWN})
    )
    (tmp_path / "actions.json").write_text(json.dumps(ACTIONS))
    return tmp_path


def arguments(data, out, steps):
    words = f"--data {data}/data --out {out} --actions_file {data}/actions.json".split()
    words += f"--width 64 --layers 1 --batch 4 --steps {steps} --threads 1 --lr 1e-3".split()
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
    video = prior.decode(prior_sheet.sample_latents(prior, texts, scale=2.0, steps=2))
    assert video.shape == (1, 3, OWN["frames"], OWN["height"], OWN["width"])
    assert torch.isfinite(video).all()
    assert prior_sheet.sheet(video, zoom=1).size == (OWN["frames"] * OWN["width"], OWN["height"])


def test_an_autoencoder_keeps_the_directions_in_which_pictures_differ():
    """Against numpy's decomposition; and what it leaves out is the smallest part."""
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(3 * 8 * 8, 5, generator=draw))[0].T
    size = torch.tensor([2.0, 1.0, 0.5, 0.25, 0.01])
    x = 0.1 * torch.randn(400, 5, generator=draw) * size @ axes
    pictures = (0.5 + x / 2).unflatten(1, (3, 8, 8)).permute(0, 2, 3, 1)
    found = prior_autoencoder.fit(pictures, 4)
    latents = prior_autoencoder.encode(found, pictures)
    back = found.decode(latents[..., None, None]).movedim(1, -1) / 2 + 0.5
    assert (back - pictures).square().mean() < 1e-3 * (pictures - 0.5).square().mean()
    std = latents.std(dim=0, unbiased=False)
    lengths = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False)[:4]
    np.testing.assert_allclose(std / std[0], np.sqrt(lengths / lengths[0]), rtol=1e-3)  # by the root of their own size
    np.testing.assert_allclose(std.square().mean(), 1, rtol=1e-3)


def test_the_loss_of_the_best_linear_guess_is_one():
    """Whatever the time, so all count alike; a network that adds nothing to the guess has it."""
    shape = Shape(4, 2, 6, 64, 1, 1, 10, prior_text.MAX_TOKENS, 8)
    networks, draw = train_prior.Networks(shape), torch.Generator().manual_seed(0)
    std = torch.linspace(2, 0.5, 6)
    networks.first_values(std)
    latents = std * torch.randn(3000, 4, 2, 6, generator=draw)
    noise, tokens = torch.randn(latents.shape, generator=draw), torch.zeros(3000, 24).long()
    for time in (0.05, 0.5, 0.95):
        loss = train_prior.loss_of(
            networks, latents, tokens, torch.full((3000,), time), noise, alphas_cumprod(SCHEDULE)
        )
        assert abs(loss.mean().item() - 1) < 0.02
