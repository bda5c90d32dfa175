"""How English questions are said: those to be answered by yes or no rise, those with a question word fall."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from synthesizer.text.english.vocabulary import names


def melody(words: Sequence[str]) -> str:
    """ "?" for "do you see it", "." for "what do you see" (and "who sees it"), "" for what is not put as a question."""
    asked = [w.lower() for w in words]
    while len(asked) > 1 and asked[0] in _set("before_questions"):
        asked = asked[1:]
    if asked and asked[0] in _set("question_words"):
        return "."
    inverted = len(asked) > 2 and asked[0] in _set("auxiliaries") and asked[1] in _set("subjects")
    return "?" if inverted else ""


@cache
def _set(section: str) -> frozenset[str]:
    return frozenset(word.lower() for word in names(section))
