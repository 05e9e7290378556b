"""The prior in the principal components of its frames: the codec, the denoiser, training, and the export."""

import json

import numpy as np
import pytest
import torch

from bridge.priors import load_prior
from bridge.priors.eigenframes import EigenFrames, FrameDenoiser
from tests.tiny_priors import ACTIONS
from tests.tiny_priors import SETTINGS as PACKED
from tools import prior_sheet, prior_text, prior_words, train_frames

COMPONENTS = 6
SETTINGS: dict = {key: value for key, value in PACKED.items() if key != "frame_packing"}


def random_codec(size=8):
    torch.manual_seed(0)
    codec = EigenFrames(COMPONENTS, size, size)
    codec.basis.data = torch.linalg.qr(torch.randn(3 * size * size, COMPONENTS)).Q.T
    codec.mean.data, codec.scale.data = 0.1 * torch.randn(3 * size * size), torch.rand(COMPONENTS) + 0.5
    return codec


def test_the_codec_is_the_identity_on_its_own_space():
    codec, z = random_codec(), torch.randn(5, COMPONENTS, 1, 1)
    torch.testing.assert_close(codec.encode(codec.decode(z).sample).latents, z, atol=1e-5, rtol=1e-5)


def test_components_are_those_of_the_pictures(monkeypatch):
    """Pictures made of three known patterns are kept whole by three components, whose coordinates spread evenly."""
    monkeypatch.setattr(train_frames, "PIXEL_ROWS", 500)
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(3, 8 * 8 * 3))
    frames = 128 + rng.normal(size=(40, 4, 3)) * [12, 6, 3] @ patterns
    pixels = frames.clip(0, 255).round().astype(np.uint8).reshape(40, 4, 8, 8, 3)
    codec = train_frames.fit_components(pixels, np.arange(40), 3)
    z = train_frames.encode(codec, pixels).float()
    back = codec.decode(z.reshape(-1, 3, 1, 1)).sample.flatten(1)
    truth = train_frames.flat(pixels.reshape(-1, 8, 8, 3))
    assert (back - truth).square().mean() < 0.01 * truth.var()
    assert 0.7 < z.reshape(-1, 3).square().mean() < 1.4
    assert z.reshape(-1, 3).std(0)[0] > z.reshape(-1, 3).std(0)[2]


def test_an_untrained_denoiser_gives_back_what_its_gate_lets_through():
    torch.manual_seed(0)
    network = FrameDenoiser(frames=4, components=COMPONENTS, width=16, depth=2, condition=8, text=5)
    z, hidden = torch.randn(3, COMPONENTS, 4, 1, 1), torch.randn(3, 7, 5)
    network.leave.bias.data.zero_()
    out = network(z, torch.tensor([1.0, 500.0, 999.0]), hidden).sample
    gate = (out / z)[:, :, :, 0, 0]
    torch.testing.assert_close(gate, gate[:, :, :1].expand_as(gate), atol=1e-4, rtol=1e-4)  # the same for all frames
    again = network(z, torch.tensor([1.0, 500.0, 999.0]), hidden.flip(2)).sample
    assert (again - out).abs().max() > 1e-6  # the text matters


@pytest.fixture
def data(tmp_path):
    """Twelve clips of noise in the layout of tools.prior_scenes."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shape = [SETTINGS["frames"], SETTINGS["height"], SETTINGS["width"], 3]
    rng.integers(0, 255, (12, *shape), np.uint8).tofile(folder / "clips.u8")
    words = {"side": "", "tempo": "slowly", "turn": "", "text": "walk"}
    np.savez(folder / "clips.npz", action=np.arange(12) % 2, azimuth=rng.uniform(0, 6.28, 12), moment=np.arange(12) % 3,
             held_out=np.arange(12) >= 9, **{k: np.repeat(v, 12) for k, v in words.items()})  # fmt: skip
    moments = {name: {"moments": 3, "side": ""} for name in ACTIONS}
    meta = {"actions": list(ACTIONS), "shape": shape, "settings": SETTINGS, "moments": moments}
    (folder / "meta.json").write_text(json.dumps(meta))
    (tmp_path / "actions.json").write_text(json.dumps(ACTIONS))
    return tmp_path


def arguments(monkeypatch, data, steps):
    words = (
        f"--data {data}/data --out {data}/out --actions_file {data}/actions.json --components {COMPONENTS} --width 16"
    )
    monkeypatch.setattr(train_frames, "PIXEL_ROWS", 60)
    monkeypatch.setattr("sys.argv", ["train_frames", *words.split(), *f"--depth 1 --batch 4 --steps {steps}".split()])
    return train_frames.parse_args()


def test_training_goes_on_where_it_stopped_and_exports_a_prior(monkeypatch, data, capsys):
    train_frames.train(arguments(monkeypatch, data, 2))
    before = torch.load(data / "out" / "resume.pt", weights_only=True)
    train_frames.train(arguments(monkeypatch, data, 4))
    after = torch.load(data / "out" / "resume.pt", weights_only=True)
    assert (before["step"], after["step"]) == (2, 4) and "resumed at step 2" in capsys.readouterr().out

    prior = load_prior("embedded", str(data / "out" / "prior"))
    frames, height, width = SETTINGS["frames"], SETTINGS["height"], SETTINGS["width"]
    assert prior.spec.latent_shape == (COMPONENTS, frames, 1, 1)
    texts = prior.embed(["a person is walking, moment 2 of 3, side view"]).pair(torch.zeros(1).long())
    video = prior_sheet.sample(prior, texts, scale=2.0, steps=2)
    assert video.shape == (1, 3, frames, height, width) and torch.isfinite(video).all()
    z = prior.encode(video)
    torch.testing.assert_close(prior.encode(prior.decode(z)), z, atol=0.3, rtol=0.1)  # decode clips at black and white
    g = torch.randn_like(z)
    moved = (prior.encode(video + 1e-2 * prior.encode_vjp(video, g)) - z) / 1e-2
    assert (moved * g).sum() > 0


def test_the_tokenizer_knows_every_moment():
    tokenizer = prior_text.make_tokenizer(ACTIONS, prior_words.WORDS, prior_words.LENGTH)
    last = prior_words.moment_phrase(prior_words.MOST_MOMENTS - 1, prior_words.MOST_MOMENTS)
    assert tokenizer.unk_token_id not in tokenizer(last).input_ids
