"""A command line from argv: flags parsed, --help answered, and whatever is wrong with them said in one line.

Every entry point goes through `parse`; small programs (the benchmarks) name their flags in one call of `parse_simple`.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

from absl import flags

from md_jax.errors import DivergedError, UserError, kept_traceback, of_surroundings, one_line
from md_jax.options.flagfiles import with_flagfiles
from md_jax.options.flags import OLD_NAMES, QUICK, renamed
from md_jax.options.help import Group, flag_group, page
from md_jax.outside import environment, interrupts

HELP, HELPFULL = ("--help", "-help", "-h", "--helpshort"), ("--helpfull", "-helpfull")
USAGE_EXIT = 2


def parse(
    argv: Sequence[str],
    define: Callable[[flags.FlagValues], None],
    groups: Callable[[flags.FlagValues], Sequence[Group]],
    *,
    usage: str,
    summary: str,
    pass_on: bool = False,
    notes: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> tuple[flags.FlagValues, list[str]]:
    """Parse a command line; --help prints and ends the program with exit code 0.

    Args:
        argv: what follows the program's name.
        define: defines the flags.
        groups: how --help shows them.
        usage, summary: the first lines of --help.
        pass_on: return unknown flags, too, for another program.
        notes: says that an old name was used.

    Returns:
        The parsed flags, and what is no flag (flags may stand before, between and after).

    Raises:
        UserError: an unknown flag, a bad value, or a flag file that cannot be read.
    """
    values = flags.FlagValues()
    values.set_gnu_getopt()
    define(values)
    before = list(argv[: argv.index("--")] if "--" in argv else argv)
    if asked := [arg for arg in before if arg in HELP + HELPFULL]:
        print(page(usage, summary, groups(values), full=any(arg in HELPFULL for arg in asked)))
        sys.exit(0)
    try:
        rest = values(["program", *with_flagfiles(argv)], known_only=pass_on)[1:]
    except UserError:
        raise
    except (flags.Error, ValueError, OSError) as error:
        raise UserError(said(error, values)) from error
    for text in renamed(values):
        notes(f"note: {text}")
    return values, rest


def stop(message: str) -> NoReturn:
    """End the program over a command line that cannot be used."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(USAGE_EXIT)


@contextmanager
def ending_in_one_line(stopped: str = "stopped") -> Iterator[None]:
    """A program's run, which ends over any error with one line: exit code 2 for what the user can put right, that of
    the signal for an interruption, 1 for what nobody foresaw, whose traceback is kept in a file.

    Args:
        stopped: what is said of an interruption.
    """
    try:
        yield
        sys.stdout.flush()  # a full disk behind it is told here, and not as the interpreter ends
    except KeyboardInterrupt as error:
        print(stopped, file=sys.stderr)
        sys.exit(error.code if isinstance(error, interrupts.Stopped) else 130)
    except (UserError, DivergedError, OSError, MemoryError) as error:
        stop(one_line(error))
    except Exception as error:
        if said := of_surroundings(error):
            stop(said)
        print(f"error: {kept_traceback(error, None)}", file=sys.stderr)
        sys.exit(1)


@contextmanager
def program(stopped: str = "stopped") -> Iterator[None]:
    """The run of an entry point from its heavy imports on: in a prepared process, ending over any error in one line."""
    interrupts.notice()
    environment.prepare()
    with ending_in_one_line(stopped):
        yield


def said(error: Exception, values: flags.FlagValues) -> str:
    """An error of absl's in one line: what was given, what is expected."""
    if isinstance(error, flags.UnrecognizedFlagError):
        name = error.flagname.removeprefix("no") if error.flagname.removeprefix("no") in values else error.flagname
        near = difflib.get_close_matches(name, [n for n in values if n not in OLD_NAMES], 1, 0.6)
        return f"unknown flag --{name}" + (f": did you mean --{near[0]}?" if near else "; --help lists the flags.")
    text = " ".join(str(error).split())
    if found := re.match(r"flag --(\w+)=(.*?): ", text):
        name, value = found.groups()
        return f"--{name} takes {_takes(values[name])}, got {value!r}."
    if found := re.match(r"Missing value for flag -*(\w+)", text):
        return f"--{found[1]} needs a value: --{found[1]}=..."
    return text


