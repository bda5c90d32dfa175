"""Where clauses end, and with what mark: what pauses and pitch follow.

Each symbol of an utterance has a mark: one of `PAUSES` where a clause ends so, `UNKNOWN` where one ends but the text
has no punctuation, "" elsewhere. Only the predictor of durations and prosody gets them: few recordings have punctuated
text, and a network that paints the mel would take their marks for their voices.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

import torch
from torch import Tensor

from synthesizer.text.languages import Language
from synthesizer.text.processor import TextProcessor, Word
from synthesizer.text.symbols import END, PAD, PAUSES, SILENCE, WORD_BOUNDARY, SymbolTable

UNKNOWN = END
N_MARKS = 2 + len(PAUSES)  # the first ids of every table of phonemes
DECAY = 6.0  # symbols before the end of a clause in which its mark's weight falls by e


def marks_of_words(words: Sequence[Word], language: Language) -> list[str]:
    """The mark after each word; a question mark only where the melody rises."""
    marks, start = [], 0
    for index, word in enumerate(words):
        mark = word.after if word.after in PAUSES else ""
        if mark == "?" and language.melody([w.text for w in words[start : index + 1]]) == ".":
            mark = "."
        marks.append(mark)
        start = index + 1 if mark else start
    return marks


def marks_of_recording(symbols: Sequence[str], spoken: Sequence[str], text: str, processor: TextProcessor) -> list[str]:
    """For each of the symbols of an alignment (`align.symbols_of`) its mark.

    spoken: the aligner's words, "" or SIL for silence. A text without punctuation says only where pauses are, and
    whether the last clause is put as a question. Nothing is known where words and symbols do not go together.
    """
    marks = [""] * len(symbols)
    ends = [i for i, s in enumerate(symbols[:-1]) if s in (WORD_BOUNDARY, *PAUSES)] + [len(symbols) - 1]
    spoken_words = [word for word in spoken if word not in ("", SILENCE)]
    if any(mark in text for mark in PAUSES if mark != "-"):
        words = processor.words(text, pronounced=False)
        if len(ends) != len(spoken_words):
            return marks
        after = marks_of_words(words, processor.language)
        matcher = SequenceMatcher(
            None, [w.text.lower() for w in words], [w.lower() for w in spoken_words], autojunk=False
        )
        for block in matcher.get_matching_blocks():
            for i in range(block.size):
                marks[ends[block.b + i]] = after[block.a + i]
        return marks
    for end in ends:
        if symbols[end] != WORD_BOUNDARY:
            marks[end] = UNKNOWN
    if processor.language.melody(_last_clause(spoken)) == "?":
        marks[-1] = "?"
    return marks


def _last_clause(spoken: Sequence[str]) -> list[str]:
    clause: list[str] = []
    for word in reversed(spoken):
        if word not in ("", SILENCE):
            clause.insert(0, word)
        elif clause:
            break
    return clause


def mark_ids(marks: Sequence[str], table: SymbolTable) -> list[int]:
    """Ids of marks, that of the end symbol (which has none) last."""
    return [table.ids[mark or PAD] for mark in marks] + [table.ids[PAD]]


def ahead(marks: Tensor) -> tuple[Tensor, Tensor]:
    """Ids of marks (B, N) -> for each symbol the id of the mark that ends its clause (B, N), 0 where it is not known,
    and how near that end is (B, N): 1 at the mark, falling to 0 before it.
    """
    size = marks.shape[1]
    places = torch.arange(size, device=marks.device).expand_as(marks)
    following = torch.where(marks > 0, places, size).flip(1).cummin(dim=1).values.flip(1)
    mark = marks.gather(1, following.clamp(max=size - 1))
    mark = torch.where((following < size) & (mark > 1), mark, 0)
    return mark, torch.exp((places - following) / DECAY)
