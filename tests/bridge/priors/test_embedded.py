"""The shipped prior's own networks, against diffusers and transformers reading the same folder."""

import subprocess
import sys

import pytest
import torch

from bridge.priors import embedded, load_prior
from bridge.priors.embedded import network
from bridge.priors.folder import load_parts
from bridge.priors.spec import PriorError
from bridge.priors.weights.find import read_json

SENTENCES = ("a person is walking", "a man is punching, <end> side view " + "very " * 30, "Größe!! it’s <pad>")


@pytest.fixture(scope="module")
def both():
    """(ours, the libraries')."""
    assert network.fits(*(read_json(embedded.SHIPPED / part) for part in (
        "unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"
    ))), "the shipped prior has another structure: every start imports the libraries again"  # fmt: skip
    ours, device = load_prior("embedded"), torch.device("cpu")
    assert type(ours) is embedded.ShippedPrior
    parts = load_parts(embedded.SHIPPED, device, torch.float32)
    return ours, embedded.FolderPrior(embedded.spec_of("embedded", parts, embedded.SHIPPED, "float32"), parts, device)


def test_texts_and_pictures_come_out_as_the_libraries_have_them(both):
    texts = [prior.embed(SENTENCES, "nobody") for prior in both]
    for ours, theirs in zip(*((t.positive.hidden, t.negative.hidden) for t in texts), strict=True):
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    draw = torch.Generator().manual_seed(0)
    z, t = torch.randn((3, 3, 10, 32, 32), generator=draw), torch.tensor([0.02, 0.5, 0.97])
    raws = [prior.predict(z, t, texts[1].pair(torch.arange(3))) for prior in both]
    for ours, theirs in zip(*raws, strict=True):
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-5)
    for ours, theirs in zip(*(prior.alpha_sigma(t) for prior in both), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    assert both[0].spec == both[1].spec


def test_another_structure_is_left_to_the_libraries():
    unet, text, schedule = (read_json(embedded.SHIPPED / part) for part in (
        "unet/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json"
    ))  # fmt: skip
    assert not network.fits({**unet, "down_block_types": ["CrossAttnDownBlock2D"] * 3}, text, schedule)
    assert not network.fits(unet, {**text, "hidden_act": "gelu"}, schedule)
    assert not network.fits(unet, text, {**schedule, "beta_schedule": "linear"})


def test_damaged_weights_are_refused(tmp_path, monkeypatch):
    import shutil

    shutil.copytree(embedded.SHIPPED, tmp_path / "assets")
    monkeypatch.setattr(embedded, "SHIPPED", tmp_path / "assets")
    weights = tmp_path / "assets" / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(PriorError, match="text_encoder cannot be loaded"):
        load_prior("embedded")


def test_no_library_is_imported():
    code = (
        "import sys; from bridge.priors import load_prior; load_prior('embedded').embed(['a person is walking']);"
        " print([name for name in ('diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
