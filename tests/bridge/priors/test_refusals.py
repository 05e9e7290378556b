"""What would load wrongly: other weights, parts, schedulers and settings. Each is refused in one line, or right."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge.distill import objectives as distill
from bridge.priors import PriorError, Setup, load_prior
from bridge.priors.files import check_files, describe
from bridge.priors.transformer.t5_text import PAD, read_tokenizer
from bridge.priors.weights.find import find_weights
from tests.bridge.priors import single_files, tiny_priors
from tests.bridge.priors import tiny_transformers as tiny
from tests.bridge.priors.test_text_to_video import edit, made  # noqa: F401

WAN = ["diffusers", "WanTransformer3DModel"]
FAMILIES = ["embedded", "modelscope", "sd15", "wan21", "cogvideox", "ltx"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    makers = {"embedded": tiny_priors.packed_folder, "modelscope": tiny_priors.video_folder,
              "sd15": tiny_priors.picture_folder}  # fmt: skip
    return {
        name: makers[name](root / name) if name in makers else tiny.transformer_folder(root / name, name)
        for name in FAMILIES
    }


def refused(name, folder, match):
    with pytest.raises(PriorError, match=match) as caught:
        load_prior(name, str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("extra", ["extra.weight", "decoder.block.9.weight", "norm_added_q.weight"])
@pytest.mark.parametrize("name", FAMILIES)
def test_one_weight_too_many_or_too_few_in_any_part(name, extra, folders, tmp_path):
    for part in ("unet", "transformer", "vae", "text_encoder"):
        if not (folders[name] / part).exists():
            continue
        folder = shutil.copytree(folders[name], tmp_path / part)
        file = sorted((folder / part).glob("*.safetensors"))[0]
        state = load_file(file)
        save_file({**state, extra: torch.zeros(2)}, file, {"format": "pt"})
        if indices := list((folder / part).glob("*.index.json")):
            places = json.loads(indices[0].read_text())["weight_map"]
            edit(folder, str(indices[0].relative_to(folder)), weight_map=places | {extra: file.name})
        refused(name, folder, rf"{part}: .* no place for 1 of the weights \({extra}\)")
        if extra == "extra.weight":
            gone = sorted(state)[0]
            save_file({key: state[key] for key in state if key != gone}, file, {"format": "pt"})
            refused(name, folder, rf"{part}(:| cannot be loaded)")


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("wan21", {"transformer_2": WAN}, "'WanTransformer3DModel' as 'transformer_2'"),
        ("wan21", {"boundary_ratio": 0.875, "transformer_2": WAN}, "boundary_ratio=0.875"),
        ("wan21", {"expand_timesteps": True}, "expand_timesteps=True"),
        ("wan21", {"image_encoder": ["transformers", "CLIPVisionModel"]}, "as 'image_encoder'"),
        ("sd15", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "as 'text_encoder_2'"),
        ("wan21", {"transformer": ["diffusers", "HunyuanVideo15Transformer3DModel"]}, "names 'HunyuanVideo15"),
        ("ltx", {"_class_name": "LTX2Pipeline"}, "is a LTX2Pipeline's: expected LTXPipeline"),
        ("ltx", {"is_distilled": True}, "is_distilled=True: the model is distilled"),
    ],
)  # fmt: skip
def test_what_model_index_says(name, changes, match, folders, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "f")
    edit(folder, "model_index.json", **changes)
    refused(name, folder, match)


def test_entries_that_say_nothing_are_fine(folders, tmp_path):
    folder = shutil.copytree(folders["wan21"], tmp_path / "f")
    edit(folder, "model_index.json", transformer_2=[None, None], boundary_ratio=None, expand_timesteps=False)
    assert load_prior("wan21", str(folder)).spec.name == "wan21"


@pytest.mark.parametrize("name", ["modelscope", "sd15", "embedded"])
def test_schedulers_that_a_unet_cannot_mean(name, folders, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "f")
    path = "scheduler/scheduler_config.json"
    before = (folder / path).read_text()
    flow = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
    (folder / path).write_text(json.dumps(flow))
    refused(name, folder, "describe FlowMatchEulerDiscreteScheduler: a UNet's family needs")
    (folder / path).write_text(before)
    edit(folder, path, _class_name="UniPCMultistepScheduler", use_flow_sigmas=True)
    refused(name, folder, "UniPCMultistepScheduler set to flows")
    edit(folder, path, _class_name="LCMScheduler", use_flow_sigmas=False)
    refused(name, folder, "describe LCMScheduler")
    edit(folder, path, _class_name="DDIMScheduler")
    edit(folder, "model_index.json", scheduler=["diffusers", "FlowMatchEulerDiscreteScheduler"])
    refused(name, folder, "describe FlowMatchEulerDiscreteScheduler")


def test_what_a_scheduler_leaves_out_is_its_own_default(folders, tmp_path):
    from diffusers import HeunDiscreteScheduler

    folder = shutil.copytree(folders["sd15"], tmp_path / "f")
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps({"_class_name": "HeunDiscreteScheduler"}))
    found = load_prior("sd15", str(folder))._alphas_cumprod
    torch.testing.assert_close(found, HeunDiscreteScheduler().alphas_cumprod.double())  # not DDPM's


def test_a_shift_by_size_is_not_wans(folders, tmp_path):
    folder = shutil.copytree(folders["wan21"], tmp_path / "f")
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps(tiny.SCHEDULERS["ltx"]))
    refused("wan21", folder, "expected one shift")


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["modelscope", "wan21"])
def test_only_bfloat16_files(name, folders, tmp_path):
    if name == "wan21":
        folder = tiny.transformer_folder(tmp_path / "f", name, variant="bf16", dtype=torch.bfloat16)
    else:
        folder = shutil.copytree(folders[name], tmp_path / "f")
        for file in list(folder.rglob("*.safetensors")):
            state = {key: t.bfloat16() if t.is_floating_point() else t for key, t in load_file(file).items()}
            file.unlink()
            save_file(state, file.with_name(f"{file.stem}.bf16.safetensors"), {"format": "pt"})
    (folder / "text_encoder" / "openvino_model.bin").write_bytes(b"no weights")
    assert {find_weights(p.parent, torch.float16)[0] for p in folder.glob("*/*.bf16*")} == {".bf16"}
    check_files(str(folder))
    text, plain = (load_prior(name, str(f)).embed(["a person"]).positive.hidden for f in (folder, folders[name]))
    torch.testing.assert_close(text, plain, rtol=0.05, atol=0.05)


def test_pointers_of_git_lfs(folders, tmp_path):
    note = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
    for ending in ("safetensors", "bin"):
        folder = shutil.copytree(folders["sd15"], tmp_path / ending)
        (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
        (folder / "vae" / f"diffusion_pytorch_model.{ending}").write_bytes(note)
        refused("sd15", folder, f"vae cannot be loaded: diffusion_pytorch_model.{ending} is a git-LFS pointer")
        with pytest.raises(PriorError, match="is a git-LFS pointer"):
            check_files(str(folder))


def hub_cache(folder, cache, hub_id="someone/model"):
    """The hub's own cache with a folder's files: blobs, and a snapshot of relative links to them."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123abcd"
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abcd")
    for number, file in enumerate(path for path in sorted(folder.rglob("*")) if path.is_file()):
        shutil.copy(file, repository / "blobs" / f"{number:040x}")
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        up = "../" * (len(link.relative_to(repository).parts) - 1)
        link.symlink_to(f"{up}blobs/{number:040x}")
    return snapshot


