"""The PyTorch side of a step and the seam to JAX: light to import, nothing is loaded before a module is asked for."""
