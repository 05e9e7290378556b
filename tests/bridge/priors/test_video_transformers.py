"""Wan 2.1, CogVideoX and LTX-Video, small and at random, against diffusers' own pipelines over the same folders."""

import dataclasses

import pytest
import torch

from bridge.distill import objectives as distill
from bridge.priors import PriorError, Setup, load_prior
from bridge.priors.transformer.base import pad_frames
from tests.bridge.priors import tiny_transformers as tiny

NAMES = list(tiny.MAKERS)
LENGTHS = {"wan21": 512, "wan22": 512, "skyreels2": 512, "cogvideox": 226, "cogvideox15": 226, "ltx": 128}
RULES = {"wan21": (4, 8), "wan22": (4, 16), "skyreels2": (4, 8), "cogvideox": (4, 8), "cogvideox15": (4, 8),
         "ltx": (8, 32)}  # frames and pixels a latent  # fmt: skip
EXTRA = {"cogvideox15": 1}  # copies of the first latent
PROMPT, NEGATIVE = "a person is  walking, side view &amp; still", "low motion"
FRAMES, HEIGHT, WIDTH = 9, 32, 64


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("transformers")
    return {name: tiny.transformer_folder(root / name, name) for name in NAMES}


def close(found, expected, tolerance=1e-5):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def time_of(prior, alpha, sigma):
    """The t that stands for (α, σ), by bisection: (α/σ) falls with t."""
    low, high = torch.tensor([0.0], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        a, s = prior.alpha_sigma(middle)
        low, high = (middle, high) if a * sigma > alpha * s else (low, middle)
    return low


@dataclasses.dataclass
class Sampling:
    """What a pipeline gave its transformer and got from it at every step, and its first and last latents."""

    inputs: list
    outputs: list
    final: torch.Tensor
    pipeline: object


def sample(folder, name, steps, **settings):
    pipe = tiny.pipeline(folder, name)
    inputs, outputs = [], []
    forward = pipe.transformer.forward

    def recorded(*args, **kwargs):
        result = forward(*args, **kwargs)
        inputs.append(kwargs)
        outputs.append(result[0])
        return result

    pipe.transformer.forward = recorded
    final = pipe(
        prompt=PROMPT, negative_prompt=NEGATIVE, height=HEIGHT, width=WIDTH, num_frames=FRAMES,
        num_inference_steps=steps, guidance_scale=4.0, max_sequence_length=LENGTHS[name],
        generator=torch.Generator().manual_seed(0), **{"output_type": "latent", **settings},
    ).frames  # fmt: skip
    return Sampling(inputs, outputs, final, pipe)


def pairs(sampling, name):
    """(latents, step, positive text, positive output, negative output) of every step, in the prior's own layout."""
    if name in tiny.UMT5:  # one call for each
        for i in range(0, len(sampling.inputs), 2):
            x = sampling.inputs[i]
            yield (
                x["hidden_states"],
                x["timestep"].flatten()[:1],
                x["encoder_hidden_states"],
                *sampling.outputs[i : i + 2],
            )
        return
    for x, out in zip(sampling.inputs, sampling.outputs, strict=True):
        z, (negative, positive) = x["hidden_states"][:1], out.chunk(2)
        text = x["encoder_hidden_states"][1:]
        yield layout(z, name), x["timestep"][:1], text, layout(positive, name), layout(negative, name)


def layout(z, name):
    """A pipeline's latents as (N, C, f, h, w)."""
    if name.startswith("cogvideox"):
        return z.transpose(1, 2)
    if name == "ltx":
        return z.transpose(1, 2).unflatten(2, (FRAMES // 8 + 1, HEIGHT // 32, WIDTH // 32))
    return z


# not one step of LTX: diffusers' terminal shift is 0/0 there
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("wan21", 1),
        ("wan21", 3),
        ("wan22", 1),
        ("wan22", 3),
        ("cogvideox", 1),
        ("cogvideox", 3),
        ("skyreels2", 1),
        ("skyreels2", 3),
        ("cogvideox15", 1),
        ("cogvideox15", 3),
        ("ltx", 3),
    ],
)
def test_prediction_and_text_are_those_of_the_pipeline(name, steps, folders):
    sampling = sample(folders[name], name, steps)
    prior = load_prior(name, str(folders[name]))
    clip = Setup(FRAMES, HEIGHT, WIDTH)
    prior.configure(clip)
    conditioning = prior.embed([PROMPT], NEGATIVE)
    texts = conditioning.pair(torch.zeros(1, dtype=torch.long))
    assert prior._text_encoder is None
    calls = list(pairs(sampling, name))
    assert len(calls) == steps
    for z_t, step, hidden, positive, negative in calls:
        close(texts[0].hidden, hidden, 1e-5)
        if name.startswith("cogvideox"):
            t = step.double() / 1000
        else:
            sigma = step.double() / 1000
            t = time_of(prior, 1 - sigma, sigma)
        found = prior.predict(z_t.float(), t, texts)  # in float32 the time is 6e-5 of a step away from the pipeline's
        close(found[0], positive)
        close(found[1], negative)
    prior.configure(dataclasses.replace(clip, low_memory=True))
    close(torch.stack(prior.predict(z_t.float(), t.float(), texts)), torch.stack(found), 1e-5)
    # the last step of every sampler ends in its estimate of the sample
    alpha, sigma = prior.alpha_sigma(t)
    if name in tiny.UMT5:  # UniPC tells the model whole steps, and goes on with the σ that it cut them from
        own = sampling.pipeline.scheduler.sigmas[-2].double()
        assert 0 <= 1000 * (own - sigma) < 1
        time = time_of(prior, 1 - own, own)
        alpha, sigma = prior.alpha_sigma(time)
    estimate = distill.to_sample(distill.cfg(*found, 4.0), z_t, alpha, sigma, prior.spec.prediction)
    close(estimate.float(), layout(sampling.final, name))


def test_ltx_is_told_size_and_frame_rate(folders):
    sampling = sample(folders["ltx"], "ltx", 2, frame_rate=10)
    prior = load_prior("ltx", str(folders["ltx"]))
    texts = prior.embed([PROMPT], NEGATIVE).pair(torch.zeros(1, dtype=torch.long))
    z_t, step, _, positive, _ = next(pairs(sampling, "ltx"))
    t = time_of(prior, 1 - step.double() / 1000, step.double() / 1000)
    assert not torch.allclose(prior.predict(z_t, t, texts)[0], positive, rtol=1e-3, atol=1e-4)
    assert prior.configure(Setup(fps=10.0)) == ()
    close(prior.predict(z_t, t, texts)[0], positive)
    # the shift that a pipeline computes for this many latents
    sigmas = [prior.alpha_sigma(torch.tensor([0.5], dtype=torch.float64))[1].item()]
    prior.configure(Setup(FRAMES, HEIGHT, WIDTH, fps=10.0))
    sigmas.append(prior.alpha_sigma(torch.tensor([0.5], dtype=torch.float64))[1].item())
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.ltx.pipeline_ltx import calculate_shift

    config = {k: v for k, v in tiny.SCHEDULERS["ltx"].items() if k not in ("_class_name", "shift_terminal")}
    for sigma, latents in zip(sigmas, (21 * 16 * 22, 2 * 1 * 2), strict=True):
        scheduler = FlowMatchEulerDiscreteScheduler(**config)
        scheduler.set_timesteps(sigmas=[1.0, 0.5], mu=calculate_shift(latents, 1024, 4096, 0.95, 2.05))
        assert abs(sigma - scheduler.sigmas[1].item()) < 1e-6


def test_wan_and_cogvideox_times_are_those_of_their_schedulers(folders):
    from diffusers import CogVideoXDDIMScheduler, UniPCMultistepScheduler

    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    alpha, sigma = load_prior("wan21", str(folders["wan21"])).alpha_sigma(t)
    scheduler = UniPCMultistepScheduler.from_config(tiny.SCHEDULERS["wan21"])
    scheduler.set_timesteps(999)  # unshifted sigmas of 0.999, 0.998, ...
    close(sigma, torch.from_numpy(3 * t.numpy() / (1 + 2 * t.numpy())), 1e-9)
    middle = scheduler.sigmas[499].double()  # unshifted (1000 - 499 - 1)/1000, up to the spacing
    close(load_prior("wan21", str(folders["wan21"])).alpha_sigma(torch.tensor([0.5]))[1].double(), middle[None], 2e-3)
    close(alpha + sigma, torch.ones_like(t), 1e-9)
    prior = load_prior("cogvideox", str(folders["cogvideox"]))
    table = CogVideoXDDIMScheduler.from_config(tiny.SCHEDULERS["cogvideox"]).alphas_cumprod.double()
    steps = torch.tensor([0, 250, 999])
    alpha, sigma = prior.alpha_sigma(steps.double() / 1000)
    close(alpha.square(), table[steps].clamp(min=0), 1e-6)
    close(alpha.square() + sigma.square(), torch.ones(3, dtype=torch.float64), 1e-9)
    assert table[-1] == 0 and alpha[-1] == 0


@pytest.mark.parametrize("t", [0.02, 0.98, 0.9999])
def test_residuals_stay_finite_up_to_pure_noise(t, folders):
    prior = load_prior("cogvideox", str(folders["cogvideox"]))
    texts = prior.embed([PROMPT], NEGATIVE).pair(torch.zeros(1, dtype=torch.long))
    z = prior.encode(torch.rand(1, 3, 5, 16, 16))
    noise, time = torch.randn_like(z), torch.tensor([t])
    alpha, sigma = prior.alpha_sigma(time)
    z_t = distill.add_noise(z, noise, alpha, sigma)
    guess = distill.Guess(*prior.predict(z_t, time, texts), z, z_t, noise, alpha, sigma, "v")
    g = distill.residual(guess, distill.Guidance(scale=6.0))
    assert g.isfinite().all() and 0 < g.abs().max() < 1e3


def test_rotary_positions_of_the_larger_cogvideox(tmp_path):
    folder = tiny.transformer_folder(tmp_path / "5b", "cogvideox", rotary=True)
    sampling = sample(folder, "cogvideox", 1)
    prior = load_prior("cogvideox", str(folder))
    texts = prior.embed([PROMPT], NEGATIVE).pair(torch.zeros(1, dtype=torch.long))
    z_t, step, _, positive, _ = next(pairs(sampling, "cogvideox"))
    close(prior.predict(z_t, step / 1000, texts)[0], positive)
    assert "Apache" not in prior.spec.licence


# --- pixels and latents -----------------------------------------------------------------------------------------------


def plain_latents(prior, name, clip):
    """Latents by the VAE's own encode, without checkpoints, normalised as the pipelines of diffusers do it."""
    vae = prior._vae
    if hasattr(vae, "disable_gradient_checkpointing") and vae._supports_gradient_checkpointing:
        vae.disable_gradient_checkpointing()
    mean = vae.encode((2 * clip - 1).to(vae.dtype)).latent_dist.mode()
    if name in tiny.UMT5:
        shape = (1, -1, 1, 1, 1)
        return (mean - torch.tensor(vae.config.latents_mean).view(shape)) * (
            1.0 / torch.tensor(vae.config.latents_std).view(shape)
        )
    if name == "ltx":
        from diffusers import LTXPipeline

        return LTXPipeline._normalize_latents(mean, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    mean = mean * vae.config.scaling_factor
    return torch.cat([mean[:, :, :1], mean], dim=2) if name == "cogvideox15" else mean


@pytest.mark.parametrize("name", NAMES)
def test_latents_and_their_gradient_are_those_of_plain_autograd(name, folders):
    prior = load_prior(name, str(folders[name]))
    g = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 17, 32, 32, generator=g)
    z = prior.encode(video)
    stride, pixels = RULES[name]
    assert (
        z.shape[1:]
        == prior.spec.latent_shape_of(17, 32, 32)
        == (z.shape[1], 16 // stride + 1 + EXTRA.get(name, 0), *(32 // pixels,) * 2)
    )
    cotangent = torch.randn(z.shape, generator=g)
    found = prior.encode_vjp(video, cotangent, chunk=3)  # chunks would be wrong; they are not made
    z_kept, vjp = prior.encode_and_vjp(video)
    assert torch.equal(z_kept, z) and torch.equal(vjp(cotangent), found)
    prior.configure(Setup(low_memory=True))
    assert torch.equal(prior.encode_vjp(video, cotangent), found)
    leaf = video.clone().requires_grad_()
    expected_z = plain_latents(prior, name, leaf)
    (expected,) = torch.autograd.grad(expected_z, leaf, cotangent)
    close(z, expected_z.detach(), 1e-5)
    close(found / expected.abs().max(), expected / expected.abs().max(), 1e-5)
    assert all(found[:, :, frame].abs().max() > 1e-6 for frame in range(17))


@pytest.mark.parametrize("name", NAMES)
def test_every_frame_of_any_clip_has_its_gradient(name, folders):
    """Finite differences, for a clip that no frame rule allows."""
    prior = load_prior(name, str(folders[name]))
    prior._vae.double()
    frames, g = 10, torch.Generator().manual_seed(0)
    video = torch.rand(1, 3, frames, 32, 32, generator=g, dtype=torch.float64)
    if name == "ltx":
        prior._mean, prior._std = prior._mean.double(), prior._std.double()
    cotangent = torch.randn(1, *prior.spec.latent_shape_of(frames, 32, 32), generator=g)
    gradient = prior.encode_vjp(video, cotangent)
    assert gradient.shape == video.shape
    for frame in range(frames):
        direction = torch.zeros_like(video)
        direction[:, :, frame] = torch.randn(1, 3, 32, 32, generator=g)
        ahead, behind = (prior.encode(video + s * 1e-3 * direction).double() for s in (1, -1))
        numeric = ((ahead - behind) * cotangent).sum() / 2e-3
        exact = (gradient * direction).sum()
        assert gradient[:, :, frame].norm() > 1e-6
        assert abs(numeric - exact) < 1e-2 * gradient[:, :, frame].norm(), f"frame {frame}: {numeric}, {exact}"


def test_copies_of_the_last_frame_fold_back():
    video = torch.rand(2, 3, 10, 2, 2, requires_grad=True)
    weights = torch.rand(2, 3, 13, 2, 2)
    padded = pad_frames(video, 13)
    assert torch.equal(padded[:, :, :10], video) and all(torch.equal(padded[:, :, i], video[:, :, 9]) for i in (10, 12))
    (gradient,) = torch.autograd.grad((padded * weights).sum(), video)
    close(gradient[:, :, :9], weights[:, :, :9], 1e-6)
    close(gradient[:, :, 9], weights[:, :, 9:].sum(dim=2), 1e-6)
    assert pad_frames(video, 10) is video


@pytest.mark.parametrize("name", NAMES)
def test_frame_and_size_rules(name, folders):
    spec = load_prior(name, str(folders[name])).spec
    stride, pixels = RULES[name]
    assert spec.latent_shape_of(10, 64, 64)[1] == (-(-9 // stride) + 1 if name != "cogvideox15" else 6)
    assert spec.padded_frames(2 * stride + 1) == 2 * stride + 1
    multiple = pixels * (1 if name == "ltx" else 2)
    with pytest.raises(PriorError, match=f"that {multiple} divides, got 64x{multiple // 2 + 64}"):
        spec.latent_shape_of(9, 64, 64 + multiple // 2)
    with pytest.raises(PriorError, match="got 0"):
        spec.latent_shape_of(0, 64, 64)


@pytest.mark.parametrize("name", NAMES)
def test_native_clips(name, folders):
    spec = load_prior(name, str(folders[name])).spec
    native = {
        "wan21": (81, 480, 832, 16),
        "wan22": (121, 704, 1280, 24),
        "skyreels2": (97, 544, 960, 24),
        "cogvideox": (49, 480, 720, 8),
        "cogvideox15": (81, 768, 1360, 16),
        "ltx": (161, 512, 704, 25),
    }[name]
    assert (spec.frames, spec.height, spec.width, spec.fps) == native
    assert spec.prediction == ("v" if name.startswith("cogvideox") else "flow")


@pytest.mark.parametrize(("name", "options"), [(n, {}) for n in NAMES] + [("ltx", {"timestep_conditioning": True})])
def test_decoding_is_that_of_the_pipeline(name, options, folders, tmp_path):
    folder = tiny.transformer_folder(tmp_path / name, name, **options) if options else folders[name]
    z = layout(sample(folder, name, 2).final, name)
    video = sample(folder, name, 2, output_type="pt").final
    close(load_prior(name, str(folder)).decode(z.float()), video.transpose(1, 2))
