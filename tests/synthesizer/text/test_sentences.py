"""Cutting loses nothing, keeps its bound, and knows where sentences do not end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesizer.text.processor import PUBLISHED, TextProcessor
from synthesizer.text.sentences import cut
from utils.errors import CloningError

PROCESSOR = TextProcessor("phonemes")


def texts(text: str, max_chars: int = 200) -> list[str]:
    return [piece.text for piece in PROCESSOR.sentences(text, max_chars)]


def pieces(text: str, max_chars: int) -> list[str]:
    return [piece.text for piece in cut(text, max_chars)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ("Dr. Smith paid $3 to Mrs. Lee. He left.", ["Doctor Smith paid three dollars to Missus Lee.", "He left."]),
        ("At 5 p.m. we ate. Then it rained.", ["At five P M we ate.", "Then it rained."]),
        ("We ate at 5 p.m. Then it rained.", ["We ate at five P M.", "Then it rained."]),
        ("J. R. R. Tolkien wrote. I read.", ["J R R Tolkien wrote.", "I read."]),
        ("See fig. 3, e.g. the left. Good.", ["See figure three, for example, the left.", "Good."]),
        ("Wait... what? No.", ["Wait... what?", "No."]),
        ('"Really?" he asked. "Yes."', ['"Really?" he asked.', '"Yes."']),
        ("1. First. 2. Second.", ["one, First.", "two, Second."]),
        ("I have 10. 5 are new! 3 are old.", ["I have ten.", "five are new!", "Three are old."]),
        ("hello there. how are you? fine.", ["hello there.", "how are you?", "Fine."]),
        ("Say {HH AH0 L OW1}. Now.", ["Say {HH AH0 L OW1}.", "Now."]),
        ("Fine. ... Next.", ["Fine...", "Next."]),
        ("one\ntwo\n\nthree", ["one, two", "three"]),
        ("One.\n\n***\n\n😀\n\nTwo.", ["One.", "Two."]),
    ],
)
def test_where_sentences_end(text, expected):
    assert texts(text) == expected


@pytest.mark.parametrize("text", ["", " \n \n ", "***", "😀"])
def test_nothing_to_say_is_an_error(text):
    with pytest.raises(CloningError, match="nothing that can be spoken"):
        texts(text)


def test_long_sentences_are_cut_at_clauses_then_words():
    text = "When the long day was over, the men went home to their wives and slept until the sun came up again"
    assert pieces(text, 40) == [
        "When the long day was over,",
        "the men went home to their wives and",
        "slept until the sun came up again",
    ]


def test_the_bound_is_one_of_spoken_text():
    assert all(len(piece) <= 200 for piece in texts("9" * 10_000))
    assert len(" ".join(texts("9" * 10_000)).split()) == 10_000
    assert max(map(len, texts("1-" * 5_000))) <= 200
    assert max(len(word) for piece in texts("a" * 5_000) for word in piece.split()) <= 50


def test_pauses_follow_the_marks():
    found = list(PROCESSOR.sentences("One day, a long night and a day. It ended.\n\nNew part. End.", 20))
    pauses = {piece.text: piece.pause_s for piece in found}
    assert pauses["New part."] == pauses["day."]
    assert pauses["It ended."] > pauses["day."] > pauses["One day,"] > pauses["a long night and a"] > 0
    assert pauses["End."] == 0


def test_notes_come_with_the_sentences():
    found = list(PROCESSOR.sentences("# One.\n\nTwo 😀.\n\n***\n\nThree. 你"))
    notes = [note for piece in found for note in piece.notes]
    assert "Markdown left out: #" in notes and "emoji left out: 😀 (grinning face)" in notes
    assert any("你" in note for note in notes)


def test_an_inline_pronunciation_is_not_cut():
    assert pieces("a {HH AH0 L OW1 W ER1 L D} b", 5) == ["a", "{HH AH0 L OW1 W ER1 L D}", "b"]


def test_a_bound_below_one_is_refused():
    with pytest.raises(CloningError, match="max_chars is 0"):
        cut("a", 0)


def test_the_published_front_end_reads_sentence_by_sentence():
    processor = TextProcessor(PUBLISHED)
    found = list(processor.sentences("Dr. Smith paid $5 at 5 p.m. Then J. R. Lee left. 7 {X}"))
    assert [s.text for s in found] == ["doctor smith paid five dollars at five p.m.", "then j. r. lee left.", "seven "]
    assert processor.encode(found[0].text) == processor.encode("Dr. Smith paid $5 at 5 p.m.")
    assert any("curly braces" in note for s in found for note in s.notes)


WORDS = st.sampled_from(
    "a I no Dr. St. e.g. 3.5 $5. end. What? yes! one, two; (three) “four” - — p.m. The x\n\ny ... 7.".split(" ")
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(WORDS, st.text(max_size=12)), max_size=40), st.integers(1, 60))
def test_every_word_once_in_order_and_within_the_bound(words, bound):
    text = " ".join(words).replace("{", "(")
    found = pieces(text, bound)
    assert " ".join(found).split() == text.split()
    assert all(len(piece) <= bound or len(piece.split()) == 1 for piece in found)
    assert all(piece == piece.strip() and piece for piece in found)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(WORDS, st.text(max_size=12)), max_size=40))
def test_what_is_cut_is_what_is_read(words):
    text = " ".join(words).replace("{", "(")
    try:
        whole = PROCESSOR.read(text).text
    except CloningError:
        with pytest.raises(CloningError):
            texts(text)
        return
    letters = [c for c in " ".join(texts(text)) if c.isalpha()]
    assert letters == [c for c in whole if c.isalpha()]
