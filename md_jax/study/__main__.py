"""``python -m md_jax.study``."""

from md_jax.study.command import run

run()
