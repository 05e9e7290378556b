"""The shipped prior and folders of its kind: what the networks compute, and what is refused."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.fft
import torch
from safetensors.torch import load_file, save_file

from bridge.priors import load_prior
from bridge.priors.embedded import frames
from bridge.priors.spec import PriorError, Text
from md_jax.mocap.windows import cut_windows
from tests.bridge.priors import tiny_priors
from tools import prior_data
from tools.standing import on_their_feet


@pytest.fixture
def folder(tmp_path):
    return tiny_priors.own_folder(tmp_path / "prior")


def test_denoiser_is_a_transformer_over_frames(folder):
    """Against the same computation in float64, written out one clip and one head at a time."""
    prior = load_prior("embedded", str(folder), "cpu", "float32")
    weights = {name: value.double() for name, value in load_file(folder / "model.safetensors").items()}
    draw = torch.Generator().manual_seed(1)
    z, t = torch.randn(3, *prior.spec.latent_shape, generator=draw), torch.tensor([0.03, 0.5, 0.97])
    text = prior.embed(["a person is walking", "washing a window, moment walking2", ""]).positive
    (found,) = prior.predict(z, t, (text,))
    expected = torch.stack([_clean(weights, *row) for row in zip(z, t, text.hidden, prior.alpha_sigma(t)[0])])  # noqa: B905
    assert found.std() > 0.3
    torch.testing.assert_close(found, expected.float(), atol=2e-4, rtol=2e-4)


def _clean(w, z, t, text, alpha):
    """The clean latents of one clip (c, F, 1, w)."""

    def linear(name, x):
        return x @ w[f"denoiser.{name}.weight"].T + w[f"denoiser.{name}.bias"]

    def normal(x):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()

    silu = torch.nn.functional.silu
    frames, alpha = z.double()[:, :, 0].permute(1, 0, 2), float(alpha)
    usual = linear("usual.2", silu(linear("usual.0", text[0].double()))).reshape(2, *w["denoiser.std"].shape)
    mean, variance = usual[0] * w["denoiser.std"], (usual[1].clamp(-4, 1).exp() * w["denoiser.std"]) ** 2
    total = alpha**2 * variance + 1 - alpha**2
    apart = _cosines(frames.flatten(1)) - alpha * mean
    x = linear("frame_in", _back(apart / total.sqrt())) + w["denoiser.position"]
    rates = torch.exp(torch.arange(128).double() * math.log(1000) / 127)
    angles = float(t) * rates * math.pi / 2
    time = linear("time.2", silu(linear("time.0", torch.cat([angles.cos(), angles.sin()]))))
    condition = silu(time + linear("text.2", silu(linear("text.0", text[0].double()))))
    shifts = linear("shifts", condition).reshape(6, -1)
    for i in range(2):
        s = shifts + w[f"denoiser.layers.{i}.offsets"][:, 0]
        q, k, v = linear(f"layers.{i}.qkv", normal(x) * (1 + s[1]) + s[0]).chunk(3, -1)
        heads = []
        for a, b, c in zip(q.chunk(2, -1), k.chunk(2, -1), v.chunk(2, -1), strict=True):
            heads.append(torch.softmax(a @ b.T / math.sqrt(a.shape[-1]), -1) @ c)
        x = x + s[2] * linear(f"layers.{i}.out", torch.cat(heads, -1))
        y = normal(x) * (1 + s[4]) + s[3]
        y = torch.nn.functional.gelu(linear(f"layers.{i}.wide", y), approximate="tanh")
        x = x + s[5] * linear(f"layers.{i}.narrow", y)
    shift, scale = linear("last", condition).chunk(2, -1)
    x = linear("frame_out", normal(x) * (1 + scale) + shift)
    missing = (variance * (1 - alpha**2) / total).sqrt()
    clean = _back(mean + alpha * variance / total * apart + missing * _cosines(x))
    return clean.reshape(frames.shape).permute(1, 0, 2)[:, :, None]


def _cosines(frames, axis=0):
    return torch.from_numpy(scipy.fft.dct(frames.numpy(), norm="ortho", axis=axis))


def _back(rates, axis=0):
    return torch.from_numpy(scipy.fft.idct(rates.numpy(), norm="ortho", axis=axis))


def test_a_gaussian_is_denoised_exactly_by_a_network_that_adds_nothing():
    """Whose cosines over time have means and sizes of the text's own: the best guess is linear in each."""
    shape = frames.Shape(4, 6, 2, 6, 8, 32, 1, 2, 10, 8, 8)
    net = frames.FrameTransformer(shape)
    for parameter in net.parameters():
        torch.nn.init.zeros_(parameter)
    net.std.copy_(torch.linspace(2, 0.5, 24).reshape(4, 6))
    draw, alpha = torch.Generator().manual_seed(0), 0.6
    torch.nn.init.uniform_(net.usual[-1].bias, -0.9, 0.9, generator=draw)
    mean, log_std = net.usual[-1].bias.detach().reshape(2, 4, 6) * torch.stack([net.std, torch.ones(4, 6)])
    x = _back(mean + torch.randn(8000, 4, 6, generator=draw) * net.std * log_std.exp(), axis=1)
    z = alpha * x + 0.8 * torch.randn(x.shape, generator=draw)
    guess = net.denoise(z, torch.full((8000,), 0.5), torch.full((8000,), alpha), torch.zeros(8000, 1, 8)).detach()
    rates, clean = _cosines(z, axis=1), _cosines(x, axis=1)
    apart = rates - rates.mean(0)
    least = clean.mean(0) + apart * (clean * apart).sum(0) / (apart * apart).sum(0)  # squares, each cosine alone
    error, best = ((clean - x).square().mean(0) for x in (_cosines(guess, axis=1), least))
    assert (error / best - 1).abs().max() < 0.002


