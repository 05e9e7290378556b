"""What a video prior itself says of motions: the denoising loss of their renders under each prompt."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from md_jax.body import lbs
from md_jax.evaluate import measures
from md_jax.prompts.checks import check_prompt, texts_for_prior
from md_jax.prompts.vocabulary import words_of_prior
from md_jax.run import torch_side


def prompt_losses(
    body_pose: Float[np.ndarray, "M F 21 3"], prompts: Sequence[str], *, name: str = "embedded", path: str = ""
) -> Float[np.ndarray, "M P"]:
    """Mean squared error with which the prior denoises each motion under each prompt (`bridge.distill.prompt_losses`).

    Args:
        body_pose: motions at the prior's rate and frame count; the root is not turned.
        prompts: sentences that the prior knows.
        name, path: the prior, as in --prior and --prior_path.

    Raises:
        UserError: the prior cannot be loaded, takes other clips, or does not know a prompt.
    """
    words = words_of_prior(name, path)
    for prompt in prompts:
        check_prompt(prompt, words.actions)
    torch_side.start("auto")
    body, baked = measures.free_body()
    vertices: Float[Array, "M F V 3"] = lbs.pose(baked, jnp.asarray(body_pose))
    texts = [texts_for_prior(prompt, words.actions, manner=words.manner) for prompt in prompts]
    return torch_side.prompt_losses(name, path, body, vertices, texts)
