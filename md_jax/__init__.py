"""md_jax: a sentence becomes human motion, distilled from a frozen text-to-video diffusion model.

The public names; each loads its module when it is first used, so that `import md_jax` takes no time. What is not listed
here may change without notice.
"""

from __future__ import annotations

from md_jax.lazy import exports

__version__ = "0.1.0"

_HOME = {
    # a sentence to motion
    "make_motion": "md_jax.library",
    "make_motions": "md_jax.library",
    # motions and their files
    "Motion": "md_jax.mocap.motion",
    "load_motion": "md_jax.mocap.motion",
    "save_motion": "md_jax.mocap.motion",
    "resample": "md_jax.mocap.motion",
    # the body: SMPL-X in JAX
    "Body": "md_jax.body.model",
    "load_body": "md_jax.body.model",
    "forward": "md_jax.body.lbs",
    "bake": "md_jax.body.lbs",
    "pose": "md_jax.body.lbs",
    # what a user can put right
    "UserError": "md_jax.errors",
}

__all__ = ["__version__", *_HOME]
__getattr__, __dir__ = exports(__name__, _HOME)
