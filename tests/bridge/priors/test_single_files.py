"""Stable Diffusion and LTX-Video in one file are the same prior as the folder of the same weights, and need no hub."""

import json

import pytest
import torch

from bridge.priors import PriorError, Setup, load_prior
from bridge.priors.files import describe
from tests.bridge.priors import single_files as files
from tests.bridge.priors.test_text_to_video import no_network  # noqa: F401

LTX = ["0.9.0", "0.9.1", "0.9.5"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """{kind: (folder, state dict)}."""
    root = tmp_path_factory.mktemp("single")
    pairs = {"sd15": files.stable_diffusion(root, 1), "sd21": files.stable_diffusion(root, 2)}
    return pairs | {version: files.ltx(root, version) for version in LTX}


def agree(first, second, clip):
    """The two priors are the same in text, latents, gradient, network, schedule and decoding."""
    assert (first.spec.kind, first.spec.prediction) == (second.spec.kind, second.spec.prediction)
    g = torch.Generator().manual_seed(0)
    video, t = torch.rand(1, 3, *clip, generator=g), torch.tensor([0.3])
    results = []
    for prior in (first, second):
        g.manual_seed(1)
        prior.configure(Setup(*clip))
        texts = prior.embed(["a person’s walking, side view <|endoftext|>"], "still").pair(torch.zeros(1).long())
        z = prior.encode(video)
        z_t, cotangent = torch.randn(z.shape, generator=g), torch.randn(z.shape, generator=g)
        torch.manual_seed(2)  # LTX 0.9.1 decodes with noise
        results.append([*(text.hidden for text in texts), z, prior.encode_vjp(video, cotangent),
                        *prior.predict(z_t, t, texts), *prior.alpha_sigma(t), prior.decode(z)])  # fmt: skip
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["sd15", "sd21"])
def test_stable_diffusion(name, made, tmp_path, no_network):  # noqa: F811
    folder, state = made[name]
    path = files.write(state, tmp_path / "v2-1_512-ema-pruned.safetensors")
    agree(load_prior(name, str(path)), load_prior(name, str(folder)), (2, 32, 32))
    torch.save({"state_dict": state}, tmp_path / "v1-512.ckpt")
    agree(load_prior(name, str(tmp_path / "v1-512.ckpt")), load_prior(name, str(folder)), (2, 32, 32))
    assert not no_network
    found = describe(name, str(path))
    assert "every weight has its place" in found and "Stable Diffusion" in found


def test_what_version_2_predicts_is_said_beside_it_or_asked_for(made, tmp_path):
    path = files.write(made["sd21"][1], tmp_path / "model.safetensors")
    with pytest.raises(PriorError, match=r"does not say whether it predicts noise .* put its model\.yaml beside it"):
        load_prior("sd21", str(path))
    path.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')
    prior = load_prior("sd21", str(path))
    assert (prior.spec.prediction, prior.spec.height) == ("v", 96 * 2)  # one halving in this small VAE
    path = files.write(made["sd21"][1], tmp_path / "v2-1_768.safetensors")
    assert load_prior("sd21", str(path)).spec.prediction == "v"


def test_animatediff_takes_it_too(made, tmp_path):
    from diffusers import MotionAdapter

    adapter = MotionAdapter(
        block_out_channels=(32, 64), motion_layers_per_block=1, motion_num_attention_heads=2, motion_max_seq_length=24,
    )  # fmt: skip
    adapter.save_pretrained(tmp_path / "motion")
    folder, state = made["sd15"]
    path = files.write(state, tmp_path / "v1-5.safetensors")
    pair = (load_prior("animatediff", f"{where},{tmp_path / 'motion'}") for where in (path, folder))
    agree(*pair, (2, 32, 32))


