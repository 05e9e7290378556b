"""VideoCrafter's checkpoints, made small and at random in the published layouts, against a twin written out slowly."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge.priors import PriorError, Setup, Text, load_prior
from bridge.priors.videocrafter.clip_text import OpenClipTokenizer
from bridge.priors.videocrafter.names import unet_config, unet_name
from bridge.priors.videocrafter.prior import alphas_cumprod, scale_table
from bridge.priors.videocrafter.unet import FpsEmbedding, RelativePositionAttention, make_unet
from tests.bridge.priors import videocrafter_twin as twin
from tests.gradients import check_gradient_of_every_frame
from tools.convert_videocrafter import convert

KINDS = {"videocrafter2": (2, True), "videocrafter1": (1, False), "videocrafter1 1024": (1, True)}
PROMPTS = ["a person is walking, side view", "wow! it's A MAN who kicks"]
F32 = torch.float32


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def made(kind, tmp_path_factory):
    """(prior's name, the twin's weights, model.ckpt) of each published kind."""
    parts, whole = twin.checkpoint(*KINDS[kind])
    path = tmp_path_factory.mktemp("checkpoint") / "model.ckpt"
    torch.save({"state_dict": whole}, path)
    return kind.split()[0], parts, path


@pytest.fixture(scope="module")
def loaded(made):
    """The prior of each kind, shared: tests set its frame rate and leave it at 8."""
    return load_prior(made[0], made[2])


def close(found, expected, tolerance=2e-5):
    assert found.shape == expected.shape
    assert ((found - expected).norm() / expected.norm()).item() < tolerance


def predict(prior, seed=0, frames=3):
    g = torch.Generator().manual_seed(seed)
    z, hidden = torch.randn(2, 4, frames, 8, 8, generator=g), torch.randn(2, 77, 64, generator=g)
    text = Text(hidden)
    return z, hidden, prior.predict(z, torch.tensor([0.05, 0.8]), (text,))[0]


@torch.no_grad()
def test_every_network_agrees_with_the_twin(kind, made):
    name, (unet, vae, text), path = made
    version, told = KINDS[kind]
    prior = load_prior(name, path)
    fps_of_run = (8.0, 23.5) if told else (8.0,)
    for fps in fps_of_run:
        assert not prior.configure(Setup(fps=fps))
        z, hidden, found = predict(prior)
        steps = torch.tensor([50.0, 800.0])
        close(found, twin.unet(unet, z, steps, hidden, version=version, fps=fps if told else None))
    pictures = torch.rand(2, 3, 2, 16, 24)
    frames = pictures.transpose(1, 2).flatten(0, 1) * 2 - 1
    z = prior.encode(pictures)
    close(z, 0.18215 * twin.vae_encode(vae, frames).unflatten(0, (2, 2)).transpose(1, 2))
    decoded = twin.vae_decode(vae, z.transpose(1, 2).flatten(0, 1) / 0.18215) / 2 + 0.5
    close(prior.decode(z), decoded.clamp(0, 1).unflatten(0, (2, 2)).transpose(1, 2))
    tokens = prior._tokenizer([*PROMPTS, ""]).input_ids
    embedded = prior.embed(PROMPTS, "")
    close(torch.cat([embedded.positive.hidden, embedded.negative.hidden]), twin.text(text, tokens))


@torch.no_grad()
def test_attention_at_every_level(tmp_path):
    """The published models have none at the innermost level; where weights say otherwise, they are believed."""
    (unet, _, _), whole = twin.checkpoint(2, True, attending=4)
    torch.save({"state_dict": whole}, tmp_path / "model.ckpt")
    z, hidden, found = predict(load_prior("videocrafter2", str(tmp_path)))
    close(found, twin.unet(unet, z, torch.tensor([50.0, 800.0]), hidden, version=2, fps=8.0, attending=4))


def test_latents_shrink_while_they_are_noised(kind, loaded):
    prior = loaded
    end = {"videocrafter2": 0.7, "videocrafter1": 1.0, "videocrafter1 1024": 0.3}[kind]
    step = torch.arange(1000)
    alpha, sigma = prior.alpha_sigma(step / 1000)
    abar = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2).cumprod(0)
    scale = 1 + (end - 1) * (step / 399).clamp(max=1)
    torch.testing.assert_close(alpha.double(), scale * abar.sqrt(), rtol=1e-5, atol=0)
    torch.testing.assert_close(sigma.double(), (1 - abar).sqrt(), rtol=1e-5, atol=0)
    prior.configure(Setup(scale_latents=False))
    torch.testing.assert_close(prior.alpha_sigma(step / 1000)[0].double(), abar.sqrt(), rtol=1e-5, atol=0)
    prior.configure(Setup())


def test_native_clip(kind, loaded):
    spec = loaded.spec
    size = (576, 1024) if kind.endswith("1024") else (320, 512)
    assert (spec.frames, spec.height, spec.width, spec.fps, spec.prediction) == (16, *size, 8.0, "eps")
    assert spec.latent_shape == (4, 16, size[0] // 8, size[1] // 8)


@pytest.mark.parametrize(("version", "fps", "count"), [(2, 8.0, 1_413_284_420), (1, None, None)])
def test_full_width(version, fps, count):
    """The twin of VideoCrafter 2 has its 1.4 billion parameters, and its structure is read off their shapes."""
    w = twin.Weights(device="meta")
    z, one, hidden = (torch.zeros(s, device="meta") for s in ((1, 4, 2, 8, 8), (1,), (1, 77, 1024)))
    twin.unet(w, z, one, hidden, version=version, fps=fps, channels=320, head=64)
    assert count is None or sum(tensor.numel() for tensor in w.values()) == count
    config, additions = unet_config(w)
    assert config["block_out_channels"] == [320, 640, 1280, 1280]
    assert (config["cross_attention_dim"], config["attention_head_dim"], config["layers_per_block"]) == (1024, 64, 2)
    state = make_unet(config, additions).state_dict()
    names = {unet_name(name, config): tensor for name, tensor in state.items()}
    assert names.keys() == w.keys()
    assert all(names[name].numel() == w[name].numel() for name in w)


@pytest.mark.parametrize("frames", [2, 7])  # within the largest distance, and beyond it
def test_relative_positions(frames):
    from diffusers.models.attention_processor import Attention

    w = twin.Weights()
    x = torch.randn(5, frames, 24, generator=torch.Generator().manual_seed(3))
    expected = twin.attention(w, "a", x, None, heads=3, distance=4)
    module = Attention(24, heads=3, dim_head=8)
    module.set_processor(RelativePositionAttention(4, 8))
    module.load_state_dict({
        **{f"to_{c}.weight": w[f"a.to_{c}.weight"] for c in "qkv"},
        **{f"to_out.0.{leaf}": w[f"a.to_out.0.{leaf}"] for leaf in ("weight", "bias")},
        "processor.keys": w["a.relative_position_k.embeddings_table"],
        "processor.values": w["a.relative_position_v.embeddings_table"],
    })  # fmt: skip
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("fps", [1.0, 8.0, 27.5])
def test_fps_embedding(fps):
    w = twin.Weights()
    expected = twin.mlp(w, "fps", twin.sinusoid(torch.tensor([fps]), 32), 128)[0]
    module = FpsEmbedding(32, 128)
    names = {"linear_1": "fps.0", "linear_2": "fps.2"}
    state = {f"{ours}.{leaf}": w[f"{theirs}.{leaf}"] for ours, theirs in names.items() for leaf in ("weight", "bias")}
    module.load_state_dict({**state, "time_bias": torch.zeros(128)})
    torch.testing.assert_close(module(fps), expected)


def test_a_folder_with_a_checkpoint(loaded, made):
    assert load_prior(made[0], made[2].parent).spec == loaded.spec


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_changes_little(dtype, loaded, made):
    half = load_prior(made[0], made[2], dtype=dtype)
    found, expected = predict(half)[2], predict(loaded)[2]
    assert found.dtype == F32 and half.spec.dtype == dtype
    close(found, expected, {"float16": 5e-3, "bfloat16": 5e-2}[dtype])


def test_every_frame_has_its_gradient(loaded):
    check_gradient_of_every_frame(loaded)


# --- converter --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def converted(kind, made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("converted") / "folder"
    assert convert(made[2], folder, F32) == made[0]
    return folder


def test_a_converted_folder_is_the_same_prior(loaded, made, converted):
    priors = [loaded, load_prior(made[0], converted)]
    for fps in (12.0, 8.0):
        for prior in priors:
            prior.configure(Setup(fps=fps))
        torch.testing.assert_close(predict(priors[1])[2], predict(priors[0])[2], rtol=1e-4, atol=1e-5)
    video, t = torch.rand(1, 3, 2, 16, 16), torch.linspace(0.01, 0.99, 50)
    torch.testing.assert_close(priors[1].encode(video), priors[0].encode(video))
    for found, expected in zip(priors[1].alpha_sigma(t), priors[0].alpha_sigma(t), strict=True):
        torch.testing.assert_close(found, expected, rtol=2e-5, atol=0)
    hidden = priors[1].embed(PROMPTS).positive.hidden
    torch.testing.assert_close(
        hidden, twin.text(made[1][2], OpenClipTokenizer()(PROMPTS).input_ids), rtol=1e-4, atol=1e-5
    )
    assert priors[1].spec.latent_shape == priors[0].spec.latent_shape


def test_diffusers_itself_reads_a_converted_videocrafter2(loaded, made, converted):
    from diffusers import UNet3DConditionModel

    if made[0] != "videocrafter2":
        pytest.skip("VideoCrafter 1 has layers that diffusers does not know")
    unet = UNet3DConditionModel.from_pretrained(converted / "unet", local_files_only=True).eval()
    z, hidden, expected = predict(loaded)  # 8 frames a second, the default
    with torch.no_grad():
        torch.testing.assert_close(unet(z, torch.tensor([50.0, 800.0]), hidden).sample, expected, rtol=1e-4, atol=1e-5)


def test_an_ordinary_folder_keeps_the_frame_rate_that_is_in_its_weights(loaded, made, converted, tmp_path):
    import shutil

    shutil.copytree(converted, tmp_path / "plain")
    (tmp_path / "plain" / "unet" / "videocrafter.json").unlink()
    (tmp_path / "plain" / "prior.json").unlink()
    if made[0] == "videocrafter1":
        with pytest.raises(PriorError, match="VideoCrafter1UNet"):
            load_prior("videocrafter1", tmp_path / "plain")
        return
    with pytest.raises(PriorError, match=r"no place for 5 of the weights \(fps_embedding"):
        load_prior("videocrafter2", tmp_path / "plain")
    (weights,) = (tmp_path / "plain" / "unet").glob("*.safetensors")  # other programs leave these out
    save_file({k: v for k, v in load_file(weights).items() if not k.startswith("fps_embedding")}, weights)
    prior = load_prior("videocrafter2", tmp_path / "plain")
    assert prior.configure(Setup(fps=24.0)) == (
        "--fps=24: prior 'videocrafter2' takes no frame rate; its own videos have 8",
    )
    torch.testing.assert_close(predict(prior)[2], predict(loaded)[2], rtol=1e-4, atol=1e-5)
    assert prior.alpha_sigma(torch.tensor([0.999]))[0] < 0.71 * alphas_cumprod()[-1].sqrt()


def test_a_frame_rate_is_a_positive_number(loaded):
    for fps in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(PriorError, match="frame rate must be a number above 0"):
            loaded.configure(Setup(fps=fps))


def test_scale_table():
    table = scale_table(0.7, 1000)
    torch.testing.assert_close(table[[0, 399, 400, 999]], torch.tensor([1.0, 0.7, 0.7, 0.7], dtype=torch.float64))
    torch.testing.assert_close(table[200].item(), 1 - 0.3 * 200 / 399)
