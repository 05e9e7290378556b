"""The two ways a run stops on purpose."""


class UserError(ValueError):
    """Something the user can put right; entry points print it as one line, without a traceback."""


class DivergedError(RuntimeError):
    """The gradient stayed non-finite for too many steps in a row."""
