"""What the doctor says of a prior is what a run does with it: both take a folder, or refuse it with the same line."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge.priors import PriorError, load_prior
from bridge.priors.files import describe
from tests.bridge.priors import single_files as files
from tests.bridge.priors import tiny_transformers as tiny
from tests.bridge.priors.test_animatediff import motion_adapter
from tests.bridge.priors.test_refusals import hub_cache

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"
SCHEDULER = "scheduler/scheduler_config.json"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("families")
    videos = {name: tiny.transformer_folder(root / name, name) for name in ("wan21", "skyreels2", "cogvideox", "ltx")}
    return {"sd15": files.stable_diffusion(root, 1)[0], **videos}


def refused(name, path, match):
    said = []
    for look in (load_prior, describe):
        with pytest.raises(PriorError, match=match) as caught:
            look(name, str(path))
        said.append(str(caught.value))
    assert "\n" not in said[0] and said[0] == said[1]


def changed(folders, name, tmp_path, file, **changes):
    folder = shutil.copytree(folders[name], tmp_path / "folder")
    tiny.edit_json(folder / file, **changes)
    return folder


@pytest.mark.parametrize("name", ["wan21", "skyreels2", "cogvideox", "ltx"])
def test_an_index_that_promises_a_weight(name, folders, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "f")
    piece = sorted((folder / "transformer").glob("*.safetensors"))[1]
    state = load_file(piece)
    gone = sorted(state)[0]
    save_file({key: tensor for key, tensor in state.items() if key != gone}, piece, {"format": "pt"})
    refused(name, folder, rf"transformer: 1 weights are missing that .*index\.json places in its files, first {gone}")


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("sd15", {"timestep_type": "continuous"}, "PNDMScheduler with continuous times"),
        ("sd15", {"use_flow_sigmas": True}, "PNDMScheduler set to flows"),
        ("sd15", {"prediction_type": ["epsilon"]}, "has prediction_type .*expected epsilon"),
        ("sd15", {"beta_start": "x"}, "describes no noise schedule"),
        ("sd15", {"beta_schedule": "linear", "beta_end": None}, "describes no noise schedule"),
        ("sd15", {"num_train_timesteps": 0}, "describes no noise schedule"),
        ("sd15", {"beta_end": 12.0}, "must fall from 1 to 0"),
        ("wan21", {"_class_name": "DDIMScheduler", "use_flow_sigmas": False}, "describes no flow .DDIMScheduler"),
        ("wan21", {"prediction_type": "epsilon"}, "describes no flow .*'epsilon'"),
        ("wan21", {"flow_shift": 0}, "has flow_shift=0: expected a number above 0"),
        ("skyreels2", {"flow_shift": "x"}, "has flow_shift='x': expected a number above 0"),
        ("ltx", {"num_train_timesteps": "many"}, "has num_train_timesteps='many'"),
        ("ltx", {"base_image_seq_len": 4096}, "states its shift for one size alone"),
        ("cogvideox", {"_class_name": "DDIMScheduler"}, "describes DDIMScheduler"),
        ("cogvideox", {"snr_shift_scale": "x"}, "describes no noise schedule"),
        ("cogvideox", {"snr_shift_scale": 0}, "must fall from 1 to 0"),
    ],
)
def test_schedules_that_are_none(name, changes, match, folders, tmp_path):
    refused(name, changed(folders, name, tmp_path, SCHEDULER, **changes), match)


@pytest.mark.parametrize(
    ("name", "changes", "match"),
    [
        ("wan21", {"_class_name": "WanDMDPipeline"}, "is a WanDMDPipeline's: expected WanPipeline"),
        ("wan21", {"vae": "AutoencoderKLWan"}, "names None as 'vae'"),
        ("cogvideox", {"_class_name": "CogVideoXImageToVideoPipeline"}, "is a CogVideoXImageToVideoPipeline's"),
        ("skyreels2", {"_class_name": "SkyReelsV2Pipeline"}, "told frame rates .inject_sample_info"),
        ("sd15", {"text_encoder": ["transformers", None]}, "names None as 'text_encoder'"),
        ("sd15", {"_class_name": "LatentConsistencyModelPipeline"}, "is a LatentConsistencyModelPipeline's: expected"),
        ("sd15", {"_class_name": "StableDiffusionXLPipeline"}, "is a StableDiffusionXLPipeline's: expected"),
    ],
)
def test_what_model_index_says(name, changes, match, folders, tmp_path):
    refused(name, changed(folders, name, tmp_path, "model_index.json", **changes), match)


def test_a_unet_that_is_told_its_guidance(folders, tmp_path):
    from diffusers import UNet2DConditionModel

    folder = shutil.copytree(folders["sd15"], tmp_path / "f")
    config = json.loads((folder / "unet" / "config.json").read_text())
    UNet2DConditionModel.from_config(config | {"time_cond_proj_dim": 8}).save_pretrained(folder / "unet")
    refused("sd15", folder, "told more than time and text .time_cond_proj_dim=8")


def test_adapters_of_another_model(folders, tmp_path):
    xl = motion_adapter(tmp_path / "xl", block_out_channels=(32, 64, 64), use_motion_mid_block=False)
    wide = motion_adapter(tmp_path / "wide", block_out_channels=(64, 128))
    for adapter in (xl, wide):
        refused("animatediff", f"{folders['sd15']},{adapter}", "does not fit the UNet in .*sd1/unet")
    newer = motion_adapter(tmp_path / "v3", use_motion_mid_block=False)
    assert "motion adapter" in describe("animatediff", f"{folders['sd15']},{newer}")
    assert load_prior("animatediff", f"{folders['sd15']},{newer}").spec.frames == 16


@pytest.mark.parametrize(("name", "file"), [("wan21", "tokenizer.json"), ("ltx", "spiece.model")])
def test_tokenizers_that_git_has_not_fetched(name, file, folders, tmp_path):
    folder = shutil.copytree(folders[name], tmp_path / "f")
    (folder / "tokenizer" / file).write_bytes(POINTER)
    refused(name, folder, f"tokenizer cannot be loaded: {file} is a git-LFS pointer")


@pytest.mark.parametrize(
    ("name", "file"),
    [("sd15", "v1-5.safetensors"), ("ltx", "ltx-video-2b-v0.9.safetensors"), ("videocrafter2", "m.ckpt")],
)
def test_single_files_that_git_has_not_fetched(name, file, folders, tmp_path):
    (tmp_path / file).write_bytes(POINTER)
    beside = f",{folders['ltx']}" if name == "ltx" else ""
    refused(name, f"{tmp_path / file}{beside}", f"{file} is a git-LFS pointer")


def test_names_that_say_distilled(folders, tmp_path, monkeypatch):
    import huggingface_hub

    match = "0.9.8-13B-distilled is distilled to a few steps by its name"
    refused("ltx", shutil.copytree(folders["ltx"], tmp_path / "LTX-Video-0.9.8-13B-distilled"), match)
    hub_cache(folders["ltx"], tmp_path, "Lightricks/LTX-Video-0.9.8-13B-distilled")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("ltx", "Lightricks/LTX-Video-0.9.8-13B-distilled", match)


def test_ltx_since_0_9_5_is_told_by_its_vae(tmp_path):
    """diffusers' converter names LTXPipeline in the folders of 0.9.5, whose times are LTXConditionPipeline's."""
    folder, _ = files.ltx(tmp_path, "0.9.5")
    outputs = []
    for pipeline in ("LTXConditionPipeline", "LTXPipeline"):
        tiny.edit_json(folder / "model_index.json", _class_name=pipeline)
        prior = load_prior("ltx", str(folder))
        z = torch.randn(1, *prior.spec.latent_shape_of(9, 32, 64), generator=torch.Generator().manual_seed(0))
        text = prior.embed(["a person"]).positive
        outputs.append(prior.predict(z, torch.tensor([0.3]), [text])[0])
        assert "LTX-Video 0.9.5 to 0.9.8" in describe("ltx", str(folder)) and text.hidden.shape[1] == 256
    assert torch.equal(*outputs)


# --- files of weights -------------------------------------------------------------------------------------------------


def rewritten(file, change):
    state = load_file(file)
    change(state)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file, {"format": "pt"})


def doubled(state):
    name = max(state, key=lambda key: state[key].ndim)
    state[name] = torch.cat([state[name], state[name]])


def turned(state):
    """As many numbers as before, in another shape."""
    name = next(key for key in sorted(state) if state[key].ndim >= 2 and len(set(state[key].shape[:2])) == 2)
    state[name] = state[name].transpose(0, 1)


@pytest.mark.parametrize("part", ["unet", "transformer", "vae", "text_encoder"])
@pytest.mark.parametrize("name", ["sd15", "wan21", "ltx"])
def test_a_weight_of_another_shape_and_a_damaged_file(name, part, folders, tmp_path):
    if not (folders[name] / part).exists():
        pytest.skip("the family has no such part")
    for change in (doubled, turned):
        folder = shutil.copytree(folders[name], tmp_path / change.__name__)
        rewritten(sorted((folder / part).glob("*.safetensors"))[0], change)
        refused(name, folder, rf"{part}: 1 weights have another shape than in \w+, first .*: expected \(.*\), found \(")
    file = sorted((folder / part).glob("*.safetensors"))[0]
    whole = file.read_bytes()
    for content in (b"", whole[: len(whole) // 2]):
        file.write_bytes(content)
        refused(name, folder, f"{part} cannot be loaded: {file.name} is damaged .*fetch it again")


def test_a_whole_file_beside_pieces(folders, tmp_path):
    """diffusers reads the pieces, transformers the whole file: what is not read may be of any age."""
    folder = shutil.copytree(folders["wan21"], tmp_path / "f")
    states = {part: pieces_of(folder / part) for part in ("transformer", "text_encoder")}
    assert all(len(files) > 1 for files, _ in states.values())
    save_file(states["text_encoder"][1], folder / "text_encoder" / "model.safetensors", {"format": "pt"})
    rewritten(states["text_encoder"][0][0], doubled)
    zeros = {key: torch.zeros_like(tensor) for key, tensor in states["transformer"][1].items()}
    save_file(zeros, folder / "transformer" / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    (folder / "text_encoder" / "pytorch_model.safetensors").write_bytes(b"a name that transformers does not read")
    assert "every weight has its place" in describe("wan21", str(folder))
    found, expected = (load_prior("wan21", str(path)) for path in (folder, folders["wan21"]))
    for network in ("_transformer", "_text_encoder"):
        states = [getattr(prior, network).state_dict() for prior in (found, expected)]
        assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    piece = sorted((folder / "transformer").glob("*-of-*.safetensors"))[1]
    rewritten(piece, lambda state: state.pop(sorted(state)[0]))
    refused("wan21", folder, "transformer: 1 weights are missing that .* places in its files")


def pieces_of(where):
    """(the pieces, all weights in them)."""
    pieces = sorted(where.glob("*-of-*.safetensors"))
    return pieces, {key: tensor for piece in pieces for key, tensor in load_file(piece).items()}


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_other_files_than_weights_are_named(part, folders, tmp_path):
    folder = shutil.copytree(folders["wan21"], tmp_path / "f")
    for file in (folder / part).glob("*.safetensors"):
        file.rename(file.with_suffix(".pth"))
    for file in (folder / part).glob("*.index.json"):
        file.unlink()
    refused("wan21", folder, rf"{part} holds no weights: expected \w+\.safetensors .*, found \S+\.pth")


def test_a_configuration_of_another_class(folders, tmp_path):
    folder = changed(folders, "wan21", tmp_path, "transformer/config.json", _class_name="WanVACETransformer3DModel")
    refused("wan21", folder, "is a WanVACETransformer3DModel's: expected WanTransformer3DModel, as model_index.json")


@pytest.mark.parametrize("look", [load_prior, describe])
def test_settings_that_diffusers_does_not_know_are_told(look, folders, tmp_path):
    folder = changed(folders, "wan21", tmp_path, "transformer/config.json", rope_of_tomorrow=3)
    with pytest.warns(
        UserWarning, match="states rope_of_tomorrow, which the installed WanTransformer3DModel does not know"
    ):
        look("wan21", str(folder))


def test_a_configuration_of_absurd_size_fills_no_memory(folders, tmp_path):
    folder = changed(folders, "wan21", tmp_path, "transformer/config.json", num_layers=10**6)
    refused("wan21", folder, "describes no WanTransformer3DModel .config.json describes more than")


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
def test_a_tokenizer_of_clip_that_git_has_not_fetched(file, folders, tmp_path):
    folder = shutil.copytree(folders["sd15"], tmp_path / "f")
    (folder / "tokenizer" / file).write_bytes(POINTER)
    refused("sd15", folder, f"tokenizer cannot be loaded: {file} is a git-LFS pointer")
    shutil.rmtree(folder / "tokenizer")
    refused("sd15", folder, "tokenizer is missing: .* is no complete diffusers folder")