def test_words_are_summed_and_unknown_ones_are_read_as_unknown(folder):
    prior = load_prior("embedded", str(folder), "cpu", "float32")
    texts = ["a person is WALKING!", "walking is a person", "a person is", "zebra walking", "quagga walking"]
    hidden = prior.embed(texts, "").positive.hidden
    torch.testing.assert_close(hidden[0], hidden[1])
    assert not torch.allclose(hidden[0], hidden[2])
    torch.testing.assert_close(hidden[3], hidden[4])


def test_the_autoencoder_is_components_and_layers(folder):
    """Against the same computation in float64 on one frame."""
    prior = load_prior("embedded", str(folder), "cpu", "float32")
    w = {name.removeprefix("autoencoder."): x.double() for name, x in load_file(folder / "model.safetensors").items()}

    def layers(name, x):
        for i in (0, 2):
            x = torch.nn.functional.silu(w[f"{name}.{i}.weight"] @ x + w[f"{name}.{i}.bias"])
        return w[f"{name}.4.weight"] @ x + w[f"{name}.4.bias"]

    video = torch.rand(1, 3, 4, 16, 32, generator=torch.Generator().manual_seed(0))
    left, right = (2 * video[0, :, 2].double() - 1).split(16, dim=2)
    seen = [torch.einsum("kchw,chw->k", w["axes"], half - w["mean"]) for half in (left, right)]
    expected = layers("encoder", torch.cat(seen))
    z = prior.encode(video)
    torch.testing.assert_close(z[0, :, 2].flatten().double(), expected, atol=1e-4, rtol=1e-4)

    of_left, of_right = layers("decoder", expected).split(12)
    halves = [w["mean"] + torch.einsum("kchw,k->chw", w["axes"], x / w["axes"].square().sum((1, 2, 3)))
              for x in (of_left, of_right)]  # fmt: skip
    shown = (torch.cat(halves, dim=2) / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(prior.decode(z)[0, :, 2].double(), shown, atol=1e-4, rtol=1e-4)

    rotations, height = prior.poses(z)
    assert rotations.shape == (1, 4, 22, 3, 3) and height.shape == (1, 4)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(1, 4, 22, 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(1, 4, 22), atol=1e-5, rtol=0)
    numbers = layers("reader", expected)
    first = numbers[6 * 5 : 6 * 5 + 3] + torch.tensor([1, 0, 0])
    torch.testing.assert_close(rotations[0, 2, 5, :, 0].double(), first / first.norm(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(height[0, 2].double(), numbers[-1], atol=1e-4, rtol=1e-3)


def test_the_gradient_of_encoding_is_that_of_small_changes(folder):
    prior = load_prior("embedded", str(folder), "cpu", "float32")
    draw = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 4, 16, 32, generator=draw)
    g, nudge = torch.randn(2, *prior.spec.latent_shape, generator=draw), torch.randn(video.shape, generator=draw)
    change = (prior.encode(video + 0.01 * nudge) - prior.encode(video - 0.01 * nudge)) / 0.02
    torch.testing.assert_close((prior.encode_vjp(video, g) * nudge).sum(), (g * change).sum(), rtol=1e-2, atol=1e-2)


def test_it_loads_without_the_libraries():
    code = (
        "import sys; from bridge.priors import load_prior; load_prior('embedded').embed(['walking']);"
        " print([name for name in ('diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_it_hears_action_and_view():
    """Real clips that it was not trained on, under much noise: the right caption leaves less error than wrong ones."""
    held_out = prior_data.split_shipped().held_out
    able = [clip for clip in held_out if clip.action in ("walking", "jumping") and 0.7 * clip.duration > 0.95][:12]
    clips, start = on_their_feet(able), np.array([0.3 * clip.duration for clip in able])
    windows = cut_windows(clips, np.arange(len(able)), start, frames=10, fps=10, root="full")
    drawn = prior_data.Set(windows, np.zeros((len(able), 1)), np.full((len(able), 1), math.radians(11)))
    video = torch.stack([torch.cat(p[0].unbind(1), dim=2) for p in prior_data.film(drawn)]).permute(0, 4, 1, 2, 3)
    prior = load_prior("embedded", "", "cpu", "float32")
    z, t = prior.encode(video), torch.full((len(able),), 0.9)
    alpha, sigma = (x[:, None, None, None, None] for x in prior.alpha_sigma(t))
    z_t = alpha * z + sigma * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    other = {"walking": "jumping", "jumping": "walking"}
    actions = [clip.action for clip in clips]
    said = [f"a person is {a}, front view" for a in actions]
    said += [f"a person is {a}, back view" for a in actions] + [f"a person is {other[a]}, front view" for a in actions]
    right, turned, wrong = prior.embed(said).positive.hidden.split(len(able))
    error = [(prior.predict(z_t, t, (Text(h),))[0] - z).square().mean().item() for h in (right, turned, wrong)]
    assert error[0] < 0.85 * error[1] and error[0] < 0.97 * error[2], error


def _weights(folder, change):
    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("denoiser.last.bias"), 'Missing key.*"denoiser.last.bias"'),
        (lambda w: w.update(extra=torch.ones(2)), 'Unexpected key.*"extra"'),
        (lambda w: w.update({"denoiser.std": torch.ones(4, 5)}), "size mismatch for denoiser.std"),
        (lambda w: w.update({"denoiser.position": torch.full((4, 32), torch.nan)}), "NaN or infinite"),
        (lambda w: [x.zero_() for x in w.values()], "no weight of the prior is below zero"),
        (lambda w: w.pop("autoencoder.axes"), "autoencoder.axes has the shape"),
    ],
)
def test_other_weights_are_refused(folder, change, said):
    _weights(folder, change)
    with pytest.raises(PriorError, match=said):
        load_prior("embedded", str(folder), "cpu", "float32")


