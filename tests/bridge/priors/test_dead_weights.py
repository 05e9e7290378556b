"""Weights that are NaN, infinite or all zero: refused when they are loaded, in every part, before a run begins."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from bridge.priors import PriorError, load_prior
from tests.bridge.priors import tiny_priors
from tests.bridge.priors import videocrafter_twin as twin


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_priors.video_folder(tmp_path_factory.mktemp("dead") / "prior")


def changed(folder, to, part, change):
    copy = shutil.copytree(folder, to)
    (file,) = (copy / part).glob("*.safetensors")
    save_file({name: change(name, tensor) for name, tensor in load_file(file).items()}, file, {"format": "pt"})
    return copy


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_one_number_that_is_not_finite(folder, tmp_path, part, bad):
    last = sorted(load_file(next((folder / part).glob("*.safetensors"))))[-1]

    def change(name, tensor):
        if name == last:
            tensor.view(-1)[-1] = bad
        return tensor

    with pytest.raises(PriorError, match=rf"{part}: the weight .* holds 1 numbers that are NaN or infinite") as caught:
        load_prior("modelscope", str(changed(folder, tmp_path / "p", part, change)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_nothing_but_zeros(folder, tmp_path, part):
    bad = changed(folder, tmp_path / "p", part, lambda name, tensor: torch.zeros_like(tensor))
    with pytest.raises(PriorError, match=rf"{part}: no weight of \w+ is below zero"):
        load_prior("modelscope", str(bad))


def test_the_embedded_prior_and_its_text_encoder(tmp_path):
    whole = tiny_priors.packed_folder(tmp_path / "whole")
    load_prior("embedded", str(whole))
    for part in ("unet", "text_encoder"):
        bad = changed(whole, tmp_path / part, part, lambda name, tensor: torch.full_like(tensor, torch.nan))
        with pytest.raises(PriorError, match="NaN or infinite"):
            load_prior("embedded", str(bad))


def test_too_large_for_half_precision_is_noticed_there(folder, tmp_path):
    huge = changed(folder, tmp_path / "p", "unet", lambda name, tensor: tensor * 1e8)
    load_prior("modelscope", str(huge))
    with pytest.raises(PriorError, match="too large for float16"):
        load_prior("modelscope", str(huge), dtype="float16")


def test_a_checkpoint_of_videocrafter(tmp_path):
    _, whole = twin.checkpoint(2, True)
    name = next(name for name in whole if name.startswith("first_stage_model.decoder"))
    torch.save({"state_dict": {**whole, name: torch.full_like(whole[name], torch.nan)}}, tmp_path / "model.ckpt")
    with pytest.raises(PriorError, match=r"VAE: the weight .* NaN or infinite"):
        load_prior("videocrafter2", str(tmp_path / "model.ckpt"))
