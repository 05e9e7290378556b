"""ModelScope, ZeroScope and Stable Diffusion, small and at random, against diffusers' own pipelines."""

import dataclasses

import pytest
import torch

from bridge.priors import load_prior
from tests.bridge.priors import single_files as files
from tests.bridge.priors.comparing import close, same_call, same_encoding, same_estimate
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
        t, found = same_call(prior, texts, z, step, raw)
    table = sampling.pipeline.scheduler.alphas_cumprod[step]
    same_estimate(prior, t, table, z, found, GUIDANCE, sampling.final)
    close(prior.decode(sampling.final), sampling.video)


def test_latents_and_their_gradient(compared):
    prior, sampling = compared
    same_encoding(prior, sampling.pipeline.vae, 3, SIZE)
