"""AnimateDiff, small and at random, against diffusers' own pipeline over the same two folders."""

import pytest
import torch

from bridge.priors import PriorError, Setup, load_prior
from bridge.priors.files import describe
from tests.bridge.priors.comparing import close, same_call, same_encoding, same_estimate
from tests.bridge.priors.test_stable_diffusion import pictures  # noqa: F401
from tests.bridge.priors.test_text_to_video import made  # noqa: F401

PROMPT, NEGATIVE = "a person is walking", "low motion"
FRAMES = 3


@pytest.fixture(scope="module")
def folders(pictures, tmp_path_factory):  # noqa: F811
    """(Stable Diffusion, motion adapter)."""
    return pictures, motion_adapter(tmp_path_factory.mktemp("adapter") / "motion")


def motion_adapter(folder, **options):
    """The folder of an adapter for the tests' small Stable Diffusion 1, or changed by `options` for another."""
    from diffusers import MotionAdapter

    torch.manual_seed(2)
    sizes = {"block_out_channels": (32, 64), "motion_layers_per_block": 1, "motion_num_attention_heads": 2}
    adapter = MotionAdapter(**{"motion_max_seq_length": 24, **sizes, **options})
    for parameter in adapter.parameters():  # its output layers start at zero
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    adapter.save_pretrained(folder)
    return folder


@pytest.fixture
def prior(folders):
    return load_prior("animatediff", ",".join(map(str, folders)))


def pipeline(folders):
    from diffusers import AnimateDiffPipeline, AutoencoderKL, DDIMScheduler, MotionAdapter, UNet2DConditionModel
    from transformers import CLIPTextModel

    from bridge.priors.folder import read_tokenizer

    sd, motion = folders
    scheduler = DDIMScheduler.from_pretrained(sd / "scheduler", beta_schedule="linear", clip_sample=False)
    pipe = AnimateDiffPipeline(
        vae=AutoencoderKL.from_pretrained(sd / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(sd / "text_encoder"),
        tokenizer=read_tokenizer(sd, "CLIPTokenizer"),
        unet=UNet2DConditionModel.from_pretrained(sd / "unet"),
        motion_adapter=MotionAdapter.from_pretrained(motion),
        scheduler=scheduler,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_text_every_call_and_sample_are_those_of_the_pipeline(folders, prior):
    pipe = pipeline(folders)
    calls, forward = [], pipe.unet.forward

    def recorded(*args, **kwargs):
        out = forward(*args, **kwargs)
        calls.append((args, kwargs["encoder_hidden_states"], out.sample))
        return out

    pipe.unet.forward = recorded
    final = pipe(
        PROMPT, negative_prompt=NEGATIVE, num_frames=FRAMES, height=32, width=32, num_inference_steps=3,
        guidance_scale=4.0, output_type="latent", generator=torch.Generator().manual_seed(0),
    ).frames  # fmt: skip
    texts = prior.embed([PROMPT], NEGATIVE).pair(torch.zeros(1, dtype=torch.long))
    assert len(calls) == 3
    for (z, step), hidden, raw in calls:
        close(texts[1].hidden[0], hidden[0])
        close(texts[0].hidden[0], hidden[FRAMES])
        t, found = same_call(prior, texts, z, step, raw)
    assert prior.spec.prediction == "eps"
    same_estimate(prior, t, pipe.scheduler.alphas_cumprod[step], z, found, 4.0, final)


def test_pixels_latents_and_gradient(folders, prior):
    pipe = pipeline(folders)
    z = same_encoding(prior, pipe.vae, FRAMES, 32)
    with torch.no_grad():
        close(prior.decode(z), (pipe.decode_latents(z) / 2 + 0.5).clamp(0, 1))


def test_spec_and_what_is_refused(folders, prior):
    spec = prior.spec
    assert (spec.kind, spec.frames, spec.height, spec.width, spec.fps) == ("video", 16, 512, 512, 8.0)
    assert spec.latent_shape_of(5, 512, 512) == (4, 5, 64, 64)
    with pytest.raises(PriorError, match="at most 24 frames, got 25"):
        prior.configure(Setup(frames=25, height=32, width=32))
    sd, motion = map(str, folders)
    for path in (sd, f"{sd},", ""):
        with pytest.raises(PriorError, match="is made of two"):
            load_prior("animatediff", path)
    with pytest.raises(PriorError, match=r"motion/model_index\.json is missing"):
        load_prior("animatediff", f"{motion},{sd}")
    found = describe("animatediff", f"{sd},{motion}")
    assert "every weight has its place" in found and "motion adapter" in found
