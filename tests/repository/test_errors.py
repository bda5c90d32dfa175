"""Errors of the libraries: they say what is missing, and only command lines name flags and scripts."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.repository.test_imports import PACKAGES
from utils.errors import CloningError, MissingError
from utils.remedies import REMEDIES, with_remedy
from utils.scripts import exit_code

SCRIPTS = "|".join(path.stem for path in ROOT.glob("*.py"))
FLAG = re.compile(rf"(?:^|[\s(])--[a-z][a-z-]+|\b(?:{SCRIPTS})\.py\b")
LIBRARY = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]


def raised(path: Path) -> Iterator[tuple[ast.Call, str]]:
    """The calls that make an error or a log line, each with all text that stands in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.id if isinstance(called, ast.Name) else getattr(called, "attr", "")
            if name.endswith("Error") or name in ("missing", "missing_package", "warning", "info"):
                strings = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                yield node, "".join(strings)


def is_command_line(path: Path) -> bool:
    """Whether a module defines flags or reads them."""
    return re.search(r"^import argparse$", path.read_text(encoding="utf-8"), re.MULTILINE) is not None


def bare_flags(path: Path) -> dict[int, list[str]]:
    """The flags and scripts that are named by errors of a module, by line; none for a command line."""
    if is_command_line(path):
        return {}
    return {call.lineno: FLAG.findall(text) for call, text in raised(path) if FLAG.search(text)}


def test_only_command_lines_name_flags_and_scripts():
    assert len(LIBRARY) > 150
    assert {path.relative_to(ROOT).as_posix(): found for path in LIBRARY if (found := bare_flags(path))} == {}


@pytest.mark.parametrize(
    ("text", "seen"), [("{x}: give --out", True), ("run encoder_train.py", True), ("a--b in other.py", False)]
)
def test_a_flag_in_an_error_is_seen(tmp_path, text, seen):
    path = tmp_path / "a.py"
    path.write_text(f"raise CloningError(f'{text}')\n", encoding="utf-8")
    assert bool(bare_flags(path)) == seen
    path.write_text(f"import argparse\nraise CloningError(f'{text}')\n", encoding="utf-8")
    assert not bare_flags(path)


def test_every_missing_thing_has_one_remedy():
    named = {
        argument.value
        for path in LIBRARY
        for call, _ in raised(path)
        if getattr(call.func, "id", "") == "MissingError"
        for argument in call.args[1:]
        if isinstance(argument, ast.Constant)
    }
    assert named == set(REMEDIES)


@pytest.mark.parametrize("what", REMEDIES)
def test_the_flags_of_a_remedy_are_those_of_its_script(what):
    script = re.search(r"(\w+)\.py", REMEDIES[what]).group(1)
    flags = set(re.findall(r"--[a-z-]+", REMEDIES[what]))
    places = [ROOT / f"{script}.py", ROOT / "utils" / "data" / "selection.py"]
    places += (ROOT / "evaluation").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in places)
    assert flags and all(f'"{flag}"' in text or f'"{flag[2:]}"' in text for flag in flags)


def test_a_script_adds_the_remedy(capsys):
    def lacking() -> None:
        raise MissingError("data/x: no teacher's embeddings in this set", "teacher")

    assert exit_code(lacking) == 2
    line = "error: data/x: no teacher's embeddings in this set (here: encoder_preprocess.py --teacher CHECKPOINT)\n"
    assert capsys.readouterr().err == line
    assert with_remedy(CloningError("too long")) == "too long" == with_remedy(MissingError("too long"))
