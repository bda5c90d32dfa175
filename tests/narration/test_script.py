"""Scripts are read line by line, and what is wrong with one is told with its number."""

from __future__ import annotations

import pytest

from narration.script import LONG, PAUSE_SECONDS, Line, parse
from utils.errors import CloningError


def test_voices_emotions_pauses_and_numbers():
    text = "\n[ann] Hello.\n\n[ben|happy]Hello, Ann!\n And this too.\n[pause 0.8]\n[Pause 1 s]\n[ann]  Bye [for now]."
    assert parse(text) == [
        Line(2, "ann", None, "Hello."),
        Line(4, "ben", "happy", "Hello, Ann!"),
        Line(5, "ben", None, "And this too.", 1.8),
        Line(8, "ann", None, "Bye [for now]."),
    ]


def test_a_line_without_a_name_at_first_is_the_narrators():
    assert parse("Once upon a time.\n[ann] Hm.") == [
        Line(1, "", None, "Once upon a time."),
        Line(2, "ann", None, "Hm."),
    ]
    assert parse("[pause 9]\nHello.")[0].pause == PAUSE_SECONDS, "silence before the first line is no pause"
    assert parse("Wait.\n[pause 0]")[0].pause == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing is said in it"),
        ("[pause 1]\n\n", "nothing is said in it"),
        ("[ann] Hi.\n[ann Hello.", r"play\.txt line 2: its \[ has no \]"),
        ("[] Hi.", r"line 1: \[\] is not \[name\]"),
        ("[ann|] Hi.", "line 1: .* is not"),
        ("[ann]", "line 1: ann says nothing"),
        ("[ann] Hi.\n[pause 601]", "line 2: a pause of 601 s; it may be 0 to 600 s"),
        ("[ann] Hi.\n[pause 1e9]", "line 2: a pause of 1e.09 s; it may be 0 to 600 s"),
        ("[ann] Hi.\n[Pause -2s]", "line 2: a pause of -2 s; it may be 0 to 600 s"),
        ("[ann] Hi.\n[pause nan]", "line 2: a pause of nan s; it may be 0"),
        ("[ann] Hi.\n[pause]", r"line 2: a pause of '': give seconds, such as \[pause 0.8\]"),
        ("[ann] Hi.\n[pause long]", "line 2: a pause of 'long': give seconds"),
        ("x" * (LONG + 1), f"line 1: {LONG + 1} characters"),
    ],
)
def test_what_is_wrong_is_one_line_with_its_number(text, message):
    with pytest.raises(CloningError, match=message) as error:
        parse(text, "play.txt")
    assert "\n" not in str(error.value)
