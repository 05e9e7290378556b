"""The embedded prior's training: captions, the tokenizer, and a few steps that stop, go on and export."""

import json
import math
import random
import sys
from importlib import resources

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from bridge.priors import load_prior
from bridge.priors.embedded.autoencoder import Autoencoder
from bridge.priors.embedded.frames import Shape, cosines
from bridge.priors.embedded.text import PADDING
from bridge.priors.schedule import cosine_table
from md_jax.evaluate import measures
from md_jax.prompts.reading import read_prompt
from md_jax.prompts.vocabulary import shipped
from tests.bridge.priors.tiny_priors import ACTIONS, OWN
from tools import prior_components, prior_sheet, prior_text, train_autoencoder, train_gait, train_prior
from tools.prior_clips import COMPONENTS, POSES


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
    """Eight clips of noise in the layout of tools.prior_data, and an autoencoder."""
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    filmed = [OWN["frames"], len(OWN["cameras"]), 6]
    rng.normal(size=(8, *filmed)).astype(np.float16).tofile(folder / COMPONENTS)
    prior_components.save(prior_components.fit(torch.rand(40, 16, 16, 3), 6), folder / prior_components.FILE)
    poses = {"root_orient": (3,), "body_pose": (21, 3), "transl": (3,)}
    drawn = {name: rng.normal(size=(4, filmed[0], *size)).astype(np.float32) for name, size in poses.items()}
    np.savez(folder / POSES, **drawn)
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
        json.dumps({"actions": list(ACTIONS), "moments": moments, "filmed": filmed, "settings": OWN})
    )
    (tmp_path / "actions.json").write_text(json.dumps(ACTIONS))
    words = f"--data {folder} --hidden 8 --batch 4 --steps 3 --threads 1".split()
    train_autoencoder.train(train_autoencoder.parse_args(words))
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


def test_components_are_the_directions_in_which_pictures_differ():
    """Against numpy's decomposition; and what they leave out is the smallest part."""
    draw = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(3 * 8 * 8, 5, generator=draw))[0].T
    size = torch.tensor([2.0, 1.0, 0.5, 0.25, 0.01])
    x = 0.1 * torch.randn(400, 5, generator=draw) * size @ axes
    pictures = (0.5 + x / 2).unflatten(1, (3, 8, 8)).permute(0, 2, 3, 1)
    linear = prior_components.fit(pictures, 4)
    found = prior_components.components(linear, pictures)
    rows = linear["axes"].flatten(1)
    back = (found / rows.square().sum(1) @ rows).unflatten(1, (3, 8, 8)) + linear["mean"]
    back = back.movedim(1, -1) / 2 + 0.5
    assert (back - pictures).square().mean() < 1e-3 * (pictures - 0.5).square().mean()
    std = found.std(dim=0, unbiased=False)
    lengths = np.linalg.svd((x - x.mean(0)).numpy(), compute_uv=False)[:4]
    np.testing.assert_allclose(std / std[0], np.sqrt(lengths / lengths[0]), rtol=1e-3)  # by the root of their own size
    np.testing.assert_allclose(std.square().mean(), 1, rtol=1e-3)


def test_joints_are_where_the_yardstick_has_them():
    rng = np.random.default_rng(0)
    pose, root = rng.normal(size=(5, 21, 3)).astype(np.float32), rng.normal(size=(5, 3)).astype(np.float32)
    turns = torch.from_numpy(measures.matrices(np.concatenate([root[:, None], pose], axis=1)))
    expected = measures.joints(pose, root) - measures.rest_joints()[0]
    np.testing.assert_allclose(train_autoencoder.joints_of(turns), expected, atol=1e-5)


