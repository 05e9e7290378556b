"""A field of the options: its help, its bounds, and the check of a value against them."""

from __future__ import annotations

import dataclasses
import typing
from typing import Any, Literal

from md_jax.errors import UserError
from md_jax.outside.texts import check_text

LARGEST_NUMBER = 1e9  # of other fields without one: what is larger overflows in half precision and in files
LARGEST_INTEGER = 2**31 - 1  # of fields without another upper bound: what an int32 holds


def option(
    default: Any,
    help: str,
    *,
    low: float | None = None,
    high: float | None = None,
    first: bool = False,
    own: bool = False,
) -> Any:
    """A dataclass field with its flag's help, inclusive bounds, and whether --help shows it (--helpfull shows all)."""
    metadata = {"help": help, "low": low, "high": high, "first": first, "own": own}
    return dataclasses.field(default=default, metadata=metadata)


def check(field: dataclasses.Field, value: Any, kind: Any, optional: bool, *, path: bool, sentence: bool) -> None:
    """Check the value of a field.

    Args:
        field: made by `option`.
        value: of it.
        kind, optional: its type without None, and whether None is a value of its own.
        path, sentence: what a text is.

    Raises:
        UserError: the value is none of the field's choices, or out of its bounds.
    """
    if value is None and optional:
        return
    if typing.get_origin(kind) is Literal and value not in typing.get_args(kind):
        raise UserError(f"--{field.name} must be one of {', '.join(typing.get_args(kind))}; got {value!r}.")
    if isinstance(value, str):
        check_text(field.name, value, path=path, sentence=sentence)
    low, high = field.metadata["low"], field.metadata["high"]
    if high is None:
        high = LARGEST_INTEGER if kind is int else LARGEST_NUMBER
    for number in value if isinstance(value, tuple) else (value,):
        if isinstance(number, str):
            continue
        if isinstance(number, float) and not abs(number) < float("inf"):
            raise UserError(f"--{field.name} must be a finite number, got {number}.")
        if (low is not None and number < low) or (high is not None and number > high):
            bounds = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"--{field.name} must be {bounds}, got {number}.")