@pytest.mark.parametrize("name", ["sd15", "wan21"])
def test_a_hub_id_offline_is_read_through_relative_links(name, folders, tmp_path, monkeypatch):
    import huggingface_hub

    snapshot = hub_cache(folders[name], tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert load_prior(name, "someone/model").spec.origin == str(snapshot)
    found = describe(name, "someone/model")
    assert "every weight has its place" in found and "GB" in found and "licence: the folder states none" in found


def test_the_doctor_reads_headers(folders, tmp_path):
    folder = shutil.copytree(folders["wan21"], tmp_path / "f")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    found = describe("wan21", str(folder), (17, 480, 832))
    for words in (
        "Wan 2.1 (WanPipeline)",
        "transformer",
        "F32",
        "GiB for a step of 17 x 480x832",
        "apache-2.0 (README",
    ):
        assert words in found
    with pytest.raises(PriorError, match=r"is Wan 2\.1, not what prior 'ltx' reads .the priors for it: wan21."):
        describe("ltx", str(folder))
    edit(folder, "model_index.json", transformer_2=WAN, boundary_ratio=0.875)
    with pytest.raises(PriorError, match=r"boundary_ratio=0\.875"):
        describe("wan21", str(folder))
    folder = shutil.copytree(folders["sd15"], tmp_path / "sd")
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    save_file(load_file(file) | {"extra.weight": torch.zeros(1)}, file, {"format": "pt"})
    with pytest.raises(PriorError, match=r"no place for 1 of the weights \(extra.weight\)"):
        describe("sd15", str(folder))


def test_a_text_encoder_with_its_projection(folders, tmp_path):
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    folder = shutil.copytree(folders["sd15"], tmp_path / "f")
    config = CLIPTextConfig.from_pretrained(folder / "text_encoder")
    model = CLIPTextModelWithProjection(config).eval()
    shutil.rmtree(folder / "text_encoder")
    model.save_pretrained(folder / "text_encoder")
    edit(folder, "model_index.json", text_encoder=["transformers", "CLIPTextModelWithProjection"])
    prior = load_prior("sd15", str(folder))
    ids = prior._tokenizer(["walk"], padding="max_length", truncation=True, return_tensors="pt",
                           max_length=config.max_position_embeddings).input_ids  # fmt: skip
    with torch.no_grad():
        expected = model(ids).last_hidden_state
    torch.testing.assert_close(prior.embed(["walk"]).positive.hidden, expected)


# --- text -------------------------------------------------------------------------------------------------------------


def test_curly_quotes_and_ligatures_are_read_as_clip_was_trained(made):  # noqa: F811
    pairs = ["a dancer’s ﬂight", "a dancer's flight"]
    assert torch.equal(*(load_prior("modelscope", str(made)).embed([text]).positive.hidden for text in pairs))


def test_special_tokens_in_a_prompt_are_text(made, folders):  # noqa: F811
    prior = load_prior("modelscope", str(made))
    hidden = prior.embed(["stop <|endoftext|> a person", "stop <|endoftext|> a"]).positive.hidden
    assert not torch.allclose(hidden[0], hidden[1])
    for name in ("wan21", "ltx"):  # tokenizer.json and spiece.model
        tokenizer = read_tokenizer(folders[name] / "tokenizer")
        ids = tokenizer.encode("a </s> person<pad> walking").ids
        assert ids.count(1) == 1 and ids[-1] == 1 and tokenizer.token_to_id(PAD) not in ids
        assert tokenizer.encode("a person").ids == [4, 5, 1]


def test_wan_and_skyreels_read_text_as_their_pipelines_do(folders, tmp_path):
    from diffusers.pipelines.skyreels_v2 import pipeline_skyreels_v2_diffusion_forcing as skyreels
    from diffusers.pipelines.wan import pipeline_wan as wan

    folder = tiny.transformer_folder(tmp_path / "f", "skyreels2")
    for name, path, pipeline in (("wan21", folders["wan21"], wan), ("skyreels2", folder, skyreels)):
        prior = load_prior(name, str(path))
        for text in ("a dancer’s  ﬂight", "x &amp;amp; y", "“quoted”\n text"):
            assert prior.clean(text) == pipeline.prompt_clean(text)


@pytest.mark.parametrize("name", ["cogvideox", "ltx"])
def test_cogvideox_and_ltx_read_text_as_it_is(name, folders):
    prior = load_prior(name, str(folders[name]))
    assert all(prior.clean(text) == text for text in ("a dancer’s  ﬂight", "x &amp;amp; y"))


# --- LTX-Video 0.9.5 and later ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["0.9.5", "0.9.8"])
def test_newer_ltx_is_that_of_its_pipeline(version, tmp_path, monkeypatch):
    from tests.bridge.priors import test_video_transformers as older

    newest = version == "0.9.8"
    folder = tiny.newer_ltx_folder(tmp_path / "f", version) if newest else single_files.ltx(tmp_path, version)[0]
    monkeypatch.setitem(older.LENGTHS, "ltx", 256)
    sampling = older.sample(folder, "ltx", 3, frame_rate=10)
    prior = load_prior("ltx", str(folder))
    prior.configure(Setup(fps=10.0, frames=older.FRAMES, height=older.HEIGHT, width=older.WIDTH))
    texts = prior.embed([older.PROMPT], older.NEGATIVE).pair(torch.zeros(1, dtype=torch.long))
    assert texts[0].hidden.shape[1] == 256
    for z_t, step, hidden, positive, negative in older.pairs(sampling, "ltx"):
        torch.testing.assert_close(texts[0].hidden, hidden, rtol=1e-5, atol=1e-5)
        t = step.reshape(1) / 1000  # its scheduler shifts nothing
        found = prior.predict(z_t.float(), t, texts)
        torch.testing.assert_close(found[0], positive, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1], negative, rtol=1e-5, atol=1e-5)
    alpha, sigma = prior.alpha_sigma(t)
    estimate = distill.to_sample(distill.cfg(*found, 4.0), z_t, alpha, sigma, "flow")
    older.close(estimate, sampling.final)
    video = older.sample(folder, "ltx", 3, frame_rate=10, output_type="pt").final
    older.close(prior.decode(sampling.final), video.transpose(1, 2))
    leaf = torch.rand(1, 3, 9, 32, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    cotangent = torch.randn(sampling.final.shape, generator=torch.Generator().manual_seed(1))
    gradient = prior.encode_vjp(leaf.detach(), cotangent)
    expected = older.plain_latents(prior, "ltx", leaf)
    older.close(prior.encode(leaf.detach()), expected.detach())
    (plain,) = torch.autograd.grad(expected, leaf, cotangent)
    older.close(gradient / plain.abs().max(), plain / plain.abs().max())


def test_a_shift_beyond_its_table_is_said(folders):
    prior = load_prior("ltx", str(folders["ltx"]))
    with pytest.warns(
        UserWarning, match=r"7392 latents .* the 4096 .* shift is 25\.3 and t = 0\.02 is already σ = 0\.34"
    ):
        prior.configure(Setup(frames=161, height=512, width=704))
