"""Hostile texts: work grows no faster than the text, nothing is read at once that is longer than a stretch."""

from __future__ import annotations

import dataclasses

import pytest

from synthesizer.text import layout
from synthesizer.text.processor import PUBLISHED, TextProcessor
from tests.support.work import work_of
from utils.errors import CloningError

pytestmark = pytest.mark.slow

PROCESSOR = TextProcessor("phonemes")
PATTERNS = [
    *(
        "aaaa!",
        "1",
        "12 ",
        "()()",
        "1-1-",
        "a.a.",
        "<a bbbb ",
        "http://aaaa ",
        "$1 $1 ",
        "XIVXIV",
        "Dr. Dr. ",
        "A.",
        "aB",
    ),
    *("&#1", "1,", "a-b-", "No. 5 "),
]
MORE = [
    *(
        "a",
        "{",
        "{HH ",
        "[a](",
        "**",
        "* a",
        "_a",
        "`",
        "# ",
        "> ",
        "\n",
        "\n\n",
        " ",
        "-",
        "--x",
        "'",
        "&lt;",
        "<!--",
        "<br>",
    ),
    *(
        "\\",
        "|a",
        "a@a.a ",
        "1x1x",
        "1:1:",
        "+1 ",
        "5 ft. ",
        "etc. ",
        "A B C ",
        "1/1 ",
        "1e5 ",
        "1h 1m ",
        "9am-",
        "II II ",
    ),
    *("Henry II ", "Mon-", "€1.000,", "1 000 ", "½", "1½", "²", "😀", "你", "é", "\u200b", "word "),
]


def read(text: str) -> int:
    """All of it; the number of sentences."""
    try:
        return sum(1 for _ in PROCESSOR.sentences(text))
    except CloningError:
        return 0


def of_length(pattern: str, length: int) -> str:
    return (pattern * (length // len(pattern) + 1))[:length]


@pytest.mark.parametrize("pattern", PATTERNS[:9])
def test_work_grows_with_the_text(pattern):
    read(of_length(pattern, 100))  # reads the dictionary
    small, large = (work_of(lambda n=n: read(of_length(pattern, n))) for n in (4_000, 16_000))
    assert large < 4.6 * small + 2_000


@pytest.mark.parametrize("pattern", PATTERNS + MORE)
def test_no_rule_sees_more_than_a_stretch(pattern, monkeypatch):
    """What regular expressions do is not counted above: their work is bounded because what they are given is."""
    lengths: dict[str, list[int]] = {"block": [0], "chunk": [0]}
    normalize, inline = PROCESSOR.language.normalize, layout._inline

    def normalized(text, words):
        lengths["block"].append(len(text))
        return normalize(text, words)

    def inlined(text, noted):
        lengths["chunk"].append(len(text))
        return inline(text, noted)

    monkeypatch.setattr(layout, "_inline", inlined)
    monkeypatch.setattr(PROCESSOR, "language", dataclasses.replace(PROCESSOR.language, normalize=normalized))
    read(of_length(pattern, 24_000 if pattern in PATTERNS[:4] else 3_000))
    assert max(lengths["block"]) <= 1_000 and max(lengths["chunk"]) <= 20_000


def test_the_first_sentence_of_a_megabyte_comes_at_once():
    sentence = "On 3 May 2021 Dr. Jones sold 300 plonkers for $2.50. "
    PROCESSOR.normalize(sentence)
    short, long = (work_of(lambda n=n: next(PROCESSOR.sentences(of_length(sentence, n)))) for n in (20_000, 1_000_000))
    assert long < 1.1 * short


@pytest.mark.parametrize(
    "text", ["&#" + "9" * 5000 + ";", "9" * 10_000, "９" * 10_000, "1:" + "2" * 5000, "v1." + "3" * 5000]
)
@pytest.mark.parametrize("config", [PUBLISHED, {"symbol_set": "phonemes"}])
def test_thousands_of_digits_are_read_one_by_one(text, config):
    front_end = TextProcessor(config)
    try:
        found = [sentence.text for sentence in front_end.sentences(text)]
    except CloningError as error:  # the published front end has no such digits
        assert "nothing that can be spoken" in str(error) and "９" in text
        return
    assert sum(len(piece.split()) for piece in found) > 2_000
    assert max(map(len, found)) <= 2000


def test_a_text_of_marks_is_refused_in_one_line():
    with pytest.raises(CloningError, match="nothing that can be spoken") as error:
        read_all("*" * 100_000)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def read_all(text: str) -> list[str]:
    return [sentence.text for sentence in PROCESSOR.sentences(text)]
