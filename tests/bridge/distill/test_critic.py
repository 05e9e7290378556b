"""The critic: its gradient against plain autograd through the whole chain, views, batches and text."""

import dataclasses
import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
import torch

from bridge.critic import Batching
from bridge.distill import objectives as distill
from bridge.distill.critic import IMAGE_METRICS, METRICS, CriticSettings, Term, VertexCritic
from bridge.distill.objectives import Guess, Guidance
from bridge.distill.prompts import embed_prompts
from bridge.priors import PriorSpec, load_prior
from bridge.priors.spec import Conditioning, Text
from bridge.render import render
from bridge.render.camera import Camera
from bridge.render.mesh import make_mesh
from md_jax.prompts.views import as_seen
from tests.bridge.priors import tiny_priors

M, VIEWS, F, SIZE = 2, 2, 4, 16
N = M * VIEWS


class Draws(NamedTuple):
    azimuth: torch.Tensor
    elevation: torch.Tensor
    t: torch.Tensor
    noise: torch.Tensor
    frames: torch.Tensor | None = None
    image_t: torch.Tensor | None = None
    image_noise: torch.Tensor | None = None
    start: torch.Tensor | None = None
    sentence: torch.Tensor | None = None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return str(tiny_priors.packed_folder(tmp_path_factory.mktemp("prior")))


def octahedron():
    corners = torch.tensor([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]]).float() * 0.7
    faces = []
    for signs in itertools.product((1, -1), repeat=3):
        x, y, z = (axis * 2 + (sign < 0) for axis, sign in enumerate(signs))
        faces.append((x, y, z) if math.prod(signs) > 0 else (x, z, y))  # counter-clockwise from outside
    return corners, np.array(faces, np.int32)


@pytest.fixture(scope="module")
def scene():
    corners, faces = octahedron()
    generator = torch.Generator().manual_seed(0)
    verts = corners + 0.1 * torch.randn(M, F, 6, 3, generator=generator)
    mesh = make_mesh(faces, torch.rand(6, 3, generator=generator))
    draws = Draws(
        azimuth=torch.tensor([0.3, 0.3 + math.pi, 1.7, 1.7 + math.pi]),
        elevation=torch.full((N,), 0.2),
        t=torch.tensor([0.3, 0.5, 0.7, 0.9]),
        noise=torch.randn(N, 3, F, SIZE, SIZE, generator=generator),
    )
    return verts, mesh, draws


def settings(**changes):
    plain = {"height": SIZE, "width": SIZE, "distance": 3.0, "fov": 0.8, "target": (0.0, 0.0, 0.0),
             "background": (0.9, 0.9, 0.9), "supersample": 1, "guidance": Guidance("sds", 7.5)}  # fmt: skip
    return CriticSettings(**{**plain, **changes})


PROMPTS = [as_seen("a person is walking"), as_seen("a man is washing a window")]


def test_gradient_is_autograd_of_half_the_squared_distance_to_the_target(folder, scene):
    """½‖z - stop(z - g)‖² summed, mean over views: written out as one differentiable expression."""
    verts, mesh, draws = scene
    prior = load_prior("embedded", folder)
    prompts = embed_prompts(prior, PROMPTS)
    loss, grad, metrics = VertexCritic(prior, prompts, mesh, settings())(verts, draws)

    leaf = verts.clone().requires_grad_()
    expected = []
    for n in range(N):
        m = n // VIEWS
        one = torch.ones(F)
        camera = Camera(draws.azimuth[n] * one, draws.elevation[n] * one, 3.0, 0.8, torch.zeros(3))
        z = 2 * render(leaf[m], camera, mesh, SIZE, SIZE, 1, (0.9, 0.9, 0.9)).permute(3, 0, 1, 2)[None] - 1
        alpha, sigma = prior.alpha_sigma(draws.t[n : n + 1])
        noise = draws.noise[n : n + 1]
        z_t = distill.add_noise(z.detach(), noise, alpha, sigma)
        texts = prompts.of_clips(torch.tensor([m]), draws.azimuth[n : n + 1])
        raw = prior.predict(z_t, draws.t[n : n + 1], texts)
        g = distill.residual(Guess(*raw, z.detach(), z_t, noise, alpha, sigma, "sample"), Guidance("sds", 7.5))
        expected.append(0.5 * (z - (z - g).detach()).square().sum())
    total = torch.stack(expected).reshape(M, VIEWS).mean(1)
    (expected_grad,) = torch.autograd.grad(total.sum(), leaf)
    torch.testing.assert_close(loss, total.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-3, atol=1e-4)
    assert grad.abs().max() > 1e-3
    torch.testing.assert_close(metrics["t"], torch.tensor([0.4, 0.8]))
    torch.testing.assert_close(metrics["vertex_grad_norm"], grad.flatten(1).norm(dim=1))


