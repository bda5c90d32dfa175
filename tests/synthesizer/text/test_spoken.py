"""How texts are said and in how many sentences: tables of what users of other tools reported, and of the same kinds."""

from __future__ import annotations

import re

import pytest

from synthesizer.text.processor import TextProcessor
from tests.conftest import DATA

PROCESSOR = TextProcessor("phonemes")


def rows(name: str) -> list[list[str]]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [line.split("\t") for line in lines[1:]]


def said(text: str) -> tuple[str, int]:
    """The words alone, in small letters, and the number of sentences."""
    sentences = [sentence.text for sentence in PROCESSOR.sentences(text)]
    return " ".join(re.findall(r"[a-z']+", " ".join(sentences).lower())), len(sentences)


def wrong(text: str, readings: str, counts: str) -> str:
    words, count = said(text.replace("\\n", "\n"))
    least, _, most = counts.partition("-")
    if words in readings.split("|") and int(least) <= count <= int(most or least):
        return ""
    return f"{text!r}: wanted {readings!r} in {counts}, got {words!r} in {count}"


REPORTED = rows("texts.tsv")
KINDS = {kind: [row[1:] for row in rows("spoken.tsv") if row[0] == kind] for kind, *_ in rows("spoken.tsv")}


def test_the_tables_are_long_enough():
    assert len(REPORTED) == 40
    assert sum(map(len, KINDS.values())) >= 150


def test_texts_that_were_reported():
    found = [line for row in REPORTED if (line := wrong(*row))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_of_the_same_kinds(kind):
    found = [line for row in KINDS[kind] if (line := wrong(*row))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("text", ["Mambo No. 5 is old. So is No. 6.", "# Title\nHe is 6 ft. 2 in. tall. Is he?"])
def test_a_text_is_read_the_same_whole_and_cut(text):
    whole = PROCESSOR.read(text).text
    cut = " ".join(sentence.text for sentence in PROCESSOR.sentences(text))
    assert whole.split() == cut.split()


@pytest.mark.parametrize("text", ["Mambo No. 5", "It cost $3. No. 5 people came.", "GPT-4 and 3M"])
def test_spoken_text_is_not_read_again(text):
    for sentence in PROCESSOR.sentences(text):
        assert PROCESSOR.read(sentence.text).text == sentence.text
        assert PROCESSOR.words(sentence.text)
