"""``python -m md_jax.study``."""

from md_jax.options.command import program

with program():
    from md_jax.study.command import main

    main()
