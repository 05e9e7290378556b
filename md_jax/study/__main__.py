"""``python -m md_jax.study``."""

from md_jax.options.command import ending_in_one_line
from md_jax.outside import environment, interrupts

interrupts.notice()
environment.prepare()
with ending_in_one_line():
    from md_jax.study.command import run

    run()
