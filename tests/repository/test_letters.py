"""The letters of shapes in docstrings and comments are those of CONTRIBUTING."""

from __future__ import annotations

import re

from tests.conftest import ROOT

STAGES = ("utils", "encoder", "synthesizer", "vocoder")
AXIS = r"(?:[A-Z]'?|\d+|\.\.\.|[a-z_]+|[^(),]* [-+*/] [^(),]*)"
SHAPE = re.compile(rf"(?<![\w\])])\(({AXIS}(?:, ?{AXIS})*,?)\)")


def letters(text: str) -> set[str]:
    """Those in shapes such as (B, S, 2 * C) or (T,), but for words and numbers."""
    found: set[str] = set()
    for match in SHAPE.finditer(text):
        if "," in match[1]:
            found |= set(re.findall(r"(?<![\w.])[A-Z](?![\w.])", match[1]))
    return found


def test_letters_of_shapes_are_in_the_table():
    table = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("### Letters of shapes")[2].partition("## ")[0]
    )
    known = set(re.findall(r"\| ([A-Z]) \|", table))
    assert len(known) == 22
    unknown = {}
    for path in (path for stage in STAGES for path in (ROOT / stage).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\nLetters" not in text and (more := letters(text) - known):
            unknown[path.relative_to(ROOT).as_posix()] = more
    assert unknown == {}


def test_a_letter_is_seen_in_shapes_alone():
    assert letters("x (B, X), y (Z,) -> (2 * Y, 3)") == set("BXZY")
    assert letters("f(A, Q), (see A, B), [a](X, Y), (A)") == set()
