"""--help and --helpfull: flags by group, the everyday ones or all."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from absl import flags

from md_jax.config import FIELDS, GROUPS, OWN
from md_jax.options.flags import QUICK, TIMELINE, EnumWithOldNames, flag_value
from md_jax.presets import own_values

WIDEST = 110  # columns


class Entry(NamedTuple):
    """A flag as --help shows it."""

    flag: str  # with what it takes: "--steps=N"
    help: str
    default: str  # "": none worth a word
    first: bool = True  # shown by --help; --helpfull shows all


class Group(NamedTuple):
    """A heading and its flags."""

    title: str
    entries: Sequence[Entry]


def config_groups(values: flags.FlagValues) -> list[Group]:
    """The fields of Config by group, those that stand in `values`; defaults are the embedded prior's."""
    own = own_values("embedded")
    starts = {first: title for title, first in GROUPS}
    groups: list[tuple[str, list[Entry]]] = []
    for name, field in FIELDS.items():
        if name in starts:
            groups.append((starts[name], []))
        if name not in values:
            continue
        default = _default(field.default)
        if name in OWN:
            default = f"the prior's; embedded: {_default(own[name])}" if _default(own[name]) else "the prior's"
        groups[-1][1].append(Entry(_form(values[name]), field.metadata["help"], default, field.metadata["first"]))
        if name == "control_run" and QUICK in values:
            groups[-1][1].append(Entry(f"--{QUICK}", values[QUICK].help or "", ""))
        if name == "prompt" and TIMELINE in values:
            groups[-1][1].append(Entry(_form(values[TIMELINE]), values[TIMELINE].help or "", "", first=False))
    return [Group(title, entries) for title, entries in groups if entries]


def flag_group(title: str, values: flags.FlagValues, names: Iterable[str]) -> Group:
    """Flags of a command's own, all of them everyday ones."""
    return Group(title, [Entry(_form(values[n]), values[n].help or "", _default(values[n].default)) for n in names])


def page(usage: str, summary: str, groups: Sequence[Group], *, full: bool) -> str:
    """The text of --help, or of --helpfull."""
    columns = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
    lines = [f"usage: {usage}", "", *textwrap.wrap(summary, columns)]
    hidden = 0
    for group in groups:
        shown = [entry for entry in group.entries if entry.first or full]
        hidden += len(group.entries) - len(shown)
        if shown:
            lines += ["", f"{group.title}:"]
        for entry in shown:
            text = entry.help + (f" (default: {entry.default})" if entry.default else "")
            if len(entry.flag) > 22:
                lines.append(f"  {entry.flag}")
                lines += textwrap.wrap(text, columns, initial_indent=" " * 26, subsequent_indent=" " * 26)
            else:
                lines += textwrap.wrap(text, columns, initial_indent=f"  {entry.flag:<24}", subsequent_indent=" " * 26)
    more = f"--helpfull shows {hidden} more flags. " if hidden else ""
    lines += ["", f"{more}--flagfile=FILE reads flags from a file, one a line."]
    return "\n".join(lines)


def _form(flag: flags.Flag) -> str:
    """A flag and what it takes."""
    kind = flag.flag_type()
    if flag.boolean:
        return f"--[no]{flag.name}"
    if isinstance(flag.parser, flags.EnumParser | EnumWithOldNames):
        return f"--{flag.name}={'|'.join(flag.parser.enum_values)}"
    takes: Mapping[str, str] = {"int": "N", "float": "X", "string": "TEXT", "multi string": "TEXT"}
    return f"--{flag.name}={takes.get(kind, 'A,B,...')}"


def _default(value: Any) -> str:
    if value is None or value == "" or value == () or value == []:
        return ""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else flag_value(value)
