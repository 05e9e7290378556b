"""Stable Diffusion's folders, small and at random: pictures of a clip, each judged by itself."""

import json
import shutil

import pytest
import torch

from bridge.distill.critic import distill_latents
from bridge.distill.objectives import Guidance
from bridge.priors import PriorError, load_prior
from bridge.priors.spec import Text
from tests.bridge.priors.test_text_to_video import WIDTH, made  # noqa: F401  the video folder whose UNet is replaced
from tests.gradients import check_gradient_of_every_frame

NAMES = ["sd15", "sd21"]


@pytest.fixture(scope="module")
def pictures(made, tmp_path_factory):  # noqa: F811
    """A folder with a 2D UNet, and the parts beside it that Stable Diffusion's folders have."""
    from diffusers import UNet2DConditionModel

    folder = tmp_path_factory.mktemp("pictures") / "sd"
    shutil.copytree(made, folder)
    shutil.rmtree(folder / "unet")
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        sample_size=64,
        block_out_channels=(32, 64),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=WIDTH,
        attention_head_dim=8,
    )
    unet.save_pretrained(folder / "unet")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"]}
    index |= {"safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"], "requires_safety_checker": True}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_spec(name, pictures):
    spec = load_prior(name, str(pictures)).spec
    assert (spec.kind, spec.prediction, spec.frames, spec.height, spec.width) == ("image", "eps", 1, 512, 512)
    assert spec.latent_shape_of(2, 512, 512) == (4, 2, 64, 64)
    assert "RAIL" in spec.licence


def test_the_frames_of_a_clip_are_so_many_pictures(pictures):
    prior = load_prior("sd21", str(pictures))
    g = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 4, 3, 8, 8, generator=g), torch.tensor([0.1, 0.7])
    texts = [Text(torch.randn(2, 77, WIDTH, generator=g)) for _ in range(2)]
    raws = prior.predict(z, t, texts)
    for n in range(2):
        for frame in range(3):
            for raw, text in zip(raws, texts, strict=True):
                hidden = text.hidden[n : n + 1]
                with torch.no_grad():
                    alone = prior._unet(z[n : n + 1, :, frame], t[n : n + 1] * 1000, hidden).sample
                torch.testing.assert_close(raw[n, :, frame], alone[0], rtol=1e-4, atol=1e-5)


def test_it_distils(pictures):
    prior = load_prior("sd15", str(pictures))
    texts = prior.embed(["a person is walking"]).pair(torch.zeros(1, dtype=torch.long))
    z = prior.encode(torch.rand(1, 3, 2, 32, 32))
    g, metrics = distill_latents(prior, z, torch.tensor([0.5]), torch.randn_like(z), texts, Guidance(scale=7.5))
    assert g.shape == z.shape and g.isfinite().all() and metrics["latent_grad_norm"] > 0
    check_gradient_of_every_frame(prior)


def test_a_video_folder_is_no_image_prior(made, pictures):  # noqa: F811
    with pytest.raises(PriorError, match="holds a UNet3DConditionModel: prior 'sd21' is a UNet2DConditionModel"):
        load_prior("sd21", str(made))
    with pytest.raises(PriorError, match="holds a UNet2DConditionModel: prior 'modelscope' is a UNet3DConditionModel"):
        load_prior("modelscope", str(pictures))
