"""Lines, lists and Markdown: what is not words is left out and noted, what is a line is a pause."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesizer.text.layout import BLOCK_CHARS, blocks

PROSE = (
    "It was the best of times, it was the worst of times, it was the\n"
    "age of wisdom, it was the age of foolishness, it was the epoch of\n"
    "belief, it was the epoch of incredulity"
)
EVEN = (
    "A few seconds of a voice and a sentence in; that sentence in the\n"
    "Voice comes out, in stages that were trained apart and that share\n"
    "CPU cores"
)


def plain(text: str) -> list[str]:
    return [block.text.strip() for block in blocks(text)]


def notes(text: str) -> str:
    return "; ".join(note for block in blocks(text) for note in block.notes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("milk\neggs\nbread", ["milk, eggs, bread"]),
        ("milk,\neggs.\nbread", ["milk, eggs. bread"]),
        ("The woods are dark\nBut I have promises to keep", ["The woods are dark, But I have promises to keep"]),
        (PROSE, [PROSE.replace("\n", " ")]),
        (EVEN, [EVEN.replace("\n", " ")]),
        ("- one thing that\n  goes on\n- two", ["one thing that goes on. two"]),
        ("one\r\n\r\ntwo\u2029three", ["one", "two", "three"]),
        ("a<br>b<br/>c", ["a, b, c"]),
        ("# Title\nText here.", ["Title. Text here."]),
        ("Title\n=====\ntext", ["Title, text"]),
        ("- milk\n- eggs", ["milk, eggs"]),
        ("* buy some milk for the cat\n* eggs", ["buy some milk for the cat. eggs"]),
        ("1. Mix\n2. Bake", ["1, Mix. 2, Bake"]),
        ("> He said\n> so.", ["He said, so."]),
        ("| a | b |\n|---|---|\n| 1 | 2 |", ["a, b. 1, 2"]),
        ("```python\nprint\n```", ["print"]),
        ("*one* **two** _three_ __four__ `five` ~~six~~ ***seven***", ["one two three four five six seven"]),
        ("**a _b_ c**", ["a b c"]),
        ("[the site](http://a.b/c_(d) \"title\")", ["the site"]),
        ("[the site](http://a.b/c_d 'title') ![cat](c.png)", ["the site cat"]),
        ("[one][1]\n\n[1]: http://a.b", ["one"]),
        ("text[^1] <!-- not\nthis --> end", ["text   end"]),
        ("2*3*4 and snake_case and * alone, 5 > 3", ["2*3*4 and snake_case and * alone, 5 > 3"]),
        ("-5 degrees\n#5\n> 5", ["-5 degrees, #5, > 5"]),
        (r"\*not\*", ["*not*"]),
    ],
)  # fmt: skip
def test_what_a_layout_becomes(text, expected):
    assert plain(text) == expected


def test_what_is_left_out_is_noted():
    assert notes("# A\n\n- b\n- [c](http://d)") == "Markdown left out: #; Markdown left out: -, link http://d"
    assert notes("*a* 2*3") == "Markdown left out: *"
    assert notes("plain - text, 2 * 3, #5") == ""
    assert "a word of 500 letters is read in parts" in notes("a" * 500)


def test_a_block_ends_with_a_sentence_where_it_can():
    found = list(blocks("Nothing ever happens here. " * 100))
    assert [b.end for b in found[:-1]] == ["sentence"] * (len(found) - 1) and found[-1].end == "paragraph"
    assert all(b.text.rstrip().endswith("here.") for b in found)
    assert {b.end for b in list(blocks("word " * 1000))[:-1]} == {"word"}


def test_an_inline_pronunciation_stays_in_one_block():
    found = plain("word " * 197 + "{HH AH0 L OW1} " + "word " * 50)
    assert sum("{HH AH0 L OW1}" in block for block in found) == 1


@settings(max_examples=100, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab1 .\n#*_-|>[]()`~<!{}\\"), max_size=3000))
def test_blocks_are_short_and_lose_no_letters(text):
    found = list(blocks(text.replace("](", "] (").replace("][", "] [").replace("]:", "] :").replace("<!", "< !")))
    assert all(len(block.text) <= BLOCK_CHARS for block in found)
    kept = "".join(c for block in found for c in block.text if c in "b1")
    assert kept == "".join(c for c in text if c in "b1")
