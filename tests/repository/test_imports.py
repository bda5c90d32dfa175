"""No circles of imports: `python -X importtime` and a reader both need an order in which to take the modules."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import numpy as np
from scipy.sparse.csgraph import connected_components

from tests.conftest import ROOT

PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["root_packages"]


SPEAKING = ("demo_cli", "app", "serve", "make_voice", "diarize")  # scripts that train nothing
OF_TRAINING = ("utils.training", "encoder.train", "synthesizer.train", "synthesizer.training", "vocoder.train")


def modules_below(folder: Path, packages: list[str]) -> dict[str, Path]:
    """Modules of `packages`, and those in `folder` itself, by name."""
    paths = [*folder.glob("*.py"), *(path for package in packages for path in (folder / package).rglob("*.py"))]
    return {".".join(p.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): p for p in paths}


def circles(folder: Path, packages: list[str]) -> set[tuple[str, ...]]:
    """Groups of modules below `folder` that import each other; imports in functions and for types count."""
    modules = modules_below(folder, packages)
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


def test_no_package_imports_a_script():
    scripts = {path.stem for path in ROOT.glob("*.py")}
    inner = modules_below(ROOT, PACKAGES).keys() - scripts
    modules = modules_below(ROOT, PACKAGES)
    assert {name: found for name in inner if (found := imported(modules[name]) & scripts)} == {}


def test_scripts_that_speak_reach_nothing_of_training():
    modules, reached, waiting = modules_below(ROOT, PACKAGES), {}, [(name, name) for name in SPEAKING]
    while waiting:
        name, way = waiting.pop()
        reached[name] = way
        settings = name.endswith(".config")  # the settings of a training are among those of a network
        found = imported(modules[name]) & modules.keys() - reached.keys() - (
            {"utils.training.task"} if settings else set()
        )
        waiting += [(other, f"{way} -> {other}") for other in found if not (settings and other == "utils.training")]
    assert "synthesizer.adaptation" in reached
    assert [way for name, way in reached.items() if f"{name}.".startswith(tuple(f"{n}." for n in OF_TRAINING))] == []


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
