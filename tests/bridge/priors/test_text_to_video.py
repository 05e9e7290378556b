"""ModelScope's and ZeroScope's folders, small and at random, in every form in which such folders are published."""

import gzip
import json
import shutil

import pytest
import torch

from bridge.priors import PriorError, hub, load_prior
from bridge.priors.hub import wanted_files
from bridge.priors.unet.text_to_video import HUB_IDS
from bridge.priors.videocrafter.clip_text import MERGES, OpenClipTokenizer
from tests.gradients import check_gradient_of_every_frame

NAMES = ["modelscope", "zeroscope"]
FORMS = ["safetensors", "bin", "fp16.safetensors", "fp16.bin"]
STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
WIDTH = 32


def networks():
    """A UNet, VAE and text encoder of the published classes."""
    from diffusers import AutoencoderKL, UNet3DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    unet = UNet3DConditionModel(
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
        up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=256,
    )
    layers = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    return {"unet": unet, "vae": vae, "text_encoder": CLIPTextModel(CLIPTextConfig(hidden_act="gelu", **layers))}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with weights in every form; `folder_in` takes one of them."""
    folder = tmp_path_factory.mktemp("text-to-video") / "every form"
    for part, network in networks().items():
        (folder / part).mkdir(parents=True)
        for variant, dtype in (("fp16", torch.float16), (None, torch.float32)):
            network.to(dtype).save_pretrained(folder / part, variant=variant)
            ending = f"{variant}." if variant else ""
            state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
            stem = STEMS[part]
            if part == "text_encoder":  # as transformers wrote it before version 5
                state = {f"text_model.{name}": tensor for name, tensor in state.items()}
                state["text_model.embeddings.position_ids"] = torch.arange(77)[None]
                stem = "pytorch_model"
            if part == "vae":  # as diffusers wrote it before version 0.18
                for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
                    state = {
                        name.replace(f"attentions.0.{new}.", f"attentions.0.{old}."): t for name, t in state.items()
                    }
            torch.save(state, folder / part / f"{stem}.{ending}bin")
    write_tokenizer(folder / "tokenizer")
    (folder / "scheduler").mkdir()
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
                "num_train_timesteps": 1000, "prediction_type": "epsilon", "_class_name": "DDIMScheduler"}  # fmt: skip
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(schedule))
    index = {"unet": "UNet3DConditionModel", "vae": "AutoencoderKL", "scheduler": "DDIMScheduler"}
    index = {part: ["diffusers", name] for part, name in index.items()}
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "text_encoder": ["transformers", "CLIPTextModel"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "TextToVideoSDPipeline", **index}))
    return folder


def write_tokenizer(folder):
    """The files of a slow CLIPTokenizer, which pads with "!" whatever its own config says."""
    folder.mkdir()
    clip = OpenClipTokenizer()._clip
    (folder / "vocab.json").write_text(json.dumps(clip.get_vocab()))
    (folder / "merges.txt").write_text("#version: 0.2\n" + gzip.decompress(MERGES.read_bytes()).decode())
    ends = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps({**ends, "pad_token": "!"}))
    config = {**ends, "pad_token": "<|endoftext|>", "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def folder_in(form, made, target):
    """A copy of `made` with weights in one form."""
    shutil.copytree(made, target)
    for part in STEMS:
        for file in (target / part).iterdir():
            if file.name != "config.json" and file.name.split("model.", 1)[1] != form:
                file.unlink()
    return target


def outputs(prior):
    """What the networks of a prior say about fixed inputs."""
    g = torch.Generator().manual_seed(0)
    video, z = torch.rand(1, 3, 2, 16, 24, generator=g), torch.randn(1, 4, 2, 4, 4, generator=g)
    text = prior.embed(["a person is walking"], "still").positive
    return text.hidden, prior.encode(video), prior.predict(z, torch.tensor([0.3]), (text,))[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_loads_to_the_same_prior(form, name, made, tmp_path):
    tolerance = {"rtol": 2e-2, "atol": 5e-3} if "fp16" in form else {"rtol": 1e-5, "atol": 1e-6}
    found, expected = (outputs(load_prior(name, str(path))) for path in (folder_in(form, made, tmp_path / "f"), made))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **tolerance)


@pytest.mark.parametrize(("name", "clip"), [("modelscope", (16, 256, 256)), ("zeroscope", (24, 320, 576))])
def test_native_clip(name, clip, made):
    spec = load_prior(name, str(made)).spec
    frames, height, width = clip
    assert (spec.frames, spec.height, spec.width, spec.fps) == (*clip, 8.0)
    assert spec.latent_shape == (4, frames, height // 8, width // 8)
    assert (spec.prediction, spec.licence, spec.origin) == ("eps", "CC-BY-NC-4.0", str(made))


def test_text_is_padded_as_the_folder_says(made):
    prior = load_prior("modelscope", str(made))
    ids = prior._tokenizer(["a person"], padding="max_length", max_length=77).input_ids[0]
    assert ids[4:] == [0] * 73
    assert ids[:4] == OpenClipTokenizer()(["a person"]).input_ids[0, :4].tolist()


def test_schedule_and_gradient_of_every_frame(made):
    prior = load_prior("modelscope", str(made))
    alpha, sigma = prior.alpha_sigma(torch.tensor([0.0, 0.999]))
    torch.testing.assert_close(alpha[0].square(), torch.tensor(1 - 0.00085), rtol=1e-5, atol=0)
    torch.testing.assert_close((alpha[1] / sigma[1]) ** 2, torch.tensor(0.0047), rtol=2e-2, atol=0)
    check_gradient_of_every_frame(prior)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS[:2])
@pytest.mark.parametrize("part", STEMS)
def test_missing_or_truncated_weights(part, form, made, tmp_path):
    folder = folder_in(form, made, tmp_path / "f")
    weights = next(file for file in (folder / part).iterdir() if file.name.endswith(form))
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(PriorError, match=f"{part} cannot be loaded"):
        load_prior("modelscope", str(folder))
    weights.unlink()
    with pytest.raises(PriorError, match=f"{part} holds no weights"):
        load_prior("modelscope", str(folder))


def edit(folder, file, **changes):
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_other_models(made, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(PriorError, match=r"model\.ckpt is a file: expected a diffusers folder"):
        load_prior("modelscope", str(tmp_path / "model.ckpt"))
    folder = folder_in("safetensors", made, tmp_path / "f")
    edit(folder, "model_index.json", vae=[None, None])
    with pytest.raises(PriorError, match="holds no VAE"):
        load_prior("zeroscope", str(folder))
    edit(folder, "model_index.json", vae=["diffusers", "AutoencoderKL"], unet=["diffusers", "UNetMotionModel"])
    with pytest.raises(PriorError, match=r"f/model_index\.json names 'UNetMotionModel' as 'unet'"):
        load_prior("zeroscope", str(folder))
    edit(folder, "model_index.json", unet=["diffusers", "UNet3DConditionModel"])
    edit(folder, "unet/config.json", block_out_channels=[64, 64])
    with pytest.raises(PriorError, match="unet"):
        load_prior("zeroscope", str(folder))


# --- paths and the hub ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    """Every way to the hub counts how often it was taken, and fails."""
    import huggingface_hub

    asked = []

    def refuse(*args, **_):
        asked.append(args)
        raise ConnectionError("offline")

    for name in ("list_repo_files", "snapshot_download"):
        monkeypatch.setattr(huggingface_hub, name, refuse)
    return asked


@pytest.mark.parametrize("name", [*NAMES, "videocrafter1", "videocrafter2"])
def test_nothing_is_asked_of_the_hub_unless_a_hub_id_is_named(name, no_network, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "priors").mkdir()
    with pytest.raises(PriorError, match=r"does not ship .* hub id"):
        load_prior(name)
    for path in ("/no/where", "nothing", "./a/b", "priors/gone", "../up/down/left"):
        with pytest.raises(PriorError, match="there is no file or folder"):
            load_prior(name, path)
    assert not no_network
    with pytest.raises(PriorError, match=r"no folder someone/model here.*\(offline\)"):
        load_prior(name, "someone/model")
    assert no_network == [("someone/model",)]


def test_a_hub_id_is_fetched_into_the_cache(made, monkeypatch):
    import huggingface_hub

    files = [str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()]
    fetched = []

    def snapshot(hub_id, allow_patterns):
        fetched.append((hub_id, sorted(allow_patterns)))
        return str(made)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda hub_id: [*files, "big_video.mp4", "README.md"])
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    assert load_prior("modelscope", HUB_IDS["modelscope"]).spec.name == "modelscope"
    [(hub_id, names)] = fetched
    assert hub_id == HUB_IDS["modelscope"]
    weights = [name for name in names if name.endswith(("bin", "safetensors"))]
    assert weights == [f"{part}/{STEMS[part]}.safetensors" for part in sorted(STEMS)]
    assert {"model_index.json", "scheduler/scheduler_config.json", "tokenizer/vocab.json", "vae/config.json"} <= {
        *names
    }
    assert "big_video.mp4" not in names
    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda hub_id: ["README.md"])
    with pytest.raises(PriorError, match=r"holds no diffusers folder and no model\.ckpt"):
        hub.local_path("some/thing", "modelscope", torch.float32, "a/b")


def test_offline_a_hub_id_is_found_in_the_cache(made, no_network, tmp_path, monkeypatch):
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cache = tmp_path / "models--someone--model"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0123abcd")
    (cache / "snapshots").mkdir()
    with pytest.raises(PriorError, match="cannot be fetched"):
        load_prior("modelscope", "someone/model")
    (cache / "snapshots" / "0123abcd").symlink_to(made)
    assert load_prior("modelscope", "someone/model").spec.frames == 16


def test_which_weights_are_fetched():
    index = ["model_index.json"]
    weights = [f"unet/diffusion_pytorch_model{v}.{e}" for v in ("", ".fp16") for e in ("bin", "safetensors")]
    assert wanted_files(index + weights, torch.float32) == [*index, weights[1]]
    assert wanted_files(index + weights, torch.float16) == [*index, weights[3]]
    assert wanted_files(index + weights[:1], torch.float16) == [*index, weights[0]]
    assert wanted_files(index + weights[2:3], torch.float32) == [*index, weights[2]]
    shards = [f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    shards.append("unet/diffusion_pytorch_model.safetensors.index.json")
    assert wanted_files(index + shards, torch.float32) == index + shards
    assert wanted_files(["README.md", "model.ckpt", "other.ckpt"], torch.float32) == ["model.ckpt"]