@pytest.mark.parametrize("version", LTX)
def test_ltx(version, made, tmp_path, no_network):  # noqa: F811
    folder, state = made[version]
    path = files.write(state, tmp_path / f"ltx-video-2b-v{version}.safetensors")
    with pytest.raises(PriorError, match=r"holds no text encoder, and .* give --prior_path=ltx-video-2b-v.*,FOLDER"):
        load_prior("ltx", str(path))
    agree(load_prior("ltx", f"{path},{folder}"), load_prior("ltx", str(folder)), (9, 32, 64))
    files.t5_folder(folder, tmp_path)
    agree(load_prior("ltx", str(path)), load_prior("ltx", str(folder)), (9, 32, 64))
    assert not no_network
    found = describe("ltx", str(path))
    assert "every weight has its place" in found and version in found
    bf16 = {key: tensor.bfloat16() for key, tensor in state.items()}
    path = files.write(
        bf16, tmp_path / "half.safetensors", config=json.dumps({"transformer": {"num_attention_heads": 16}})
    )
    assert load_prior("ltx", str(path), dtype="bfloat16")._transformer.config.num_attention_heads == 16


@pytest.mark.parametrize(
    ("name", "key", "match"),
    [
        ("sd15", "model.diffusion_model.extra.weight", r"UNet: of .* 1 unknown \(extra\.weight\)"),
        ("sd15", "first_stage_model.extra.weight", "VAE: 1 of .* belong to another model"),
        ("sd15", "cond_stage_model.transformer.text_model.extra", r"text encoder: of .* 1 unknown \(extra\)"),
        ("sd15", "control_model.weight", r"no place for 1 of the weights \(control_model\.weight\)"),
        ("0.9.5", "model.diffusion_model.extra", r"transformer: of .* 1 unknown \(extra\)"),
        ("0.9.5", "vae.extra", r"VAE: of .* 1 unknown \(extra\)"),
        ("0.9.5", "text_encoders.t5", r"no place for 1 of the weights \(text_encoders\.t5\)"),
    ],
)
def test_one_weight_too_many_or_too_few(name, key, match, made, tmp_path):
    folder, state = made[name]
    prior, beside = (name, "") if name == "sd15" else ("ltx", f",{folder}")
    path = files.write({**state, key: torch.zeros(2)}, tmp_path / "more.safetensors")
    for look in (load_prior, describe):
        refused(look, prior, f"{path}{beside}", match)
    prefix = key.rpartition(".")[0].removesuffix(".text_model")
    needed = [k for k in state if k.startswith(prefix + ".") and "position_ids" not in k and "statistics" not in k]
    for gone in needed[-1:]:
        path = files.write({k: t for k, t in state.items() if k != gone}, tmp_path / "fewer.safetensors")
        for look in (load_prior, describe):
            refused(look, prior, f"{path}{beside}", "missing|structure cannot be told|belong to another model")


def refused(look, *args):
    *args, match = args
    with pytest.raises(PriorError, match=match) as caught:
        look(*args)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused_by_name(made, tmp_path):
    _, state = made["sd15"]
    sd1 = files.write(state, tmp_path / "v1-5.safetensors")
    other = {key: tensor for key, tensor in state.items() if "cond_stage" not in key}
    xl = files.write({**other, "conditioner.embedders.0.w": torch.zeros(1)}, tmp_path / "xl.safetensors")
    distilled = files.write(made["0.9.5"][1], tmp_path / "ltxv-2b-0.9.8-distilled.safetensors")
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "Wan2.1_VAE.pth").write_bytes(b"PK")
    (tmp_path / "wan" / "models_t5_umt5-xxl-enc-bf16.pth").write_bytes(b"PK")
    for look in (load_prior, describe):
        refused(look, "sd21", str(sd1), "has the text encoder of --prior=sd15, not of sd21")
        refused(look, "sd15", str(xl), "Stable Diffusion XL")
        refused(look, "sd15", str(distilled), "is distilled")
        refused(look, "ltx", str(distilled), "is distilled")
        refused(look, "ltx", str(sd1), "holds no transformer and VAE of LTX-Video")
        refused(look, "sd15", str(tmp_path / "model.gguf"), "is a .gguf file: expected")
        for name in ("wan21", "cogvideox", "modelscope"):
            refused(look, name, str(sd1), "is a file|single .safetensors file")
        for name in ("wan21", "ltx", "sd15"):
            refused(look, name, str(tmp_path / "wan"), r"Wan2\.1_VAE\.pth and 1 more .* layout of the model's own")