def test_batches_and_company_do_not_matter(folder, scene):
    verts, mesh, draws = scene
    prior = load_prior("embedded", folder)
    prompts = embed_prompts(prior, PROMPTS)
    whole = VertexCritic(prior, prompts, mesh, settings())(verts, draws)
    parts = VertexCritic(prior, prompts, mesh, settings(), batching=Batching(1, 1))(verts, draws)
    torch.testing.assert_close(parts[:2], whole[:2], rtol=1e-4, atol=1e-4)
    alone = VertexCritic(load_prior("embedded", folder), embed_prompts(load_prior("embedded", folder), PROMPTS[:1]),
                         mesh, settings())(verts[:1], Draws(*(x[:VIEWS] for x in draws[:4])))  # fmt: skip
    torch.testing.assert_close(alone[1][0], whole[1][0], rtol=1e-4, atol=1e-4)


def test_the_gradient_is_written_where_asked(folder, scene):
    verts, mesh, draws = scene
    prior = load_prior("embedded", folder)
    critic = VertexCritic(prior, embed_prompts(prior, PROMPTS), mesh, settings())
    place = torch.full_like(verts, 7.0)
    _, grad, metrics = critic(verts, draws, place)
    assert grad is place
    torch.testing.assert_close(place, critic(verts, draws)[1])
    assert critic.metric_names == METRICS == tuple(metrics)
    assert all(value.shape == (M,) and value.dtype == torch.float32 for value in metrics.values())


def test_no_grad_and_inference_mode_of_the_caller_are_harmless(folder, scene):
    verts, mesh, draws = scene
    prior = load_prior("embedded", folder)
    critic = VertexCritic(prior, embed_prompts(prior, PROMPTS), mesh, settings())
    expected = critic(verts, draws)[1]
    with torch.no_grad():
        torch.testing.assert_close(critic(verts, draws)[1], expected)


class Recorder:
    """A prior that remembers what it was asked to embed."""

    spec = PriorSpec("recorder", "video", "sample", F, 10, SIZE, SIZE, 3)

    def embed(self, prompts, negative=""):
        self.prompts, self.negative = list(prompts), negative
        hidden = torch.arange(len(prompts)).float()[:, None, None]
        return Conditioning(Text(hidden), Text(-torch.ones(1, 1, 1)))


def test_each_camera_gets_its_own_view_phrase():
    prior = Recorder()
    sentences = ("a man walks.", "a man is running, side view", "a man walks.")
    prompts = embed_prompts(prior, [as_seen(sentence) for sentence in sentences], "still")
    assert prior.negative == "still"
    assert prior.prompts == [
        "a man walks, front view", "a man walks, left side view", "a man walks, back view",
        "a man walks, right side view", "a man is running, side view", "",
    ]  # fmt: skip
    azimuth = torch.tensor([0.1, math.pi / 2, -math.pi, -math.pi / 2 + 0.2, 6.2, 2.0])
    positive, negative = prompts.of_clips(torch.tensor([0, 0, 2, 2, 0, 1]), azimuth)
    assert positive.hidden.flatten().tolist() == [0, 1, 2, 3, 0, 4]
    assert negative.hidden.flatten().tolist() == [-1] * 6