@pytest.mark.parametrize(
    ("file", "stated", "said"),
    [
        ("config", {"width": 33}, "heads that divide the width"),
        ("config", {"channels": 13}, "cameras that divide the channels"),
        ("config", {"layers": "2"}, "layers=2: expected a whole number"),
        ("config", {"frames": 10**9}, "expected a whole number from 1 to"),
        ("prior", {"frames": 5}, r"states frames, cameras, height, width = \(5, 2, 16, 32\)"),
        ("prior", {"cameras": [0.0]}, r"= \(4, 1, 16, 32\): the networks have \(4, 2, 16, 32\)"),
        ("config", {"words": 3}, "size mismatch"),
        ("config", {"layers": 60_000}, "describes more than"),
    ],
)
def test_contradictions_are_refused(folder, file, stated, said):
    path = folder / f"{file}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | stated))
    with pytest.raises(PriorError, match=said):
        load_prior("embedded", str(folder), "cpu", "float32")


@pytest.mark.parametrize(
    "file", ["model.safetensors", "tokenizer.json", "config.json", "prior.json", "vocabulary.json"]
)
def test_truncated_files_are_refused(folder, file):
    whole = (folder / file).read_bytes()
    (folder / file).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PriorError, match=file.replace(".", r"\.")):
        load_prior("embedded", str(folder), "cpu", "float32")


@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "prior.json", "vocabulary.json"])
def test_pipes_and_endless_files_are_refused_unread(folder, file):
    """A pipe never ends, and no tokenizer has gigabytes; the file here takes no room on the disk."""
    for pipe in (file, "model.safetensors"):
        whole = (folder / pipe).read_bytes()
        (folder / pipe).unlink()
        os.mkfifo(folder / pipe)
        with pytest.raises(PriorError, match=pipe):
            load_prior("embedded", str(folder), "cpu", "float32")
        (folder / pipe).unlink()
        (folder / pipe).write_bytes(whole)
    with (folder / file).open("wb") as large:
        large.truncate(20 << 30)
    with pytest.raises(PriorError, match=file):
        load_prior("embedded", str(folder), "cpu", "float32")


def test_spec_states_the_latents(folder):
    spec = load_prior("embedded", str(folder), "cpu", "float32").spec
    assert spec.latent_shape == (6, 4, 1, 2) and spec.prediction == "sample"
    assert spec.cameras == (0.0, math.pi / 2) and spec.actions == ("walking", "washwindow")
