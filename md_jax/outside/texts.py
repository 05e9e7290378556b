"""Texts that people type: sentences in one line, without control characters, and paths that a file system takes."""

from __future__ import annotations

import re

from md_jax.errors import UserError
from md_jax.files import read_text

LONGEST_PROMPT = 10_000  # characters
LONGEST_NAME, LONGEST_PATH = 255, 4000  # bytes of a file's name, characters of a path: what file systems take
_BREAKS = r"\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029"  # tabs, and all that some program takes for the end of a line
_BREAK = re.compile(rf"\s*[{_BREAKS}]+\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def folded(text: str) -> str:
    """A sentence in one line: each line end, with the space around it, becomes a space."""
    return _BREAK.sub(" ", text).strip() if _BREAK.search(text) else text


def cleaned(text: str) -> str:
    """A text of a file in one line, for terminals and pages: what is no plain character becomes a question mark."""
    return _CONTROL.sub("?", folded(text))


def check_text(name: str, value: str, *, path: bool = False, sentence: bool = False) -> None:
    """Refuse an option's text that no file could hold, or no flag file could repeat.

    Raises:
        UserError: it holds control characters, is no Unicode text, or is too long for a path or a sentence.
    """
    if found := _CONTROL.search(value):
        raise UserError(f"--{name} must be plain text, found the control character {found[0]!r}.")
    try:
        length = max(len(part.encode()) for part in value.split("/"))
    except UnicodeEncodeError:
        raise UserError(f"--{name} must be UTF-8 text, found bytes of another encoding.") from None
    if path and (length > LONGEST_NAME or len(value) > LONGEST_PATH):
        raise UserError(f"--{name} must be a path of at most {LONGEST_PATH} characters, {LONGEST_NAME} bytes between"
                        f" slashes; got {len(value)} and {length}.")  # fmt: skip
    if sentence and len(value) > LONGEST_PROMPT:
        raise UserError(f"--{name} must be a sentence of at most {LONGEST_PROMPT} characters, got {len(value)}.")


def sentences_in(file: str) -> list[str]:
    """The sentences of a prompts file, one a line; empty lines and those that begin with # are left out.

    Raises:
        UserError: the file cannot be read, or a line holds control characters or is too long.
    """
    lines = []
    for number, piece in enumerate(read_text(file).split("\n"), 1):
        line = folded(piece).strip()
        if not line or line.startswith("#"):
            continue
        if found := _CONTROL.search(line):
            raise UserError(f"{file}, line {number}: expected plain text, found the control character {found[0]!r}.")
        if len(line) > LONGEST_PROMPT:
            raise UserError(f"{file}, line {number}: expected at most {LONGEST_PROMPT} characters, got {len(line)}.")
        lines.append(line)
    return lines
