"""``python -m md_jax.study``."""

from md_jax.options.command import program

with program("stopped; the same command goes on"):
    from md_jax.study.command import main

    main()
