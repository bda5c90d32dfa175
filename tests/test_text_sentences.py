"""Splitting loses nothing, keeps its bound, and knows where sentences do not end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesizer.text import split_sentences
from utils.errors import CloningError


def texts(text: str, **options) -> list[str]:
    return [piece.text for piece in split_sentences(text, **options)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith paid $3.50 to Mrs. Lee. He left.", ["Dr. Smith paid $3.50 to Mrs. Lee.", "He left."]),
        ("At 5 p.m. we ate. Then it rained.", ["At 5 p.m. we ate.", "Then it rained."]),
        ("We ate at 5 p.m. Then it rained.", ["We ate at 5 p.m.", "Then it rained."]),
        ("J. R. R. Tolkien wrote. I read.", ["J. R. R. Tolkien wrote.", "I read."]),
        ("See fig. 3, e.g. the left. Good.", ["See fig. 3, e.g. the left.", "Good."]),
        ("Wait... what? No.", ["Wait... what?", "No."]),
        ('"Really?" he asked. "Yes."', ['"Really?" he asked.', '"Yes."']),
        ("1. First. 2. Second.", ["1. First.", "2. Second."]),
        ("Say {HH AH0 L OW1}. Now.", ["Say {HH AH0 L OW1}.", "Now."]),
        ("Fine. ... Next.", ["Fine. ...", "Next."]),
        ("one\ntwo\n\nthree", ["one two", "three"]),
        ("", []),
        (" \n \n ", []),
    ],
)
def test_where_sentences_end(text, expected):
    assert texts(text) == expected


def test_long_sentences_are_cut_at_clauses_then_words():
    text = "When the long day was over, the men went home to their wives and slept until the sun came up again"
    assert texts(text, max_chars=40) == [
        "When the long day was over,",
        "the men went home to their wives and",
        "slept until the sun came up again",
    ]


def test_pauses_follow_the_marks():
    pieces = split_sentences("One day, a long night and a day. It ended.\n\nNew part. End.", max_chars=20)
    pauses = {piece.text: piece.pause_s for piece in pieces}
    assert pauses["New part."] == pauses["day."]
    assert pauses["It ended."] > pauses["day."] > pauses["One day,"] > pauses["a long night and a"] > 0
    assert pauses["End."] == 0


def test_an_inline_pronunciation_is_not_cut():
    assert texts("a {HH AH0 L OW1 W ER1 L D} b", max_chars=5) == ["a", "{HH AH0 L OW1 W ER1 L D}", "b"]


def test_a_bound_below_one_is_refused():
    with pytest.raises(CloningError, match="max_chars is 0"):
        split_sentences("a", max_chars=0)


WORDS = st.sampled_from(
    "a I no Dr. St. e.g. 3.5 $5. end. What? yes! one, two; (three) “four” - — p.m. The x\n\ny ... 7.".split(" ")
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(WORDS, st.text(max_size=12)), max_size=40), st.integers(1, 60))
def test_every_word_once_in_order_and_within_the_bound(words, bound):
    text = " ".join(words).replace("{", "(")
    pieces = texts(text, max_chars=bound)
    assert " ".join(pieces).split() == text.split()
    assert all(len(piece) <= bound or len(piece.split()) == 1 for piece in pieces)
    assert all(piece == piece.strip() and piece for piece in pieces)