def with_images(draws):
    """The draws of `scene` with two frames a clip for an image prior of 2x2-pixel latents, 16x16 pixels."""
    generator = torch.Generator().manual_seed(3)
    return draws._replace(
        frames=torch.tensor([[0, 3], [2, 1], [1, 3], [3, 2]], dtype=torch.int32),
        image_t=torch.tensor([0.2, 0.4, 0.6, 0.8]),
        image_noise=torch.randn(N, 4, 2, SIZE // 2, SIZE // 2, generator=generator),
    )


def test_the_image_term_is_autograd_of_its_own_chain(folder, scene, tmp_path):
    """Loss and gradient of both terms together, with the image term written out as one differentiable expression."""
    verts, mesh, draws = scene
    draws, weight = with_images(draws), 0.3
    prior, pictures = (
        load_prior("embedded", folder),
        load_prior("sd15", str(tiny_priors.picture_folder(tmp_path / "p"))),
    )
    prompts, of_pictures = embed_prompts(prior, PROMPTS), embed_prompts(pictures, PROMPTS)
    guidance = Guidance("sds", 7.5, "sqrt_abar_sigma2")
    term = Term(pictures, of_pictures, SIZE, SIZE, guidance, weight)
    plain_loss, plain_grad, plain = VertexCritic(prior, prompts, mesh, settings())(verts, draws)
    critic = VertexCritic(prior, prompts, mesh, settings(), term)
    loss, grad, metrics = critic(verts, draws)
    assert tuple(metrics) == critic.metric_names == METRICS + IMAGE_METRICS

    leaf = verts.clone().requires_grad_()
    expected = []
    for n in range(N):
        shown = leaf[n // VIEWS, draws.frames[n].long()]
        one = torch.ones(2)
        camera = Camera(draws.azimuth[n] * one, draws.elevation[n] * one, 3.0, 0.8, torch.zeros(3))
        images = 2 * render(shown, camera, mesh, SIZE, SIZE, 1, (0.9, 0.9, 0.9)).permute(0, 3, 1, 2) - 1
        vae = pictures._vae
        z = (vae.encode(images).latent_dist.mean * vae.config.scaling_factor).transpose(0, 1)[None]
        alpha, sigma = pictures.alpha_sigma(draws.image_t[n : n + 1])
        noise = draws.image_noise[n : n + 1]
        z_t = distill.add_noise(z.detach(), noise, alpha, sigma)
        texts = of_pictures.of_clips(torch.tensor([n // VIEWS]), draws.azimuth[n : n + 1])
        raw = pictures.predict(z_t, draws.image_t[n : n + 1], texts)
        g = distill.residual(Guess(*raw, z.detach(), z_t, noise, alpha, sigma, "eps"), guidance)
        expected.append(0.5 * (z - (z - g).detach()).square().sum())
    image_loss = torch.stack(expected).reshape(M, VIEWS).mean(1)
    (image_grad,) = torch.autograd.grad(image_loss.sum(), leaf)
    torch.testing.assert_close(metrics["loss_sds"], plain_loss)
    torch.testing.assert_close(metrics["loss_image"], image_loss.detach(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss, plain_loss + weight * image_loss.detach(), rtol=1e-4, atol=1e-4)
    scale = image_grad.abs().max()
    torch.testing.assert_close(grad - plain_grad, weight * image_grad, rtol=1e-3, atol=float(1e-3 * scale))
    assert image_grad.abs().max() > 1e-3 and not torch.equal(grad, plain_grad)
    torch.testing.assert_close(metrics["image_t"], torch.tensor([0.3, 0.7]))
    torch.testing.assert_close(metrics["t"], plain["t"])
    for a, b in zip(VertexCritic(prior, prompts, mesh, settings(), term, Batching(1))(verts, draws)[:2], (loss, grad),
                    strict=True):  # fmt: skip
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("objective", ["nfsd", "source", "unguided"])
def test_every_objective_reaches_the_vertices(objective, folder, scene):
    verts, mesh, draws = scene
    prior = load_prior("embedded", folder)
    prompts = embed_prompts(prior, PROMPTS, "still", sources=PROMPTS[::-1])
    judge = lambda guidance: VertexCritic(prior, prompts, mesh, settings(guidance=guidance))(verts, draws)  # noqa: E731
    _, grad, metrics = judge(Guidance(objective, 7.5))
    assert grad.isfinite().all() and grad.abs().max() > 0
    if objective == "unguided":
        assert metrics["guidance_rms"].abs().max() == 0
        torch.testing.assert_close(judge(Guidance(objective, 0.0))[1], grad)
    else:
        assert not torch.equal(judge(Guidance(objective, 0.0))[1], grad)


def test_encoding_in_chunks_changes_nothing(scene, tmp_path):
    """A per-frame VAE: the gradient of one frame at a time is that of all frames at once, to 1e-5."""
    prior = load_prior("modelscope", str(tiny_priors.video_folder(tmp_path / "v")))
    g = torch.Generator().manual_seed(0)
    video = torch.rand(2, 3, 5, SIZE, SIZE, generator=g)
    cotangent = torch.randn(prior.encode(video).shape, generator=g)
    whole = prior.encode_vjp(video, cotangent)
    for chunk in (1, 2, 5):
        assert (prior.encode_vjp(video, cotangent, chunk) - whole).norm() < 1e-5 * whole.norm()


def test_views_may_see_frames_of_their_own(folder, scene):
    """Windows: clip n of M·views is judged as a motion of its own would be, under the sentence that the draws name."""
    verts, mesh, draws = scene
    prior = load_prior("embedded", folder)
    own = torch.cat([verts, verts.flip(1) + 0.02], dim=1)  # (M, views·F, V, 3)
    prompts = embed_prompts(prior, [*PROMPTS, as_seen("a person is running")])
    sentence = torch.tensor([2, 1, 0, 2])
    windows = draws._replace(start=torch.tensor([0, 3, 5, 1], dtype=torch.int32), sentence=sentence.int())
    loss, grad, metrics = VertexCritic(prior, prompts, mesh, settings())(own, windows)
    apart = prompts.row[sentence]
    alone = VertexCritic(prior, dataclasses.replace(prompts, row=apart), mesh, settings())
    expected, expected_grad, expected_metrics = alone(own.view(N, F, *own.shape[2:]), draws)
    torch.testing.assert_close(loss, expected.view(M, VIEWS).mean(dim=1))
    torch.testing.assert_close(grad.view(N, F, *own.shape[2:]), expected_grad / VIEWS)
    torch.testing.assert_close(metrics["t"], expected_metrics["t"].view(M, VIEWS).mean(dim=1))
