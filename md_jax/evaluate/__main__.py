"""``python -m md_jax.evaluate``."""

from md_jax.options.command import program

with program():
    from md_jax.evaluate.command import main

    main()
