"""bridge.build: the torch side from plain values alone, what it refuses and what it ignores."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from bridge.build import Guidance, ImageRequest, Request, build
from bridge.errors import BridgeError
from tests.bridge.distill.test_critic import octahedron
from tests.bridge.priors import tiny_priors, tiny_transformers

SENTENCES = [["a person is walking"] * 4, ["a man is washing a window"] * 4]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("priors")
    return {
        "embedded": str(tiny_priors.packed_folder(parent / "packed")),
        "modelscope": str(tiny_priors.video_folder(parent / "video")),
        "sd15": str(tiny_priors.picture_folder(parent / "pictures")),
        "wan21": str(tiny_transformers.transformer_folder(parent / "wan21", "wan21")),
    }


def make(folders, prior, **changes):
    corners, faces = octahedron()
    request = Request(
        device="cpu", prior=prior, prior_path=folders[prior], sentences=SENTENCES, guidance=Guidance("sds", 7.5),
        target=(0.0, 0.0, 0.0), supersample=1,
    )  # fmt: skip
    drawn = faces, np.ones((6, 3), np.float32), corners.numpy()
    return build(dataclasses.replace(request, **changes), lambda samples: drawn)


def test_what_is_not_asked_for_is_the_priors(folders):
    side = make(folders, "embedded")
    spec = side.spec
    assert (side.frames, side.height, side.width, side.fps) == (spec.frames, spec.height, spec.width, spec.fps)
    assert (side.settings.distance, side.settings.fov) == (spec.distance, spec.fov)
    assert (side.latent_shape, side.image, side.renderer, side.ignored) == (spec.latent_shape, None, "warp", ())
    assert side.tiny_vae_cosine() is None
    other = make(folders, "modelscope", frames=3, height=32, width=16, distance=1.0, background=(0.0, 0.5, 1.0))
    assert (other.latent_shape, other.settings.distance) == ((4, 3, 16, 8), 1.0)
    assert other.settings.background == (0.0, 0.5, 1.0)


def test_latents_of_pixels_decode_to_the_picture_that_was_filmed(folders):
    """The embedded prior has no VAE: latents are the pixels, so 8-bit pictures come back from them."""
    side = make(folders, "embedded", latent=True)
    verts = jnp.broadcast_to(jnp.asarray(octahedron()[0].numpy()), (2, side.frames, 6, 3))
    z = side.first_latents(verts, jnp.array([0.0, 1.0]), jnp.array([0.1, 0.1]))
    assert z.shape == (2, *side.latent_shape)
    video = side.decode(z)
    np.testing.assert_allclose(video / 255, np.moveaxis(np.asarray(z), 1, -1) / 2 + 0.5, atol=0.5 / 255 + 1e-6)
    background = np.round(255 * np.array(side.spec.background))
    np.testing.assert_array_equal(video[:, :, 0, 0], np.broadcast_to(background, (2, side.frames, 3)))
    assert (video[0] != video[1]).any()


def test_an_image_prior_sees_its_own_size(folders):
    image = ImageRequest("sd15", folders["sd15"], frames=2, size=32, guidance=Guidance("sds", 7.5), weight=0.5)
    side = make(folders, "modelscope", image=image, frames=3)
    assert (side.image.size, side.image.latent_shape) == (32, (4, 2, 16, 16))
    assert "loss_image" in side.guided.critic.metric_names
    with pytest.raises(BridgeError, match="at most the clip's 3 frames, got 4"):
        make(folders, "modelscope", image=dataclasses.replace(image, frames=4), frames=3)


def test_what_cannot_be_done_is_refused_and_what_has_no_effect_is_said(folders):
    with pytest.raises(BridgeError, match="--prior=sd15 makes pictures, not videos"):
        make(folders, "sd15")
    with pytest.raises(BridgeError, match="scales no latents"):
        make(folders, "embedded", scale_latents=False)
    with pytest.raises(BridgeError, match="staged, jit"):
        make(folders, "embedded", transport="callback")
    ignored = make(folders, "wan21", frames=5, height=32, width=32, fps=10.0, encode_chunk=2).ignored
    assert len(ignored) == 2 and "--fps=10" in ignored[0] and "--encode_chunk=2" in ignored[1]
