"""Languages: what the front end must know of one, and where each is found.

Another language is one module that defines `LANGUAGE` and one line in `MODULES`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module

from utils.errors import CloningError

MODULES: dict[str, str] = {
    "english": "synthesizer.text.english.language",
}

Lexicon = Mapping[str, Sequence[str]]  # word in lower case -> its phones


@dataclass(frozen=True)
class Normalized:
    """Text as it is spoken, and what a reader should know about how it became so."""

    text: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Language:
    """All that is particular to one language.

    normalize(text, words): written text to spoken text; `words` (lower case) are kept as they stand, because the
      user's lexicon pronounces them.
    pronounce(words, lexicon): the phones of each word of one sentence, with stress where the language marks it; marks
      (`, . ? !` ...) stand among the words for context and give an empty list.
    melody(words): how the words of a question are said: "?" rising, "." falling, "" when they are not put as one.
    is_known(word): whether its pronunciation is looked up rather than predicted.
    """

    name: str
    phones: tuple[str, ...]  # every phone that `pronounce` and a lexicon may hold, with and without stress
    normalize: Callable[[str, Collection[str]], Normalized]
    pronounce: Callable[[Sequence[str], Lexicon], list[list[str]]]
    is_known: Callable[[str], bool]
    without_stress: Callable[[str], str] = lambda phone: phone
    melody: Callable[[Sequence[str]], str] = lambda words: ""
    abbreviations: frozenset[str] = field(default_factory=frozenset)  # lower case, no dot; no sentence ends there,
    sentence_starters: frozenset[str] = field(default_factory=frozenset)  # ... unless one of these words follows


def get(name: str) -> Language:
    """The language of that name. Raises CloningError naming those there are."""
    if name not in MODULES:
        raise CloningError(f"unknown language {name!r}: there are {sorted(MODULES)}")
    return import_module(MODULES[name]).LANGUAGE
