"""Written English to spoken English: the table, the notes on what is left out, and what never comes out."""

from __future__ import annotations

import re
import string
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesizer.text.processor import TextProcessor
from tests.conftest import DATA
from utils.errors import CloningError

normalize = TextProcessor("phonemes").read
LINES = (DATA / "normalization.tsv").read_text(encoding="utf-8").splitlines()
TABLE = [line.split("\t") for line in LINES]


def test_the_table_is_long_enough():
    assert len({written for written, _ in TABLE}) == len(TABLE) >= 200


def test_every_row_of_the_table():
    wrong = [(w, expected, got) for w, expected in TABLE if (got := normalize(w).text) != expected]
    assert not wrong, "\n".join(f"{w!r}: wanted {e!r}, got {g!r}" for w, e, g in wrong)


def test_normalizing_twice_changes_nothing():
    changed = [(e, again) for _, e in TABLE if (again := normalize(e).text) != e]
    assert not changed


def test_entities_of_any_length_are_read():
    assert normalize("&#65; &amp; &#x42;").text == "A and B"
    assert normalize("&#" + "1" * 5000).text.count("one") == 5000


@pytest.mark.parametrize(
    ("text", "spoken", "note"),
    [
        ("Hello 😀👍🏽 there", "Hello there", "emoji left out: 😀 (grinning face), 👍 (thumbs up sign)"),
        ("Nice :-) really", "Nice really", "emoji left out: :-)"),
        ("Say 你好 to Ивану", "Say to", "cannot be read, left out: 你好 (2 cjk characters)"),
        ("Say 你好 to Ивану", "Say to", "cannot be read, left out: Ивану (5 cyrillic characters)"),
        ("*bold*", "bold", "Markdown left out: *"),
        ("bo*ld", "bold", "left out: *"),
        ("<b>bold</b>", "bold", "markup left out: <b> </b>"),
    ],
)
def test_what_is_left_out_is_named(text, spoken, note):
    result = normalize(text)
    assert result.text == spoken
    assert note in result.notes


def test_plain_text_has_no_notes():
    assert normalize("Dr. Lee paid $5 on 3/4/2024 – “fine”.").notes == ()


@pytest.mark.parametrize("text", ["", "   ", "?!", "😀", "你好", "{}", "\x00"])
def test_nothing_to_say_is_an_error(text):
    with pytest.raises(CloningError, match="the text holds nothing that can be spoken"):
        normalize(text)


def test_words_of_the_users_lexicon_are_not_spelled():
    assert normalize("The QXZ works").text == "The Q X Z works"
    lexicon = {"qxz": ["K", "IH1", "K", "S"]}
    assert TextProcessor("phonemes", lexicon=lexicon).read("The QXZ works").text == "The QXZ works"


def test_a_pronunciation_passes_through_untouched():
    assert normalize("Say {HH AH0  L OW1}, $5").text == "Say {HH AH0 L OW1}, five dollars"


ALLOWED = re.compile(r"[A-Za-z'\",.?!;:() -]*")
PIECES = st.one_of(
    st.text(max_size=20),
    st.text(alphabet=string.digits + "$£€%.,:/-–+()'\"#@& kmKMstndrhaIVXpGB°", max_size=20),
    st.sampled_from([w for w, _ in TABLE if "{" not in w]),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=3))
def test_only_letters_and_marks_come_out_of_anything(pieces):
    try:
        result = normalize(" ".join(pieces).replace("{", "(").replace("}", ")"))
    except CloningError:
        return
    assert ALLOWED.fullmatch(result.text), result.text
    assert "\n" not in result.text and "  " not in result.text


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.characters(min_codepoint=0x400, max_codepoint=0x1DFF, categories=["Lo", "Lu"]), min_size=1))
def test_every_unreadable_letter_is_named(text):
    notes = " ".join(normalize(f"word {text}").notes)
    assert all(c in notes for c in text if not unicodedata.normalize("NFKD", c).isascii())
