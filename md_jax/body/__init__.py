"""SMPL-X in JAX: the file, the full model (`forward`), and the fast path of training (`bake`, then `pose`)."""

from md_jax.lazy import exports

_HOME = {
    "Body": "md_jax.body.model",
    "load_body": "md_jax.body.model",
    "forward": "md_jax.body.lbs",
    "bake": "md_jax.body.lbs",
    "pose": "md_jax.body.lbs",
    "joints_of": "md_jax.body.lbs",
}

__all__ = list(_HOME)
__getattr__, __dir__ = exports(__name__, _HOME)
