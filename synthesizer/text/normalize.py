"""English text as it is written to English text as it is spoken (being built)."""

from __future__ import annotations

from collections.abc import Collection

from synthesizer.text.languages import Normalized

SENTENCE_ABBREVIATIONS: frozenset[str] = frozenset()


def normalize(text: str, words: Collection[str] = ()) -> Normalized:
    return Normalized(" ".join(text.split()))
