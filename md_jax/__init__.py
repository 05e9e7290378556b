"""md_jax: a sentence becomes human motion, distilled from a frozen text-to-video diffusion model."""

__version__ = "0.1.0"
