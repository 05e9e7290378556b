"""ModelScope, ZeroScope and Stable Diffusion, small and at random, against diffusers' own pipelines."""

import dataclasses

import pytest
import torch

from bridge.distill import objectives as distill
from bridge.priors import load_prior
from tests.bridge.priors import single_files as files
from tests.bridge.priors.test_text_to_video import made  # noqa: F401

PROMPT, NEGATIVE, GUIDANCE, STEPS, SIZE = "a person is walking, side view", "low motion", 4.0, 3, 32
CASES = {"modelscope": 3, "zeroscope": 3, "sd15": 1, "sd21": 1, "sd21 v": 1}  # frames


@pytest.fixture(scope="module")
def folders(made, tmp_path_factory):  # noqa: F811
    root = tmp_path_factory.mktemp("pictures")
    return {
        "modelscope": made,
        "zeroscope": made,
        "sd15": files.stable_diffusion(root, 1)[0],
        "sd21": files.stable_diffusion(root, 2)[0],
        "sd21 v": files.stable_diffusion(root / "v", 2, "v_prediction")[0],
    }


@dataclasses.dataclass
class Sampling:
    """What a pipeline gave its UNet and got from it at every step, its last latents, and the video of those."""

    calls: list
    final: torch.Tensor
    video: torch.Tensor
    pipeline: object


def pipeline(folder, frames):
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        TextToVideoSDPipeline,
        UNet2DConditionModel,
        UNet3DConditionModel,
    )
    from transformers import CLIPTextModel

    from bridge.priors.folder import read_tokenizer

    kind, unet = (
        (TextToVideoSDPipeline, UNet3DConditionModel) if frames > 1 else (StableDiffusionPipeline, UNet2DConditionModel)
    )
    parts = {
        "vae": AutoencoderKL.from_pretrained(folder / "vae"),
        "text_encoder": CLIPTextModel.from_pretrained(folder / "text_encoder"),
        "tokenizer": read_tokenizer(folder, "CLIPTokenizer"),
        "unet": unet.from_pretrained(folder / "unet"),
        "scheduler": DDIMScheduler.from_pretrained(folder / "scheduler", clip_sample=False),
    }
    beside = {} if frames > 1 else {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipe = kind(**parts, **beside)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module", params=CASES)
def compared(request, folders):
    """(prior, what its pipeline did)."""
    name, frames = request.param, CASES[request.param]
    pipe = pipeline(folders[name], frames)
    calls, forward = [], pipe.unet.forward

    def recorded(*args, **kwargs):
        out = forward(*args, **kwargs)
        calls.append((*args, kwargs["encoder_hidden_states"], out[0]))
        return out

    def sample(kind):
        result = pipe(
            PROMPT, negative_prompt=NEGATIVE, height=SIZE, width=SIZE, num_inference_steps=STEPS, output_type=kind,
            guidance_scale=GUIDANCE, generator=torch.Generator().manual_seed(0),
            **({"num_frames": frames} if frames > 1 else {}),
        )[0]  # fmt: skip
        if frames == 1:
            return result[:, :, None]
        return result.transpose(1, 2) if kind == "pt" else result

    video = sample("pt")
    pipe.unet.forward = recorded
    return load_prior(name.split()[0], str(folders[name])), Sampling(calls, sample("latent"), video, pipe)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_text_every_call_sample_and_video(compared):
    prior, sampling = compared
    texts = prior.embed([PROMPT], NEGATIVE).pair(torch.zeros(1, dtype=torch.long))
    assert len(sampling.calls) == STEPS
    for z, step, hidden, raw in sampling.calls:
        if prior.spec.kind == "image":
            z, raw = z[:, :, None], raw[:, :, None]
        negative, positive = hidden.chunk(2)
        close(texts[0].hidden, positive[:1])
        close(texts[1].hidden, negative[:1])
        t = step.reshape(1) / 1000
        found = prior.predict(z[:1], t, texts)
        close(found[0], raw[1:])
        close(found[1], raw[:1])
    table = sampling.pipeline.scheduler.alphas_cumprod[step]
    alpha, sigma = prior.alpha_sigma(t)
    close(alpha, table.sqrt()[None])
    close(sigma, (1 - table).sqrt()[None])
    # the last step of DDIM ends in its estimate of the sample
    close(distill.to_sample(distill.cfg(*found, GUIDANCE), z[:1], alpha, sigma, prior.spec.prediction), sampling.final)
    close(prior.decode(sampling.final), sampling.video)


def test_latents_and_their_gradient(compared):
    prior, sampling = compared
    vae, g = sampling.pipeline.vae, torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, 3, SIZE, SIZE, generator=g)
    leaf = video.clone().requires_grad_()
    frames = 2 * leaf[0].transpose(0, 1) - 1
    expected = (vae.encode(frames).latent_dist.mode() * vae.config.scaling_factor).transpose(0, 1)[None]
    z = prior.encode(video)
    close(z, expected.detach())
    cotangent = torch.randn(z.shape, generator=g)
    (gradient,) = torch.autograd.grad(expected, leaf, cotangent)
    scale = gradient.abs().max()
    close(prior.encode_vjp(video, cotangent, 2) / scale, gradient / scale)
