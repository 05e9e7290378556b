"""How Wan 2.1, CogVideoX and LTX-Video folders may look, their tokenizers, and what is refused in one line."""

import json
import shutil
import struct

import pytest
import torch

from bridge.priors import LOADERS, PriorError, load_prior
from bridge.priors.hub import wanted_files
from bridge.priors.transformer.t5_text import _fields, read_tokenizer, tokenizer_of
from tests.bridge.priors import tiny_transformers as tiny
from tests.bridge.priors.test_text_to_video import edit, no_network  # noqa: F401

NAMES = list(tiny.MAKERS)
TEXTS = ["a person is walking", "", "the quick  fox, é", "a " * 40]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("transformers")
    return {name: tiny.transformer_folder(root / name, name) for name in NAMES}


def outputs(prior):
    """What the networks of a prior say about fixed inputs."""
    g = torch.Generator().manual_seed(0)
    z = torch.randn(1, *prior.spec.latent_shape_of(5, 32, 32), generator=g)
    text = prior.embed(["a person is walking"], "still").positive
    video = torch.rand(1, 3, 5, 32, 32, generator=g)
    return text.hidden, prior.encode(video), prior.predict(z, torch.tensor([0.3]), (text,))[0]


FORMS = {
    "whole": {"sharded": False},
    "bin": {"safe": False},
    "fp16": {"variant": "fp16", "dtype": torch.float16},
    "fp16 whole": {"variant": "fp16", "dtype": torch.float16, "sharded": False},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_form_loads_to_the_same_prior(name, folders, tmp_path):
    expected = outputs(load_prior(name, str(folders[name])))
    for form, options in FORMS.items():
        folder = tiny.transformer_folder(tmp_path / form, name, **options)
        if form == "bin":  # transformers writes none any more
            as_bin(folder / "text_encoder")
        files = [path.name for path in folder.rglob("*") if path.suffix in (".bin", ".safetensors")]
        assert all((".fp16" in f) == ("fp16" in form) and f.endswith(".bin") == (form == "bin") for f in files), files
        tolerance = 3e-2 if "fp16" in form else 1e-6
        for a, b in zip(outputs(load_prior(name, str(folder))), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


def as_bin(folder):
    from safetensors.torch import load_file

    state = {}
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]:
        if file.suffix == ".safetensors":
            state |= load_file(file)
        file.unlink()
    torch.save(state, folder / "pytorch_model.bin")


@pytest.mark.parametrize("name", NAMES)
def test_half_precision(name, folders):
    expected = outputs(load_prior(name, str(folders[name])))
    prior = load_prior(name, str(folders[name]), dtype="bfloat16")
    precisions = {parameter.dtype for parameter in prior._transformer.parameters()}
    # what Wan's authors keep in float32 stays in it
    assert precisions == ({torch.bfloat16, torch.float32} if name in tiny.UMT5 else {torch.bfloat16})
    assert prior._vae.dtype == (torch.float32 if name in tiny.UMT5 else torch.bfloat16)
    for a, b in zip(outputs(prior), expected, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=0.1, atol=0.1)
    video, z = torch.rand(1, 3, 6, 32, 32), torch.randn(1, *prior.spec.latent_shape_of(6, 32, 32))
    assert prior.encode_vjp(video, z).isfinite().all()


# --- tokenizers -------------------------------------------------------------------------------------------------------


def test_both_files_cut_texts_alike(tmp_path):
    tiny.write_spiece(tmp_path / "spiece.model")
    from_spiece = read_tokenizer(tmp_path)
    tiny.tokenizer().backend_tokenizer.save(str(tmp_path / "tokenizer.json"))
    from_json = read_tokenizer(tmp_path)
    ids = tiny.tokenizer()(TEXTS, padding="max_length", max_length=12, truncation=True).input_ids
    for tokenizer in (from_spiece, from_json):
        tokenizer.enable_truncation(12)
        tokenizer.enable_padding(length=12, pad_id=0)
        assert [row.ids for row in tokenizer.encode_batch(TEXTS)] == ids
    assert ids[1] == [1] + [0] * 11 and ids[3][-1] == 1  # the end token stays when a text is cut


def test_sentencepiece_models_are_read_as_protocol_buffers_are(tmp_path):
    pytest.importorskip("google.protobuf")
    model_pb2 = pytest.importorskip("transformers.utils.sentencepiece_model_pb2_new")
    # a table of replacements that replaces nothing: a trie of empty units
    tiny.write_spiece(tmp_path / "spiece.model", charsmap=struct.pack("<I", 1024) + bytes(1024))
    content = (tmp_path / "spiece.model").read_bytes()
    model = model_pb2.ModelProto()
    model.ParseFromString(content)
    assert [(piece.piece, piece.score) for piece in model.pieces] == tiny.vocabulary()
    assert model.trainer_spec.model_type == 1
    fields = list(_fields(content))
    assert dict(_fields(fields[-1][1]))[2] == model.normalizer_spec.precompiled_charsmap
    assert tokenizer_of(content).encode("a person").ids == [4, 5, 1]


def test_damaged_tokenizers(tmp_path):
    with pytest.raises(PriorError, match=r"holds no tokenizer: expected tokenizer\.json or spiece\.model"):
        read_tokenizer(tmp_path)
    tiny.write_spiece(tmp_path / "spiece.model")
    content = (tmp_path / "spiece.model").read_bytes()
    for damaged in (content[:100], b"", b"not a model", content[1:]):
        (tmp_path / "spiece.model").write_bytes(damaged)
        with pytest.raises(PriorError, match=r"spiece\.model cannot be read as a tokenizer"):
            read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(PriorError, match=r"tokenizer\.json cannot be read as a tokenizer"):
        read_tokenizer(tmp_path)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", tiny.PARTS)
def test_missing_and_truncated_weights(part, folders, tmp_path):
    folder = shutil.copytree(folders["wan21"], tmp_path / "f")
    weights = sorted((folder / part).glob("*.safetensors"))[-1]
    content = weights.read_bytes()
    weights.write_bytes(content[: len(content) // 2])
    with pytest.raises(PriorError, match=rf"{part} cannot be loaded|{part}/\S+ is damaged") as caught:
        load_prior("wan21", str(folder))
    assert "\n" not in str(caught.value)
    weights.unlink()
    with pytest.raises(PriorError, match=f"{part} (cannot be loaded|holds no weights)"):
        load_prior("wan21", str(folder))


@pytest.mark.parametrize("file", ["model_index.json", "vae/config.json", "scheduler/scheduler_config.json"])
def test_missing_files(file, folders, tmp_path):
    folder = shutil.copytree(folders["ltx"], tmp_path / "f")
    (folder / file).unlink()
    with pytest.raises(PriorError, match=f"{file} is missing"):
        load_prior("ltx", str(folder))


def test_weights_that_do_not_fit_are_counted(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["cogvideox"], tmp_path / "f")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    gone = sorted(name for name in state if "conv_out" in name)
    save_file({name: t for name, t in state.items() if name not in gone} | {"extra.weight": torch.zeros(1)}, weights)
    message = (
        rf"vae: {len(gone)} weights of AutoencoderKLCogVideoX are missing, first {gone[0]}, 1 unknown \(first extra"
    )
    with pytest.raises(PriorError, match=message):
        load_prior("cogvideox", str(folder))


def test_other_models(folders, tmp_path):
    with pytest.raises(PriorError, match=r"names 'LTXVideoTransformer3DModel' as 'transformer': expected .*Wan"):
        load_prior("wan21", str(folders["ltx"]))
    with pytest.raises(PriorError, match=r"model_index.json is a LTXPipeline's: expected StableDiffusionPipeline"):
        load_prior("modelscope", str(folders["ltx"]))
    folder = shutil.copytree(folders["wan21"], tmp_path / "wan")
    edit(folder, "scheduler/scheduler_config.json", use_flow_sigmas=False, prediction_type="epsilon")
    with pytest.raises(PriorError, match=r"scheduler describes no flow \(UniPCMultistepScheduler"):
        load_prior("wan21", str(folder))
    folder = shutil.copytree(folders["cogvideox"], tmp_path / "cog")
    edit(folder, "scheduler/scheduler_config.json", prediction_type="epsilon")
    with pytest.raises(PriorError, match="expected v_prediction"):
        load_prior("cogvideox", str(folder))
    shutil.rmtree(folder / "text_encoder")
    torch.manual_seed(0)
    from transformers import T5Config, T5EncoderModel

    T5EncoderModel(T5Config(vocab_size=64, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)).save_pretrained(
        folder / "text_encoder"
    )
    with pytest.raises(PriorError, match="reads text of width 16, the text encoder writes 8"):
        load_prior("cogvideox", str(folder))


def test_texts_are_embedded_once(folders):
    prior = load_prior("ltx", str(folders["ltx"]))
    conditioning = prior.embed(["a person", "walking"], "")
    assert conditioning.positive.hidden.shape == (2, 128, tiny.TEXT_WIDTH)
    assert conditioning.positive.mask.sum(dim=1).tolist() == [3, 2] and conditioning.negative.mask.sum() == 1
    with pytest.raises(PriorError, match="has been freed"):
        prior.embed(["a person"])


# --- the hub ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_asked_of_the_hub_unless_a_hub_id_is_named(name, no_network, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    assert name in LOADERS
    with pytest.raises(PriorError, match=r"does not ship .* hub id"):
        load_prior(name)
    with pytest.raises(PriorError, match="there is no file or folder"):
        load_prior(name, "/no/where")
    assert not no_network
    with pytest.raises(PriorError, match=r"no folder someone/model here.*\(offline\)"):
        load_prior(name, "someone/model")
    assert no_network == [("someone/model",)]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_fetched_are_a_whole_prior(name, folders, tmp_path):
    source = folders[name]
    files = [str(path.relative_to(source)) for path in source.rglob("*") if path.is_file()]
    wanted = wanted_files([*files, "README.md", "media/trailer.gif", "ltx-video-2b-v0.9.safetensors"], torch.float16)
    for file in wanted:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / file, tmp_path / file)
    assert sorted(wanted) == sorted(files)
    assert load_prior(name, str(tmp_path)).spec.name == name


def test_which_pieces_are_fetched():
    index = ["model_index.json"]
    pieces = [f"transformer/diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    pieces.append("transformer/diffusion_pytorch_model.safetensors.index.json")
    half = [f"transformer/diffusion_pytorch_model.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)]
    half.append("transformer/diffusion_pytorch_model.safetensors.index.fp16.json")
    old = [f"transformer/diffusion_pytorch_model-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)]
    assert sorted(wanted_files(index + pieces + half, torch.float32)) == sorted(index + pieces)
    assert sorted(wanted_files(index + pieces + half, torch.float16)) == sorted(index + half)
    assert sorted(wanted_files(index + old, torch.float16)) == sorted(index + old)
    assert json.dumps(wanted_files(index, torch.float32)) == json.dumps(index)
