"""``python -m md_jax``: the main job."""

from md_jax.main import run

run()
