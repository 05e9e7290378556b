"""Flag files, put in the place of the --flagfile that names them, before absl would open whatever it finds there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from md_jax.errors import UserError
from md_jax.files import expanded, read_text

DEEPEST = 10  # files that name files
MOST = 10_000  # flags of a file, with those of the files that it names


def with_flagfiles(argv: Sequence[str], depth: int = 0) -> list[str]:
    """The arguments, with the lines of a flag file in its place; those after "--" are left alone.

    Raises:
        UserError: a flag file cannot be read, or files name each other in a circle.
    """
    result: list[str] = []
    rest = list(argv)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return [*result, argument, *rest]
        name, equals, path = argument.partition("=")
        if name not in ("--flagfile", "-flagfile"):
            result.append(argument)
            continue
        if not equals:
            path = rest.pop(0) if rest else ""
        if not path:
            raise UserError("--flagfile needs a value: --flagfile=FILE")
        if depth >= DEEPEST:
            raise UserError(f"--flagfile={path}: flag files name each other more than {DEEPEST} deep.")
        try:
            lines = flags_in(read_text(expanded(path)).split("\n"))
            if len(result) + len(lines) > MOST:
                raise UserError(f"{path} and the files that it names hold more than {MOST:,} flags.")
        except UserError as error:
            raise UserError(f"--flagfile: {error}") from error
        result += with_flagfiles(lines, depth + 1)
        if len(result) > MOST:
            raise UserError(f"--flagfile={path}: with the files that it names it holds more than {MOST:,} flags.")
    return result


def flags_in(lines: Iterable[str]) -> list[str]:
    """The flags among the lines of a file: no empty lines, no comments (# or //)."""
    stripped = (line.strip() for line in lines)
    return [line for line in stripped if line and not line.startswith(("#", "//"))]
