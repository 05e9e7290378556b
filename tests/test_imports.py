"""Imports go one way: the core of md_jax needs neither torch nor bridge, bridge never needs md_jax."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CORE = [
    "rotations", "body", "lbs", "posefield", "losses", "optimizers", "problems", "train", "checkpoint", "motion",
    "statistics",
]  # fmt: skip

BLOCK = """
import importlib, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked}:
            raise ImportError(name + " is blocked by the test")

sys.meta_path.insert(0, Blocked())
for name in {names}:
    importlib.import_module(name)
assert not set({blocked}) & {{name.split(".")[0] for name in sys.modules}}
"""


def _import_with_blocked(names, blocked):
    code = BLOCK.format(names=names, blocked=blocked)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def _imported(path):
    """(top-level package, is it imported when the module is?) of every import in a file."""
    tree = ast.parse(path.read_text())
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        else:
            continue
        for name in names:
            yield name.split(".")[0], id(node) not in deferred


def _modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def _words(path):
    return str(path.relative_to(ROOT))


def test_core_imports_where_torch_and_bridge_cannot_be():
    names = [f"md_jax.{name}" for name in CORE if (ROOT / "md_jax" / f"{name}.py").exists()]
    assert names
    result = _import_with_blocked(names, ["torch", "bridge", "diffusers", "transformers", "warp"])
    assert result.returncode == 0, result.stderr


def test_the_block_blocks():
    assert "blocked by the test" in _import_with_blocked(["bridge.op"], ["torch"]).stderr


def test_bridge_itself_imports_nothing():
    result = _import_with_blocked(["bridge", "bridge.configure", "bridge.errors"], ["torch", "jax", "numpy"])
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("path", _modules("bridge"), ids=_words)
def test_bridge_never_imports_md_jax(path):
    assert "md_jax" not in dict(_imported(path))


@pytest.mark.parametrize("path", _modules("md_jax"), ids=_words)
def test_md_jax_imports_no_torch_and_bridge_only_inside_functions(path):
    imported = set(_imported(path))
    assert not {"torch", "diffusers", "transformers"} & {name for name, _ in imported}
    assert ("bridge", True) not in imported
    if path.stem in CORE:
        assert ("bridge", False) not in imported


@pytest.mark.parametrize("path", _modules("bridge") + _modules("md_jax"), ids=_words)
def test_no_pure_callback(path):
    """It copies through the host, on a CPU too."""
    names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    names |= {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert "pure_callback" not in names
