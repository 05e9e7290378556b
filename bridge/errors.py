"""What the torch side raises when the user can put something right."""


class BridgeError(ValueError):
    """Something the user can put right; entry points print it as one line, without a traceback."""
