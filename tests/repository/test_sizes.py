"""Files and functions stay small, and each class has a name of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import ROOT
from tests.repository.test_imports import PACKAGES

LINES, FUNCTION_LINES, ARGUMENTS = 400, 60, 8
SOURCES = [*ROOT.glob("*.py"), *(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))]


def too_large(path: Path) -> Iterator[str]:
    """What of a file is larger than the limits."""
    text = path.read_text(encoding="utf-8")
    if (count := len(text.splitlines())) > LINES:
        yield f"{path}: {count} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (count := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES:
                yield f"{path}:{node.lineno}: {node.name} has {count} lines"
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
            if (count := len([name for name in names if name not in ("self", "cls")])) > ARGUMENTS:
                yield f"{path}:{node.lineno}: {node.name} has {count} arguments"


def test_nothing_grows_out_of_hand():
    assert [line for path in SOURCES for line in too_large(path)] == []


def test_what_is_too_large_is_seen(tmp_path):
    path = tmp_path / "a.py"
    path.write_text("def f(a, b, c, *, d, e, g, h, i, j):\n" + "    x = 1\n" * 60 + "\n" * 350, encoding="utf-8")
    assert len(list(too_large(path))) == 3
    path.write_text("x = 1\n", encoding="utf-8")
    assert not list(too_large(path))


STAGES = ("encoder", "synthesizer", "vocoder")
OF_EACH_STAGE = ("DataConfig", "LossConfig", "Preprocessor", "RunConfig", "TransformerConfig")  # the same role in each


def test_each_public_class_has_a_name_of_its_own():
    places: dict[str, list[str]] = {}
    for path in SOURCES:
        where = path.relative_to(ROOT).parts[0]
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            shared = isinstance(node, ast.ClassDef) and node.name in OF_EACH_STAGE and where in STAGES
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(f"{where}.{node.name}" if shared else node.name, []).append(str(path))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