def _takes(flag: flags.Flag) -> str:
    if isinstance(flag.parser, flags.EnumParser):
        return f"one of {', '.join(flag.parser.enum_values)}"
    if flag.boolean:
        return "true or false"
    whole = isinstance(flag.parser, flags.IntegerParser)
    if not isinstance(flag.parser, flags.IntegerParser | flags.FloatParser):
        return "another value"
    bounds = (("at least", flag.parser.lower_bound), ("at most", flag.parser.upper_bound))
    within = " and ".join(f"{side} {bound:g}" for side, bound in bounds if bound is not None)
    return f"a {'whole ' if whole else ''}number {within}".strip()


def sentence_of(rest: Sequence[str], program: str) -> str | None:
    """The prompt that stands on the command line without a flag; None if there is none.

    Raises:
        UserError: what stands there is no one sentence.
    """
    if not rest:
        return None
    if len(rest) > 1:
        raise UserError(f'one sentence in quotes is expected, got {len(rest)} words: {program} "{" ".join(rest)}"')
    if rest[0].endswith(".flags"):
        raise UserError(f"{rest[0]} is a flag file: {program} --flagfile={rest[0]}")
    if re.match(r"\w+=", rest[0]) or not rest[0].strip():
        raise UserError(f"flags start with --; not understood: {rest[0]!r}")
    return rest[0]


def typed(argv: Iterable[str]) -> set[str]:
    """Names of the options typed on the command line itself (those inside a flag file are not), under today's names."""
    names = {found[1] for arg in argv if (found := re.match(r"--?(\w+)", arg))}
    names |= {name.removeprefix("no") for name in names}
    names |= {OLD_NAMES[name] for name in names if name in OLD_NAMES}
    return names | ({"control_run"} if QUICK in names else set())


# --- small programs -----------------------------------------------------------------------------------------------


def parse_simple(
    doc: str | None,
    program: str,
    argv: Sequence[str] | None = None,
    *,
    rest: str = "",
    pass_on: bool = False,
    needed: Sequence[str] = (),
    **options: tuple[Any, str],
) -> SimpleNamespace:
    """The flags of a small program, each named once: ``repeats=(5, "how often each is timed")``.

    The default chooses the kind: bool, int, float, str, a list (values separated by commas), or a tuple of choices, the
    first of which is the default; a type (int, float, str) is an option without a default, None unless given.

    Args:
        doc: the program's docstring; its first paragraph is shown by --help.
        program: "benchmarks.lbs".
        argv: what follows the program's name; default: the command line.
        rest: what may stand without a flag, under this name, as a list; "": nothing may.
        pass_on: unknown flags are listed there, too, for another program.
        needed: the options that have to be given.
        options: default and help by name.

    Returns:
        The values by name. A command line that cannot be used ends the program.
    """

    def define(values: flags.FlagValues) -> None:
        for name, (default, help) in options.items():
            _define_simple(values, name, default, help)

    called = f"python -m {program} [flags]" + (f" {rest.upper()} ..." if rest else "")
    summary = (doc or "").strip().split("\n\n")[0]
    try:
        values, left = parse(
            sys.argv[1:] if argv is None else argv, define, lambda v: [flag_group("Flags", v, options)],
            usage=called, summary=summary, pass_on=pass_on,
        )  # fmt: skip
        if left and not rest:
            raise UserError(f"flags start with --; not understood: {' '.join(left)}")
        if missing := [f"--{name}" for name in needed if not values[name].value]:
            raise UserError(f"{' and '.join(missing)} must be given: python -m {program} --help says what they are.")
    except UserError as error:
        stop(str(error))
    found = {name: values[name].value for name in options}
    return SimpleNamespace(**found, **({rest: left} if rest else {}))


def numbers(name: str, texts: Sequence[str]) -> list[float]:
    """A list of `parse_simple` as numbers; ends the program where it holds something else."""
    try:
        return [float(text) for text in texts]
    except ValueError:
        stop(f"--{name} takes numbers separated by commas, got {','.join(texts)!r}.")


def whole_numbers(name: str, texts: Sequence[str]) -> list[int]:
    """As `numbers`, whole ones."""
    found = numbers(name, texts)
    if any(not number.is_integer() for number in found):  # NaN and infinity are none
        stop(f"--{name} takes whole numbers separated by commas, got {','.join(texts)!r}.")
    return list(map(int, found))


def _define_simple(values: flags.FlagValues, name: str, default: Any, help: str) -> None:
    if isinstance(default, tuple):
        flags.DEFINE_enum(name, default[0], list(default), help, flag_values=values)
        return
    kind, default = (default, None) if isinstance(default, type) else (type(default), default)
    define: Any = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float,
                   list: flags.DEFINE_list}.get(kind, flags.DEFINE_string)  # fmt: skip
    define(name, default, help, flag_values=values)