def test_a_frame_s_pose_is_as_its_camera_sees_it(data):
    """A body that turns with its camera looks the same to it."""
    source = train_autoencoder.Source(data / "data")
    clip, frame = np.array([0, 3, 7]), np.array([0, 1, 3])
    found = source.of(clip, frame)
    np.testing.assert_allclose(train_autoencoder.joints_of(found.rotations), found.joints, atol=1e-5)
    poses = np.load(data / "data" / POSES)
    for row, (c, f) in enumerate(zip(clip, frame, strict=True)):
        seen = Rotation.from_matrix(found.rotations[row, 0].numpy().astype(float)).inv()
        there = Rotation.from_rotvec(poses["root_orient"][c // 2, f].astype(float))
        np.testing.assert_allclose((there * seen).as_rotvec(), [0, _wrapped(source.azimuth[c]), 0], atol=1e-4)


def _wrapped(angle):
    return (angle + math.pi) % (2 * math.pi) - math.pi


def test_the_gait_is_learned_from_velocities_as_the_body_heads(data, monkeypatch, tmp_path):
    """Against SciPy, from what the autoencoder reads; and a few steps write a file that the program reads."""
    read = train_gait.Read(data / "data")
    x, y = read.of(np.array([1, 6]), 10.0, 0.0)
    assert x.shape == (2 * 2, 189) and y.shape == (2 * 2, 2)
    turns, _ = read.net.read(torch.from_numpy(read.latents[6, 1:2]).float())
    seen = turns[0, 0].numpy()  # by a camera at the clip's azimuth
    heading = np.arctan2(seen[0, 2], seen[2, 2]) + read.source.azimuth[6]
    velocity = (read.transl[3, 2] - read.transl[3, 0]) * 5 * [1, 0, 1]
    aside, _, ahead = Rotation.from_euler("y", -heading).apply(velocity)
    np.testing.assert_allclose(y[2], [aside, ahead], atol=1e-4)

    monkeypatch.setattr(train_gait, "STEPS", 2)
    file = tmp_path / "gait.npz"
    monkeypatch.setattr(sys, "argv", ["train_gait", f"--data={data / 'data'}", f"--out={file}"])
    train_gait.main()
    shipped = np.load(resources.files("md_jax.assets").joinpath("gait.npz"))
    written = np.load(file)
    assert {name: written[name].shape for name in written} == {name: shipped[name].shape for name in shipped}


def test_straight_latents_show_the_same(data):
    net = Autoencoder(12, 2, 6, 8, 16, 16).requires_grad_(False)
    draw = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    seen = torch.randn(500, 12, generator=draw)
    before = net.decoder(net.encoder(seen)), *net.read(net.encoder(seen))
    train_autoencoder.straighten(net, seen)
    latents = net.encoder(seen)
    for one, other in zip(before, (net.decoder(latents), *net.read(latents)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    covariance = latents.T.cov()
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-3 and abs(covariance.diag().mean() - 1) < 1e-3
    assert latents.mean(0).abs().max() < 1e-3 and (covariance.diag().diff() < 1e-5).all()


def test_the_loss_of_the_best_linear_guess_is_one():
    """Whatever the time, so all count alike; a network that adds nothing to the guess has it."""
    shape = Shape(4, 6, 2, 6, 8, 64, 1, 1, 10, prior_text.MAX_TOKENS, 8)
    networks, draw = train_prior.Networks(shape), torch.Generator().manual_seed(0)
    std = torch.linspace(2, 0.5, 24).reshape(4, 6)
    networks.first_values(std)
    latents = cosines(4).T @ (std * torch.randn(3000, 4, 6, generator=draw))
    noise, tokens = torch.randn(latents.shape, generator=draw), torch.zeros(3000, 24).long()
    for time in (0.05, 0.5, 0.95):
        t = torch.full((3000,), time)
        losses = train_prior.losses_of(networks, latents, tokens, t, noise, cosine_table())
        assert abs(losses.denoising.mean().item() - 1) < 0.02


def test_what_is_usual_is_learned_by_its_likelihood():
    shape = Shape(4, 6, 2, 6, 8, 64, 1, 1, 10, prior_text.MAX_TOKENS, 8)
    networks, draw = train_prior.Networks(shape), torch.Generator().manual_seed(0)
    networks.first_values(torch.linspace(2, 0.5, 24).reshape(4, 6))
    torch.nn.init.normal_(networks.denoiser.usual[-1].weight, std=0.5, generator=draw)
    latents, tokens = torch.randn(5, 4, 6, generator=draw), torch.randint(1, 10, (5, prior_text.MAX_TOKENS))
    t = torch.full((5,), 0.5)
    losses = train_prior.losses_of(networks, latents, tokens, t, latents, cosine_table())
    usual = networks.denoiser.usual_of(networks.text_encoder(tokens))
    likelihood = torch.distributions.Normal(*usual).log_prob(cosines(4) @ latents)
    constant = networks.denoiser.std.log().mean() + math.log(2 * math.pi) / 2
    torch.testing.assert_close(losses.usual + constant, -likelihood.mean((1, 2)))
    losses.denoising.sum().backward()
    assert all(parameter.grad is None for parameter in networks.denoiser.usual.parameters())
