"""``python -m md_jax.evaluate``."""

from md_jax.evaluate.command import run

run()
