"""The documentation site builds without a warning, and says what is in the repository."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_site_builds_without_warnings(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=quiet)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr, built.stderr
    page = (tmp_path / "site" / "how-it-works" / "index.html").read_text(encoding="utf-8")
    assert page.count("<math") > 5 and "$$" not in page, "formulas are MathML"
    assert not re.search(r'(?:src|href)="https?://[^"]+\.(?:js|css|woff2?)"', page), (
        "a page loads nothing from elsewhere"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:md_jax|bridge|tests|benchmarks|tools|configs|docs)/[\w./-]+)`", text)
    missing = [name for name in named if "*" not in name and not (ROOT / name).exists()]
    assert not missing
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)", text)
    assert not [link for link in linked if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_that_a_page_names_are_there(page):
    """`md_jax.fit.train` is a module; `bridge.op.torch_loss` a name in one."""
    missing = []
    for name in re.findall(r"`((?:md_jax|bridge)(?:\.\w+)+)`", page.read_text(encoding="utf-8")):
        parts = name.split(".")
        for k in range(len(parts), 0, -1):
            home = ROOT.joinpath(*parts[:k])
            file = home.with_suffix(".py") if home.with_suffix(".py").exists() else home / "__init__.py"
            if file.exists():
                rest = parts[k:]
                if rest and not re.search(rf"\b{re.escape(rest[0])}\b", file.read_text(encoding="utf-8")):
                    missing.append(name)
                break
    assert not missing


def test_pages_open_with_their_conclusion_and_a_table():
    """The first paragraph is bold, and a table stands on the page's first screen."""
    for page in sorted((ROOT / "docs").glob("*.md")):
        lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.strip()]
        assert lines[0].startswith("# ") and lines[1].startswith("**"), page.name
        assert any(line.startswith("|") for line in lines[:25]), page.name


def test_messages_of_the_troubleshooting_page_are_in_the_code():
    code = "".join(p.read_text(encoding="utf-8") for room in ("md_jax", "bridge") for p in (ROOT / room).rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a text that goes on in the next line
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    messages = re.findall(r"^\| `([^`]+)` \|", page, flags=re.MULTILINE)
    assert len(messages) > 10
    assert not [text for text in messages if max(text.split("…"), key=len).strip() not in code]


def test_pages_that_code_and_settings_name_are_there():
    """`docs/appendix/recipe.md` in a comment of a flag file."""
    files = [p for room in ("md_jax", "bridge", "benchmarks", "tools", "configs") for p in (ROOT / room).rglob("*")]
    texts = [p.read_text(encoding="utf-8") for p in files if p.suffix in (".py", ".md", ".flags", ".txt")]
    named = {name for text in texts for name in re.findall(r"docs/[\w/-]+\.md", text)}
    assert len(named) >= 2
    assert not [name for name in named if not (ROOT / name).exists()]
