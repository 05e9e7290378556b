"""Priors from folders: loading, text, latents and their gradient, prediction, and broken folders."""

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch

from bridge.priors import PriorError, PriorSpec, load_prior
from bridge.priors.base import FolderPrior, pack_frames, unpack_frames
from bridge.priors.embedded import SHIPPED
from bridge.priors.folder import load_parts
from md_jax.evaluate.command import MAIN_ACTIONS
from tests.bridge.priors import tiny_priors

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return tiny_priors.packed_folder(tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return tiny_priors.video_folder(tmp_path_factory.mktemp("video"))


def video_prior(folder):
    """The generic folder prior with a VAE and a 3D UNet."""
    spec = PriorSpec(
        name="tiny", kind="video", prediction="eps", frames=4, fps=8, height=16, width=16, latent_channels=4,
        pixel_stride=2,
    )  # fmt: skip
    return FolderPrior(spec, load_parts(folder, CPU, torch.float32), CPU)


def test_a_gradient_is_pulled_back_without_sympy():
    """To import it takes a second of a run's start."""
    code = """
import sys, torch
from bridge.priors.base import vjp
leaf, weights, g = torch.randn(4, 5, requires_grad=True), torch.randn(5, 3), torch.randn(4, 3)
with torch.enable_grad():
    outputs = [torch.tanh(leaf @ weights) for _ in range(2)]
with torch.no_grad():
    pulled = vjp(outputs[0], leaf, g)
assert "sympy" not in sys.modules
assert torch.equal(pulled, torch.autograd.grad(outputs[1], leaf, g)[0])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def broken_copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


# --- names and folders ------------------------------------------------------------------------------------------


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(PriorError, match=r"'nosuch'.*embedded"):
        load_prior("nosuch")
    with pytest.raises(PriorError, match="float33"):
        load_prior("embedded", dtype="float33")


def test_missing_folder_says_where(tmp_path):
    with pytest.raises(PriorError, match="does not exist"):
        load_prior("embedded", str(tmp_path / "none"))
    with pytest.raises(PriorError, match=r"model_index\.json is missing"):
        load_prior("embedded", str(tmp_path))


@pytest.mark.parametrize(
    "part", ["unet/config.json", "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.safetensors",
             "text_encoder/model.safetensors", "tokenizer/tokenizer.json"],
)  # fmt: skip
@pytest.mark.parametrize("damage", ["removed", "truncated"])
def test_damaged_folders_are_one_clear_error(packed, tmp_path, part, damage):
    folder = broken_copy(packed, tmp_path)
    file = folder / part
    content = file.read_bytes()
    file.unlink() if damage == "removed" else file.write_bytes(content[: len(content) // 2])
    with pytest.raises(PriorError, match=part.split("/")[0]) as caught:
        load_prior("embedded", str(folder))
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_the_config_are_refused(packed, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = broken_copy(packed, tmp_path)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    weights.pop("conv_in.weight")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(PriorError, match=r"conv_in\.weight"):
        load_prior("embedded", str(folder))


@pytest.mark.parametrize(
    ("file", "key", "value", "message"),
    [
        ("model_index.json", "unet", ["diffusers", "EvilUNet"], "EvilUNet"),
        ("scheduler/scheduler_config.json", "prediction_type", "magic", "magic"),
        ("scheduler/scheduler_config.json", "beta_schedule", "magic", "magic"),
        ("prior.json", "frames", None, "prior.json"),
    ],
)
def test_wrong_entries_name_the_file(packed, tmp_path, file, key, value, message):
    folder = broken_copy(packed, tmp_path)
    entries = json.loads((folder / file).read_text())
    entries[key] = value
    (folder / file).write_text(json.dumps(entries))
    with pytest.raises(PriorError, match=message):
        load_prior("embedded", str(folder))


def test_fp16_variant_and_bin_files_load(video, tmp_path):
    folder = broken_copy(video, tmp_path)
    plain = video_prior(video)
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_name("diffusion_pytorch_model.fp16.safetensors"))
    other = tiny_priors.video_folder(tmp_path / "bin", safe=False)
    args = torch.randn(1, 4, 4, 8, 8), torch.tensor([0.5])
    expected = plain.predict(*args, plain.embed(["walk"]).pair(torch.zeros(1).long()))
    for prior in (video_prior(folder), video_prior(other)):
        found = prior.predict(*args, prior.embed(["walk"]).pair(torch.zeros(1).long()))
        torch.testing.assert_close(found, expected)


# --- specification ----------------------------------------------------------------------------------------------


def test_latent_shapes_follow_the_frame_rule():
    causal = PriorSpec("wan", "video", "flow", 17, 16, 256, 256, 16, pixel_stride=8, frame_stride=4, frame_offset=1)
    assert causal.latent_shape == (16, 5, 32, 32)
    with pytest.raises(PriorError, match=r"4k \+ 1 frames, got 10"):
        causal.latent_shape_of(10, 256, 256)
    with pytest.raises(PriorError, match="8 divides"):
        causal.latent_shape_of(17, 250, 256)


def test_the_embedded_spec_comes_from_the_folder(packed):
    spec = load_prior("embedded", str(packed)).spec
    assert (spec.frames, spec.fps, spec.height, spec.width) == (4, 10, 16, 16)
    assert spec.latent_shape == (3, 4, 16, 16) and spec.cameras == (0.0,)
    assert spec.prediction == "sample"
    assert spec.actions == ("walking", "washwindow")
    with pytest.raises(PriorError, match="exactly 4 frames, got 5"):
        spec.latent_shape_of(5, 16, 16)


# --- text -------------------------------------------------------------------------------------------------------


def test_a_vocabulary_of_version_0_1_names_its_actions_as_keys(packed, tmp_path):
    folder = shutil.copytree(packed, tmp_path / "old")
    (folder / "vocabulary.json").write_text(json.dumps({"walking": ["walk"], "washwindow": ["washing window"]}))
    assert load_prior("embedded", str(folder)).spec.actions == ("walking", "washwindow")


def test_text_is_embedded_once_and_tells_prompts_apart(packed):
    prior = load_prior("embedded", str(packed))
    conditioning = prior.embed(["walk, front view", "WALK: front view!", "walk, back view"], "still")
    hidden = conditioning.positive.hidden
    assert hidden.dtype == torch.float32
    assert torch.equal(hidden[0], hidden[1])
    assert (hidden[0] - hidden[2]).abs().max() > 1e-4
    assert conditioning.negative.hidden.shape == (1, *hidden.shape[1:])
    with pytest.raises(PriorError, match="one call"):
        prior.embed(["walk"])


# --- latents ----------------------------------------------------------------------------------------------------


def test_without_a_vae_latents_are_the_pixels(packed):
    prior = load_prior("embedded", str(packed))
    video = torch.rand(2, 3, 4, 16, 16)
    torch.testing.assert_close(prior.encode(video), 2 * video - 1)
    torch.testing.assert_close(prior.decode(prior.encode(video)), video)
    assert prior.encode(torch.rand(1, 3, 4, 32, 48)).shape == (1, *prior.spec.latent_shape)


@pytest.mark.parametrize("which", ["packed", "packed, other size", "video"])
def test_encode_vjp_is_the_gradient_of_encode_in_every_frame(packed, video, which):
    prior = video_prior(video) if which == "video" else load_prior("embedded", str(packed))
    size = 24 if "other" in which else 16
    generator = torch.Generator().manual_seed(0)
    clip = torch.rand(2, 3, 4, size, size, generator=generator)
    g = torch.randn(prior.encode(clip).shape, generator=generator)
    whole = prior.encode_vjp(clip, g)
    torch.testing.assert_close(prior.encode_vjp(clip, g, chunk=3), whole, rtol=1e-4, atol=1e-5)
    direction = torch.randn(clip.shape, generator=generator)
    step = 1e-3
    for frame in range(4):  # each frame alone, by central differences
        one = torch.zeros_like(clip)
        one[:, :, frame] = direction[:, :, frame]
        change = (prior.encode(clip + step * one) - prior.encode(clip - step * one)) / (2 * step)
        expected, found = (g * change).sum().item(), (whole * one).sum().item()
        assert found == pytest.approx(expected, rel=2e-2, abs=2e-2)


def test_packing_is_reversible_and_keeps_blocks_together():
    video = torch.arange(2 * 3 * 4 * 8 * 8, dtype=torch.float32).reshape(2, 3, 4, 8, 8)
    packed = pack_frames(video, 2)
    assert packed.shape == (2, 48, 4, 4)
    assert torch.equal(unpack_frames(packed, 2, 3), video)
    channel, frame = 1, 2
    block = packed[0, (channel * 4 + frame) * 4 : (channel * 4 + frame + 1) * 4, 1, 2]
    assert torch.equal(block, video[0, channel, frame, 2:4, 4:6].flatten())


def test_pictures_of_two_cameras_are_packed_over_each_other():
    video = torch.arange(2 * 3 * 4 * 8 * 16, dtype=torch.float32).reshape(2, 3, 4, 8, 16)
    packed = pack_frames(video, 2, 2)
    assert packed.shape == (2, 2 * 3 * 4 * 4, 4, 4)
    assert torch.equal(packed[:, :48], pack_frames(video[..., :8], 2))  # the first camera's channels come first
    assert torch.equal(packed[:, 48:], pack_frames(video[..., 8:], 2))
    assert torch.equal(unpack_frames(packed, 2, 3, 2), video)


def test_a_prior_of_two_cameras_sees_both_pictures_at_one_place(tmp_path):
    folder = tiny_priors.packed_folder(tmp_path / "two", settings=tiny_priors.TWO_CAMERAS)
    prior, parts = load_prior("embedded", str(folder)), load_parts(folder, CPU, torch.float32)
    assert prior.spec.latent_shape == (3, 4, 16, 32) and prior.spec.cameras == (0.0, math.pi / 2)
    texts = prior.embed(["a person is walking"]).pair(torch.zeros(1).long())
    z_t = torch.randn(1, *prior.spec.latent_shape)
    (found, _), t = prior.predict(z_t, torch.tensor([0.4]), texts), torch.tensor([400.0])
    with torch.no_grad():
        raw = parts.unet(pack_frames(z_t, 2, 2), t, texts[0].hidden).sample
    torch.testing.assert_close(found, unpack_frames(raw, 2, 3, 2), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"cameras": []}, "expected 1 to 8 numbers"),
        ({"cameras": [0.0, 90.0, 180.0]}, "3 cameras, height=16, width=32: that is 144 channels"),
        ({"cameras": [0.0, 90.0], "frame_packing": 0}, "2 cameras without frame_packing"),
    ],
)
def test_cameras_that_cannot_be_are_refused(tmp_path, stated, message):
    folder = tiny_priors.packed_folder(tmp_path / "two", settings=tiny_priors.TWO_CAMERAS)
    (folder / "prior.json").write_text(json.dumps(tiny_priors.TWO_CAMERAS | stated))
    with pytest.raises(PriorError, match=message):
        load_prior("embedded", str(folder))


# --- diffusion --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["packed", "video"])
def test_prediction_is_the_networks_own(packed, video, which):
    prior = video_prior(video) if which == "video" else load_prior("embedded", str(packed))
    parts = load_parts(video if which == "video" else packed, CPU, torch.float32)
    texts = prior.embed(["walk, front view", "washing a window"], "back view").pair(torch.tensor([1, 0]))
    z_t = torch.randn(2, *prior.spec.latent_shape)
    t = torch.tensor([0.25, 0.7])
    conditional, negative = prior.predict(z_t, t, texts)
    assert conditional.shape == negative.shape == z_t.shape and conditional.dtype == torch.float32
    for text, found in zip(texts, (conditional, negative), strict=True):
        for n in range(2):  # one clip at a time, straight through the network
            inputs = z_t[n : n + 1] if which == "video" else pack_frames(z_t[n : n + 1], 2)
            with torch.no_grad():
                raw = parts.unet(inputs, 1000 * t[n], text.hidden[n : n + 1]).sample
            raw = raw if which == "video" else unpack_frames(raw, 2, 3)
            torch.testing.assert_close(found[n : n + 1], raw, rtol=1e-4, atol=1e-5)
    assert (conditional - negative).abs().max() > 1e-6


def test_schedule_is_the_folders_own(video):
    from diffusers import DDIMScheduler

    table = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear").alphas_cumprod
    alpha, sigma = video_prior(video).alpha_sigma(torch.tensor([0.1, 0.5, 0.9]))
    torch.testing.assert_close(alpha, table[[100, 500, 900]].sqrt())
    torch.testing.assert_close(sigma, (1 - table[[100, 500, 900]]).sqrt(), rtol=1e-5, atol=1e-6)


def test_no_gradient_reaches_the_frozen_networks(packed):
    prior = load_prior("embedded", str(packed))
    texts = prior.embed(["walk"]).pair(torch.zeros(1).long())
    z_t = torch.randn(1, *prior.spec.latent_shape, requires_grad=True)
    assert not any(raw.requires_grad for raw in prior.predict(z_t, torch.tensor([0.5]), texts))


# --- what ships -------------------------------------------------------------------------------------------------


def test_the_shipped_prior_knows_the_yardsticks_actions_and_is_small():
    prior = load_prior("embedded")
    assert set(MAIN_ACTIONS) <= set(prior.spec.actions) and len(prior.spec.actions) >= 30
    assert prior.spec.latent_shape == (32, 10, 1, 2) and prior.spec.cameras == (0.0, math.pi / 2)
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*") if file.is_file()) < 25e6
    prompts = [
        "a man is running, side view", "a person walking", "Someone throws punches!", "washing a window",
        "a cartwheel", "a woman is directing traffic, from behind", "he is swinging a sword", "jumping",
    ]  # fmt: skip
    hidden = prior.embed(prompts).positive.hidden
    assert torch.isfinite(hidden).all()


def test_the_shipped_prior_denoises_and_listens_to_its_text():
    """From noise alone it draws a figure, and another one for another action."""
    prior = load_prior("embedded")
    texts = prior.embed(["a person is running, left side view", "a person is doing a cartwheel, front view"])
    index = torch.arange(2)
    noise = torch.randn(1, *prior.spec.latent_shape, generator=torch.Generator().manual_seed(0)).repeat(2, 1, 1, 1, 1)
    video = prior.decode(prior.predict(noise, torch.tensor([0.99, 0.99]), texts.pair(index))[0])
    grey, middle = video[..., 0, :].mean(), video[0, :, :, 18:30, 20:28].mean()
    assert abs(grey - 0.9) < 0.03 and middle < 0.8  # the background along the upper edge, and a body before it
    assert (video[0] - video[1]).abs().mean() > 0.01
