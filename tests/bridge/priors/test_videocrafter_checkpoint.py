"""What VideoCrafter's checkpoints may look like, and what is refused in one line."""

import pickle

import pytest
import torch

from bridge.priors import PriorError, load_prior
from bridge.priors.videocrafter.checkpoint import load_checkpoint
from bridge.priors.weights.state_dicts import read_tensors
from tests.bridge.priors import videocrafter_twin as twin
from tools.convert_videocrafter import convert

F32 = torch.float32


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    """(the tensors, model.ckpt) of a VideoCrafter 2, made once."""
    _, whole = twin.checkpoint(2, True)
    path = tmp_path_factory.mktemp("second") / "model.ckpt"
    torch.save({"state_dict": whole}, path)
    return whole, path


@pytest.mark.parametrize("layout", ["deepspeed", "bare", "old torch.save", "safetensors"])
def test_layouts_hold_the_same_tensors(layout, second, tmp_path):
    from safetensors.torch import save_file

    whole, _ = second
    file = tmp_path / "model.ckpt"
    if layout == "deepspeed":
        torch.save({"module": {f"_forward_module.{k}": v for k, v in whole.items()}, "global_steps": 7}, file)
    elif layout == "bare":
        torch.save(whole, file)
    elif layout == "old torch.save":
        torch.save({"state_dict": whole}, file, _use_new_zipfile_serialization=False)
    else:
        file = tmp_path / "model.safetensors"
        save_file(whole, file)
    found = read_tensors(file)
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], whole[name]) for name in whole)


def test_the_converter_overwrites_nothing(second, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(PriorError, match="no empty folder"):
        convert(second[1], tmp_path)


# --- what is refused --------------------------------------------------------------------------------------------------


def saved(tmp_path, content):
    torch.save(content, tmp_path / "bad.ckpt")
    return tmp_path / "bad.ckpt"


def test_a_truncated_checkpoint(second, tmp_path):
    whole = second[1].read_bytes()
    for size in (0, 100, len(whole) // 2, len(whole) - 1000):
        (tmp_path / "bad.ckpt").write_bytes(whole[:size])
        with pytest.raises(PriorError, match=r"bad\.ckpt (is damaged|cannot be read)") as error:
            load_checkpoint(tmp_path / "bad.ckpt", F32)
        assert "weights_only" not in str(error.value)  # torch's advice, which is to execute the file


def test_a_pickle_is_never_executed(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    for write in (torch.save, lambda x, f: f.write_bytes(pickle.dumps(x, protocol=2))):
        write({"state_dict": {"model.diffusion_model.x": Evil()}}, tmp_path / "bad.ckpt")
        with pytest.raises(PriorError, match=r"more than tensors.*: .*[Uu]nsupported"):
            load_checkpoint(tmp_path / "bad.ckpt", F32)
    assert not (tmp_path / "executed").exists()


def change(whole, *, drop=(), add=(), reshape=()):
    result = {k: v for k, v in whole.items() if k not in drop} | {k: torch.zeros(3) for k in add}
    return result | {k: torch.zeros(*whole[k].shape, 2) for k in reshape}


U, V, C = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.model."


@pytest.mark.parametrize(("edit", "message"), [
    ({"drop": [U + "out.0.weight", U + "middle_block.0.emb_layers.1.bias"]},
     r"UNet: of \d+ weights, 2 missing \(middle_block.0.emb_layers.1.bias, out.0.weight\)"),
    ({"drop": [U + "input_blocks.0.0.weight"]}, r"UNet: its structure cannot be told .*input_blocks.0.0.weight"),
    ({"add": [U + "image_proj.weight"]}, r"UNet: of \d+ weights, 1 unknown \(image_proj.weight\)"),
    ({"reshape": [U + "out.0.weight"]}, r"UNet: of \d+ weights, 1 of another shape \(conv_norm_out.weight\)"),
    ({"drop": [V + "quant_conv.weight"]}, r"VAE: of \d+ weights, 1 missing \(quant_conv.weight\)"),
    ({"add": [V + "extra.weight"]}, r"VAE: 1 of \d+ weights belong to another model"),
    ({"drop": [C + "ln_final.bias"]}, r"text encoder: of \d+ weights, 1 missing \(ln_final.bias\)"),
    ({"add": [C + "visual.proj"]}, r"text encoder: of \d+ weights, 1 unknown \(visual.proj\)"),
])  # fmt: skip
def test_what_does_not_fit_is_named_and_counted(edit, message, second, tmp_path):
    with pytest.raises(PriorError, match=message):
        load_checkpoint(saved(tmp_path, {"state_dict": change(second[0], **edit)}), F32)


def test_other_checkpoints(second, tmp_path):
    whole, path = second
    with pytest.raises(PriorError, match="is no VideoCrafter checkpoint: of its 1 entries"):
        load_checkpoint(saved(tmp_path, {"state_dict": {"unet.weight": torch.zeros(2)}}), F32)
    with pytest.raises(PriorError, match="must hold a dict of tensors, found a Tensor"):
        load_checkpoint(saved(tmp_path, torch.zeros(2)), F32)
    only_unet = {name: tensor for name, tensor in whole.items() if name.startswith(U)}
    with pytest.raises(PriorError, match=r"none of its .* in 'first_stage_model.'"):
        load_checkpoint(saved(tmp_path, {"state_dict": only_unet}), F32)
    with pytest.raises(PriorError, match="load it with --prior=videocrafter2, not videocrafter1"):
        load_prior("videocrafter1", path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(PriorError, match="holds 0 checkpoints"):
        load_prior("videocrafter2", str(tmp_path / "nothing"))
    with pytest.raises(PriorError, match="does not ship with the program"):
        load_prior("videocrafter2")


def test_a_damaged_folder(second, tmp_path):
    convert(second[1], tmp_path / "folder")
    weights = tmp_path / "folder" / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(PriorError, match="unet cannot be read as a VideoCrafter UNet"):
        load_prior("videocrafter2", tmp_path / "folder")
    weights.unlink()
    with pytest.raises(PriorError, match="unet cannot be read as a VideoCrafter UNet"):
        load_prior("videocrafter2", tmp_path / "folder")
