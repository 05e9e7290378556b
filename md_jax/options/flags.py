"""The absl flags of a Config: made from its fields, read back into one, written as a flag file."""

from __future__ import annotations

import shlex
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from absl import flags

from md_jax.config import FIELDS, Config, kind_of
from md_jax.errors import UserError
from md_jax.files import expanded
from md_jax.options.flagfiles import with_flagfiles
from md_jax.options.resolve import resolve
from md_jax.outside.texts import sentences_in
from md_jax.prompts.parts import joined

# Names of the release before, understood for one more.
OLD_NAMES = {"sds_weight": "distillation_weight", "controls": "control_run"}
OLD_VALUES = {"distillation": {"bridge": "source"}}
QUICK = "quick"  # no field: another way to say --nocontrol_run
TIMELINE = "timeline"  # no field: a file that holds the parts of --prompt


class EnumWithOldNames(flags.EnumParser):
    """An enum that takes a value's old name, too, and remembers that it did."""

    def __init__(self, name: str, choices: Iterable[str]) -> None:
        super().__init__(list(choices))
        self.name, self.old, self.met = name, OLD_VALUES.get(name, {}), set[str]()

    def parse(self, argument: str) -> str:
        """The choice that is meant."""
        if argument in self.old:
            self.met.add(argument)
        return super().parse(self.old.get(argument, argument))


def define_flags(values: flags.FlagValues = flags.FLAGS, fields: Iterable[str] = tuple(FIELDS)) -> None:
    """Define a flag for each of the fields of Config; a default that is the prior's own is None."""
    for name in fields:
        kind, _ = kind_of(name)
        help: str = FIELDS[name].metadata["help"]
        default: Any = FIELDS[name].default
        if typing.get_origin(kind) is Literal:
            # by keyword: absl shares one parser among equal positional arguments, and this one remembers
            parser = EnumWithOldNames(name=name, choices=typing.get_args(kind))
            flags.DEFINE(parser, name, default, help, flag_values=values, serializer=flags.ArgumentSerializer())
        elif typing.get_origin(kind) is tuple:
            listed = None if default is None else [str(x) for x in default]
            flags.DEFINE_list(name, listed, help, flag_values=values)
        else:
            define: Any = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}
            define.get(kind, flags.DEFINE_string)(name, default, help, flag_values=values)
        for old, new in OLD_NAMES.items():
            if new == name:
                flags.DEFINE_alias(old, new, flag_values=values)


def define_quick(values: flags.FlagValues) -> None:
    """Define --quick, beside the fields' flags."""
    flags.DEFINE_boolean(QUICK, False, "Leave the control run out: half the time.", flag_values=values)


def define_timeline(values: flags.FlagValues) -> None:
    """Define --timeline, beside the fields' flags."""
    help = "A text file whose lines are the parts of the prompt, in order: SENTENCE or SENTENCE: SECONDS."
    flags.DEFINE_string(TIMELINE, "", help, flag_values=values)


def given_by(values: flags.FlagValues) -> dict[str, Any]:
    """The options that parsed flags give, by the name of their field.

    Raises:
        UserError: a list holds something else than numbers, or two flags say the opposite.
    """
    given: dict[str, Any] = {}
    for name in FIELDS:
        if name not in values or not values[name].present:
            continue
        value = values[name].value
        if isinstance(value, list):
            try:
                value = tuple(float(x) for x in value)
            except ValueError:
                raise UserError(f"--{name} takes numbers separated by commas, got {','.join(value)!r}.") from None
        given[name] = value
    if TIMELINE in values and (file := values[TIMELINE].value):
        if "prompt" in given or given.get("prompts_file"):
            raise UserError(f"--{TIMELINE} holds the sentences of one motion: leave --prompt and --prompts_file out.")
        given["prompt"] = joined(_parts_in(file))
    if QUICK in values and values[QUICK].value:
        if given.get("control_run"):
            raise UserError("--quick leaves the control run out, and --control_run asks for it: leave one of them out.")
        given["control_run"] = False
    return given


def _parts_in(file: str) -> list[str]:
    path = str(expanded(file))
    lines = sentences_in(path)
    if not lines:
        raise UserError(f"--{TIMELINE}={file} holds no sentence: one a line is expected, e.g. a person is walking: 2")
    return lines


def from_flags(values: flags.FlagValues = flags.FLAGS, **instead: Any) -> Config:
    """The Config that the parsed flags describe.

    Args:
        values: parsed.
        instead: options that win over them.

    Raises:
        UserError: a value is out of its bounds, two of them contradict each other, or one would do nothing.
    """
    given = {**given_by(values), **instead}
    # a resumed run goes by the options that it has recorded, not by what the command line alone would mean
    return resolve(given, refuse=not given.get("resume"))


def renamed(values: flags.FlagValues) -> list[str]:
    """One line for each old name that parsed flags use."""
    notes = [
        f"--{old} is now --{new}; the old name goes with the next release."
        for old, new in OLD_NAMES.items()
        if old in values and values[old].present
    ]
    for name in OLD_VALUES:
        parser = values[name].parser if name in values else None
        if isinstance(parser, EnumWithOldNames):
            notes += [
                f"--{name}={old} is now --{name}={parser.old[old]}; the old name goes with the next release."
                for old in sorted(parser.met)
            ]
    return notes


def to_flagfile(config: Config, skip: Iterable[str] = ("workdir", "resume")) -> str:
    """The config as a flag file that loads back to it (prompt text stays unquoted: quotes are literal there)."""
    lines = ["# Written by md_jax; start it again with: python -m md_jax.main --flagfile=THIS_FILE"]
    for name in FIELDS:
        value = getattr(config, name)
        if name in skip or value is None:
            continue
        lines.append(f"--{name}={flag_value(value)}")
    return "\n".join(lines) + "\n"


def as_command(config: Config) -> str:
    """The command line that means this config, for a shell: the sentence, and what differs from the defaults."""
    plain = Config(prior=config.prior, mode=config.mode, prior_path=config.prior_path)
    given = [] if config.prompts_file else [config.prompt]
    for name in FIELDS:
        value = getattr(config, name)
        chosen = FIELDS[name].default if name in ("prior", "mode", "prior_path") else getattr(plain, name)
        if name in ("prompt", "workdir", "resume") or value is None or value == chosen:
            continue
        no = isinstance(value, bool) and not value
        given.append(f"--{'no' if no else ''}{name}" + ("" if isinstance(value, bool) else f"={flag_value(value)}"))
    return "md-jax " + " ".join(map(shlex.quote, given))


def flag_value(value: Any) -> str:
    """A field's value as flags take it."""
    if isinstance(value, tuple):
        return ",".join(repr(x) for x in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def from_flagfile(path: Path) -> Config:
    """Read back what `to_flagfile` wrote, or a flag file of ours.

    Raises:
        UserError: the file is missing or not a flag file of this version.
    """
    values = flags.FlagValues()
    define_flags(values)
    try:
        values(["md_jax", *with_flagfiles([f"--flagfile={path}"])])
    except flags.Error as error:
        raise UserError(f"{path} is not a flag file of this version: {error}") from error
    return resolve(given_by(values), refuse=False)


def as_typed(given: Mapping[str, Any]) -> str:
    """Options as they are written on a command line."""
    shown = []
    for name, value in given.items():
        no = isinstance(value, bool) and not value
        shown.append(f"--{'no' if no else ''}{name}" + ("" if isinstance(value, bool) else f"={flag_value(value)}"))
    return ", ".join(shown)
