"""The shape of the tree: imports point one way, and ultralytics has one door."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

# A package may import itself and what is right of it.
BELOW = {
    "studies": {"studies", "wsol", "maps", "training", "evaluation", "models", "data", "utils"},
    "wsol": {"wsol", "maps", "evaluation", "models", "data", "utils"},
    "maps": {"maps", "evaluation", "models", "data", "utils"},
    "training": {"training", "evaluation", "models", "data", "utils"},
    "deployment": {"deployment", "models", "data", "utils"},
    "evaluation": {"evaluation", "models", "data", "utils"},
    "models": {"models", "utils"},
    "data": {"data", "utils"},
    "utils": {"utils"},
}
FILES = [path for package in BELOW for path in sorted((ROOT / package).rglob("*.py"))]


def imports(path: Path) -> set[str]:
    """Modules that a file imports, at any depth."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = {name.split(".")[0] for name in imports(path)} & (
        set(BELOW) | {"train", "val", "detect", "export", "study", "tests"}
    )
    assert own <= BELOW[path.relative_to(ROOT).parts[0]]


def test_no_cycles() -> None:
    graph = {".".join(path.relative_to(ROOT).with_suffix("").parts): imports(path) for path in FILES}
    graph = {name: targets & set(graph) for name, targets in graph.items()}
    while leaves := [name for name, targets in graph.items() if not targets]:
        for leaf in leaves:
            del graph[leaf]
        graph = {name: targets - set(leaves) for name, targets in graph.items()}
    assert not graph, f"cycle among {sorted(graph)}"


def test_one_door_to_ultralytics() -> None:
    mentions = [path.name for path in FILES if "ultralytics" in {name.split(".")[0] for name in imports(path)}]
    door = ROOT / "utils" / "ultralytics_parts.py"
    assert not mentions
    assert 'importlib.import_module(f"ultralytics.' in door.read_text()
