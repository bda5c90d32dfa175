"""A sentence as a network reads it."""

from __future__ import annotations

from typing import NamedTuple

from synthesizer.text.clauses import mark_ids, marks_of_words
from synthesizer.text.marks import NEUTRAL, Style
from synthesizer.text.processor import TextProcessor
from synthesizer.text.symbols import PAUSE, SILENCE, WORD_BOUNDARY
from utils.errors import CloningError

MAX_TOKENS = 600


class EncodedText(NamedTuple):
    """Ids of symbols, and of each the mark that ends a clause there (`synthesizer.text.clauses`); the words that the
    phones are of, none where the symbols are letters."""

    tokens: list[int]
    marks: list[int]
    words: tuple[str, ...] = ()
    styles: tuple[Style, ...] = ()  # of each symbol; none where all are as predicted


def encode(text: str, processor: TextProcessor, *, pauses: bool) -> EncodedText:
    """One sentence. `pauses`: models of aligned speech know one kind of pause, and silence at both ends.

    Raises CloningError for more than `MAX_TOKENS`.
    """
    if pauses:
        words = processor.words(text)
        symbols, marks = [SILENCE], [""]
        for word, mark in zip(words, marks_of_words(words, processor.language), strict=True):
            symbols += [*word.phones, PAUSE if mark else WORD_BOUNDARY]
            marks += [*[""] * len(word.phones), mark]
        symbols[-1] = SILENCE  # what ends the text is no pause
        named = tuple(word.text for word in words)
        styles = [NEUTRAL, *(word.style for word in words for _ in (*word.phones, word.after)), NEUTRAL]
        styles[-2] = NEUTRAL  # the silence at the end
        styled = () if set(styles) == {NEUTRAL} else tuple(styles)
        encoded = EncodedText(processor.table.encode(symbols), mark_ids(marks, processor.table), named, styled)
    else:
        ids = processor.encode(text)
        phones = processor.config.symbol_set == "phonemes"
        named = tuple(word.text for word in processor.words(text)) if phones else ()
        encoded = EncodedText(ids, [0] * len(ids), named)
    if (count := len(encoded.tokens)) > MAX_TOKENS:
        raise CloningError(f"{text[:40]!r}...: {count} symbols, at most {MAX_TOKENS} in a sentence: make it shorter")
    return encoded
