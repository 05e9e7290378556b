"""``python -m md_jax.retarget``."""

from md_jax.options.command import program

with program():
    from md_jax.retarget.command import main

    main()
