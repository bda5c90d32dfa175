"""The letters of shapes in docstrings and comments are those of CONTRIBUTING, each where it has a meaning."""

from __future__ import annotations

import re

from tests.conftest import ROOT

PACKAGES = ("utils", "encoder", "synthesizer", "vocoder", "cloning", "diarization", "evaluation")
AXIS = r"(?:[A-Z]'?|\d+|\.\.\.|[a-z_]+|[^(),]* [-+*/] [^(),]*)"
SHAPE = re.compile(rf"(?<![\w\])])\(({AXIS}(?:, ?{AXIS})*,?)\)")
LETTER = re.compile(r"(?<![\w.])[A-Z](?![\w.])")


def letters(text: str) -> set[str]:
    """Those in shapes such as (B, S, 2 * C) or (T,), but for words and numbers."""
    shapes = (match[1] for match in SHAPE.finditer(text))
    return {letter for shape in shapes if "," in shape for letter in LETTER.findall(shape)}


def table() -> list[tuple[str, list[str]]]:
    """Each row's letter, and the folders and files in which it stands; [""]: all."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition("### Letters of shapes")[2].partition("## ")[0]
    rows = re.findall(r"^\| ([A-Z]) \| .+? \|(.*)\|$", section, re.MULTILINE)
    return [(letter, re.findall(r"`(.+?)`", where) or [""]) for letter, where in rows]


def strangers(path: str, text: str) -> set[str]:
    """The letters of a module that neither the table nor the module's "Letters:" gives a meaning there."""
    known = {letter for letter, places in table() if any(f"{path}/".startswith(f"{p}/" if p else "") for p in places)}
    own = re.search(r'^Letters: (.+?)(?:\n\n|""")', text, re.MULTILINE | re.DOTALL)
    return letters(text) - known - set(LETTER.findall(own[1]) if own else ())


def test_each_letter_of_a_shape_has_a_meaning_where_it_stands():
    found = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if more := strangers(name, path.read_text(encoding="utf-8")):
            found[name] = more
    assert found == {}


def test_all_rows_are_read_and_their_places_exist():
    rows = table()
    assert len(rows) == 27 and len({letter for letter, _ in rows}) == 22
    assert all((ROOT / place).exists() for _, places in rows for place in places)


def test_a_letter_is_known_in_its_places_alone():
    shapes = '"""(B, H, S) -> (B, Q, V)"""'
    assert strangers("utils/operations.py", shapes) == set("HSQV")
    assert strangers("synthesizer/models/transformer.py", shapes) == {"H"}
    assert strangers("vocoder/wavernn/gru.py", shapes) == set("SQV")
    assert strangers("utils/operations.py", f'"""Of rows.\n\nLetters: H heads, S speakers.\n\n{shapes}"""') == set("QV")


def test_a_letter_is_seen_in_shapes_alone():
    assert letters("x (B, X), y (Z,) -> (2 * Y, 3)") == set("BXZY")
    assert letters("f(A, Q), (see A, B), [a](X, Y), (A)") == set()
