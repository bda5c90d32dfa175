"""Long text in pieces that a synthesizer can say in one breath, with the pause that follows each."""

from __future__ import annotations

import re
from typing import NamedTuple

from synthesizer.text import languages
from utils.errors import CloningError

PARAGRAPH_PAUSE_S = 0.8
SENTENCE_PAUSE_S = 0.45
CLAUSE_PAUSE_S = 0.2
WORD_PAUSE_S = 0.05

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_TOKEN = re.compile(r"\S*\{[^{}]*\}\S*|\S+")  # an inline pronunciation holds spaces and stays whole
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*$")
_CLAUSE_END = re.compile(r"[,;:—–-][\"'”’)\]]*$|[)\]]$")


class Sentence(NamedTuple):
    """A piece of text, and the silence after it in seconds (0 after the last)."""

    text: str
    pause_s: float


def split_sentences(text: str, max_chars: int = 200, language: str = "english") -> list[Sentence]:
    """Sentences of `text`; those over max_chars in clauses, and where none fits in words.

    Every word is in exactly one piece, in order. A piece is longer than max_chars only when it is one word (or one
    inline pronunciation). Text without any word gives an empty list. Raises CloningError when max_chars < 1.
    """
    if max_chars < 1:
        raise CloningError(f"max_chars is {max_chars}, it must be at least 1: use 200 or leave it out")
    rules = languages.get(language)
    pieces: list[Sentence] = []
    for paragraph in _PARAGRAPH.split(text):
        for tokens in _sentences(_TOKEN.findall(paragraph), rules):
            pieces += _fit(tokens, max_chars)
        if pieces:
            pieces[-1] = pieces[-1]._replace(pause_s=PARAGRAPH_PAUSE_S)
    if pieces:
        pieces[-1] = pieces[-1]._replace(pause_s=0.0)
    return pieces


def _sentences(tokens: list[str], rules: languages.Language) -> list[list[str]]:
    """Tokens of one paragraph cut after each sentence."""
    sentences: list[list[str]] = [[]]
    for index, token in enumerate(tokens):
        sentences[-1].append(token)
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        if following and _ends_here(token, following, len(sentences[-1]) == 1, rules):
            sentences.append([])
    return _joined([s for s in sentences if s])


def _joined(sentences: list[list[str]]) -> list[list[str]]:
    """Sentences of nothing but marks ("* * *") belong to the one before them."""
    joined: list[list[str]] = []
    for sentence in sentences:
        if joined and not any(c.isalnum() for token in sentence for c in token):
            joined[-1] += sentence
        else:
            joined.append(sentence)
    return joined


def _ends_here(token: str, following: str, first: bool, rules: languages.Language) -> bool:
    end = _SENTENCE_END.search(token)
    if not end:
        return False
    next_word = following.lstrip("\"'“‘([{¿¡")
    if next_word[:1].islower():
        return False
    if end[0].rstrip("\"'”’)]") != ".":
        return True
    word = token[: end.start()].lstrip("\"'“‘([")
    if first and word.isdigit():  # "1. First"
        return False
    initial = len(word) == 1 and word.isupper() and word != "I"
    if not initial and word.lower() not in rules.abbreviations:
        return True
    return re.split(r"\W", next_word)[0] in rules.sentence_starters


def _fit(tokens: list[str], max_chars: int) -> list[Sentence]:
    """One sentence in pieces of at most max_chars, cut after clauses where one ends past a third of the bound."""
    pieces: list[Sentence] = []
    while tokens:
        count = _how_many_fit(tokens, max_chars)
        pause = SENTENCE_PAUSE_S
        if count < len(tokens):
            pause = WORD_PAUSE_S
            for cut in range(count, 0, -1):
                if len(" ".join(tokens[:cut])) < max_chars / 3:
                    break
                if _CLAUSE_END.search(tokens[cut - 1]):
                    count, pause = cut, CLAUSE_PAUSE_S
                    break
        pieces.append(Sentence(" ".join(tokens[:count]), pause))
        tokens = tokens[count:]
    return pieces


def _how_many_fit(tokens: list[str], max_chars: int) -> int:
    length = len(tokens[0])
    for count, token in enumerate(tokens[1:], start=1):
        length += 1 + len(token)
        if length > max_chars:
            return count
    return len(tokens)
