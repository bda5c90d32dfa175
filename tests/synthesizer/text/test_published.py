"""The published front end gives the recorded ids, character for character."""

from __future__ import annotations

import json

import pytest

from synthesizer.text import published
from synthesizer.text.symbols import CHARACTERS
from tests.conftest import DATA

GOLDEN = json.loads((DATA / "text.json").read_text(encoding="utf-8"))


def test_symbols_are_the_published_ones_in_order():
    assert list(CHARACTERS) == GOLDEN["symbols"]


@pytest.mark.parametrize(
    "text", ["$,5", "$000,.0,01", "$" + "9" * 5000, "1" * 5000, "9" * 5000 + "th", "£" + "1" * 5000]
)
def test_no_amount_is_too_odd_or_too_long(text):
    assert published.text_to_sequence(text)[-1] == 1


@pytest.mark.parametrize("row", GOLDEN["rows"], ids=lambda row: row["text"][:24] or "empty")
def test_recorded_sentences(row):
    for name, cleaner in published.CLEANERS.items():
        assert cleaner(row["text"]) == row[name], name
    sequence = published.text_to_sequence(row["text"])
    assert sequence == row["sequence"]
    assert published.sequence_to_text(sequence) == row["sequence_to_text"]
    assert published.text_to_sequence(row["text"], "basic_cleaners") == row["sequence_basic"]
