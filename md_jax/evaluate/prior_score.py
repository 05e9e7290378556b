"""What a video prior itself says of motions: the denoising loss of their renders under each prompt."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from md_jax.body import lbs
from md_jax.evaluate import measures


def prompt_losses(
    body_pose: Float[np.ndarray, "M F 21 3"], prompts: Sequence[str], *, name: str = "embedded", path: str = ""
) -> Float[np.ndarray, "M P"]:
    """Mean squared error with which the prior denoises each motion under each prompt (`bridge.distill.prompt_losses`).

    Args:
        body_pose: motions at the prior's rate and frame count; the root is not turned.
        prompts: sentences that the prior knows.
        name, path: the prior, as in --prior and --prior_path.

    Raises:
        md_jax.prompts.checks.PromptError: the prior does not know a prompt.
        bridge.errors.BridgeError: the prior cannot be loaded, or takes other clips.
    """
    from bridge.configure import configure
    from bridge.distill import prompt_losses as losses
    from bridge.exchange import to_torch
    from bridge.priors import load_prior
    from bridge.render.mesh import make_mesh
    from md_jax.prompts.checks import check_prompt, texts_for_prior
    from md_jax.run.build import body_centre

    device = configure("auto")
    prior = load_prior(name, path, device, "float16" if device == "cuda" else "float32")
    body, baked = measures.free_body()
    vertices = to_torch(lbs.pose(baked, jnp.asarray(body_pose)))
    mesh = make_mesh(body.triangles, body.vertex_colors, device)
    known = prior.spec.actions or None
    for prompt in prompts:
        check_prompt(prompt, known)
    texts = [texts_for_prior(prompt, known) for prompt in prompts]
    return losses.prompt_losses(prior, mesh, vertices, texts, body_centre(body)).numpy()
