"""Imports go one way, by a walk over the tree: no file is named, and a rule that finds nothing to check fails."""

import ast
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
# A room stands above what it uses. Files right in a package count as a room each ("md_jax.main").
ROOMS = {
    "md_jax": ("outside", "prompts", "options", "body", "mocap", "timeline", "draws", "control", "fit",
               "ground", "output", "retarget", "page", "run", "evaluate", "study", "view"),
    "bridge": ("render.kernels", "render", "priors", "distill"),
}  # fmt: skip
# These know the torch side as a JAX function alone.
WITHOUT_BRIDGE = ("outside", "prompts", "options", "body", "mocap", "timeline", "draws", "control", "fit", "ground",
                  "retarget")  # fmt: skip
LARGEST_ROOM = 8  # modules, without __init__ and __main__
MOST_USERS_OF_BRIDGE = 4  # of the modules of md_jax


class Import(NamedTuple):
    module: str  # absolute, down to the name where that is a module
    at_once: bool  # when the file itself is imported, not inside a function


def modules(package: str) -> list[Path]:
    found = sorted((ROOT / package).rglob("*.py"))
    assert len(found) > 10, f"{package}/ has moved: this test would check nothing"
    return found


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(source: str, package: str = "") -> list[Import]:
    """Every import of a file, relative ones resolved against its package."""
    tree = ast.parse(source)
    deferred = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for inner in ast.walk(node)
    }
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            names = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        else:
            continue
        found += [Import(name, id(node) not in deferred) for name in names]
    return found


def imports(path: Path) -> list[Import]:
    name = dotted(path)
    return imports_of(path.read_text(encoding="utf-8"), name if path.stem == "__init__" else name.rpartition(".")[0])


def top(name: str) -> str:
    return name.split(".")[0]


# --- the rules, as functions of one file's imports, so that a broken one can be shown to be found -----------------


def breaks_seam(module: str, found: list[Import]) -> list[str]:
    """What a file of md_jax or bridge must not import."""
    if top(module) == "bridge":
        return [i.module for i in found if top(i.module) == "md_jax"]
    foreign = [i.module for i in found if top(i.module) in ("torch", "diffusers", "transformers", "warp")]
    eager = [i.module for i in found if top(i.module) == "bridge" and i.at_once]
    core = room_of(module) in WITHOUT_BRIDGE
    return foreign + eager + [i.module for i in found if core and top(i.module) == "bridge"]


def room_of(module: str) -> str | None:
    package, _, rest = module.partition(".")
    return next((room for room in ROOMS.get(package, ()) if rest == room or rest.startswith(room + ".")), None)


def climbs(module: str, found: list[Import]) -> list[str]:
    """Imports of a higher room."""
    here, package = room_of(module), top(module)
    if here is None:
        return []
    order = ROOMS[package]
    return [
        i.module for i in found if top(i.module) == package and (there := room_of(i.module)) is not None
        and order.index(there) > order.index(here)
    ]  # fmt: skip


@pytest.mark.parametrize("package", ["md_jax", "bridge"])
def test_the_seam(package):
    broken = {dotted(path): wrong for path in modules(package) if (wrong := breaks_seam(dotted(path), imports(path)))}
    assert not broken


@pytest.mark.parametrize("package", ["md_jax", "bridge"])
def test_no_room_imports_a_higher_one(package):
    paths = modules(package)
    assert {room_of(dotted(path)) for path in paths} >= set(ROOMS[package]), "a room has no module: rename it here"
    broken = {dotted(path): wrong for path in paths if (wrong := climbs(dotted(path), imports(path)))}
    assert not broken


@pytest.mark.parametrize("package", ["md_jax", "bridge", "benchmarks", "tools"])
def test_no_circle(package):
    """Not even through imports inside functions."""
    paths = {dotted(path): path for path in modules(package)}

    def target(imported: str) -> str:
        """The module that an import means: itself, or where the imported name lives."""
        return imported if imported in paths else imported.rpartition(".")[0]

    graph = {name: ({target(i.module) for i in imports(path)} & set(paths)) - {name} for name, path in paths.items()}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for used in sorted(graph[name]):
                visit(used, (*path, name))
            done.add(name)

    assert any(graph.values())
    for name in graph:
        visit(name, ())


def test_bridge_is_imported_in_few_places():
    users = [dotted(p) for p in modules("md_jax") if any(top(i.module) == "bridge" for i in imports(p))]
    assert 1 <= len(users) <= MOST_USERS_OF_BRIDGE, users


@pytest.mark.parametrize("package", ["md_jax", "bridge"])
def test_rooms_are_small(package):
    sizes: dict[str, int] = {}
    for path in modules(package):
        if path.stem not in ("__init__", "__main__"):
            folder = str(path.parent.relative_to(ROOT))
            sizes[folder] = sizes.get(folder, 0) + 1
    assert max(sizes.values()) <= LARGEST_ROOM, sizes


@pytest.mark.parametrize("package", ["md_jax", "bridge"])
def test_no_pure_callback(package):
    """It copies through the host, on a CPU too."""
    for path in modules(package):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        names |= {i.module.rpartition(".")[2] for i in imports(path)}
        assert "pure_callback" not in names, path


# --- each rule can say no ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("bridge.op", "from md_jax.fit import train"),
        ("bridge.op", "def f():\n    import md_jax"),
        ("md_jax.run.build", "import torch"),
        ("md_jax.run.build", "def f():\n    from torch.nn import functional"),
        ("md_jax.run.build", "from bridge.op import torch_loss"),
        ("md_jax.fit.train", "def f():\n    from bridge.op import torch_loss"),
        ("md_jax.body.lbs", "import importlib\ndef f():\n    importlib.import_module('bridge.op')"),
    ],
)
def test_a_broken_seam_is_found(module, source):
    assert breaks_seam(module, imports_of(source))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("md_jax.body.lbs", "from md_jax.fit import problems"),
        ("md_jax.fit.train", "from md_jax import run"),
        ("md_jax.evaluate.scores", "from ..study import cells"),
        ("bridge.priors.spec", "def f():\n    from bridge.distill.critic import Critic"),
    ],
)
def test_an_arrow_upwards_is_found(module, source):
    assert climbs(module, imports_of(source, module.rpartition(".")[0]))


# --- and the imports themselves -------------------------------------------------------------------------------------

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


def import_with_blocked(names, blocked):
    code = BLOCK.format(names=names, blocked=blocked)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_core_imports_where_torch_and_bridge_cannot_be():
    found = [dotted(path) for path in modules("md_jax") if path.stem != "__main__"]  # which runs when it is imported
    names = [name for name in found if room_of(name) in WITHOUT_BRIDGE]
    assert len(names) > 10
    result = import_with_blocked(names, ["torch", "bridge", "diffusers", "transformers", "warp"])
    assert result.returncode == 0, result.stderr


def test_the_block_blocks():
    assert "blocked by the test" in import_with_blocked(["bridge.op"], ["torch"]).stderr


def test_bridge_itself_imports_nothing():
    result = import_with_blocked(["bridge", "bridge.configure", "bridge.errors"], ["torch", "jax", "numpy"])
    assert result.returncode == 0, result.stderr
