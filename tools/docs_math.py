"""A hook of the documentation site: formulas become MathML when the site is built, so that pages need no script.

``$`x`$`` is inline and a block between ``$$`` lines is displayed; code hosts read both spellings, too.
"""

from __future__ import annotations

import re

from latex2mathml.converter import convert

_BLOCK = re.compile(r"^\$\$\n(.+?)\n\$\$$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"\$`([^`\n]+)`\$")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Markdown with MathML in place of formulas (called by mkdocs for each page)."""
    markdown = _BLOCK.sub(lambda m: convert(m.group(1), display="block"), markdown)
    return _INLINE.sub(lambda m: convert(m.group(1)), markdown)
