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
