"""No circles of imports: `python -X importtime` and a reader both need an order in which to take the modules."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import connected_components

from tests.conftest import ROOT

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["root_packages"]


def circles(folder: Path, packages: list[str]) -> set[tuple[str, ...]]:
    """Groups of modules below `folder` that import each other; imports in functions and for types count."""
    files = {path: path.relative_to(folder).with_suffix("") for p in packages for path in (folder / p).rglob("*.py")}
    modules = {".".join(name.parts).removesuffix(".__init__"): path for path, name in files.items()}
    names = sorted(modules)
    matrix = np.zeros((len(names), len(names)), bool)
    for row, name in enumerate(names):
        for found in imported(modules[name]) & modules.keys() - {name}:
            matrix[row, names.index(found)] = True
    _, labels = connected_components(matrix, connection="strong")
    groups = [tuple(name for name, label in zip(names, labels, strict=True) if label == i) for i in set(labels)]
    return {group for group in groups if len(group) > 1}


def imported(path: Path) -> set[str]:
    """Modules that a file names: of `from a import b`, both a and a.b, which may be a module too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_modules_do_not_import_each_other():
    assert circles(ROOT, PACKAGES) == set()


def test_a_circle_is_seen_wherever_its_imports_stand(tmp_path):
    (tmp_path / "p").mkdir()
    for name, text in {
        "__init__": "from p.a import x",
        "a": "x = 1\ndef f():\n    from p import b",
        "b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import x",
        "c": "import p.a",
    }.items():
        (tmp_path / "p" / f"{name}.py").write_text(text, encoding="utf-8")
    assert circles(tmp_path, ["p"]) == {("p", "p.a", "p.b")}
