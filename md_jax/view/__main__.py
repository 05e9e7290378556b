"""``python -m md_jax.view``."""

from md_jax.options.command import program

with program():
    from md_jax.view.command import main

    main()
