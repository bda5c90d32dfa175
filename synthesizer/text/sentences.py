"""Text in pieces that a synthesizer can say in one breath, with the pause that follows each."""

from __future__ import annotations

import re
from typing import NamedTuple

from synthesizer.text.languages import Language
from utils.errors import CloningError

PARAGRAPH_PAUSE_S = 0.8
SENTENCE_PAUSE_S = 0.45
CLAUSE_PAUSE_S = 0.2
WORD_PAUSE_S = 0.05
PAUSES_S = {"paragraph": PARAGRAPH_PAUSE_S, "sentence": SENTENCE_PAUSE_S, "word": WORD_PAUSE_S}

LONGEST_TOKEN = 100  # characters between spaces; longer ones are parted at their marks ("1-1-1-1-...")
_PART = re.compile(r"[^\W_]+[\W_]*|[\W_]+")
_TOKEN = re.compile(r"[^\s{]*\{[^{}]*\}\S*|\S+")  # an inline pronunciation holds spaces and stays whole
_SENTENCE_END = re.compile(r"([.!?…]+)[\"'”’)\]]*$")
_CLAUSE_END = re.compile(r"[,;:—–-][\"'”’)\]]*$|[)\]]$")


class SpokenText(str):
    """Text as it is said: words and marks only. Whoever is given it does not normalize it again."""


class Sentence(NamedTuple):
    """A piece of text as it is said, the silence after it in seconds (0 after the last), notes on what was left out."""

    text: SpokenText
    pause_s: float
    notes: tuple[str, ...] = ()
    styled: str = ""  # `text` with the styles of its words (`synthesizer.text.marks`), where it has any
    asked: bool = False  # whether a mark asks for this very pause, so that no factor changes it

    @property
    def said(self) -> SpokenText:
        """What a synthesizer is given."""
        return SpokenText(self.styled or self.text)


def cut(text: str, max_chars: int, rules: Language | None = None) -> list[Sentence]:
    """Sentences of `text`; those over max_chars in clauses, and where none fits in words.

    rules: whose abbreviations and initials end no sentence, for text that is not normalized. In spoken text, each full
    stop ends one. Every word is in exactly one piece, in order. A piece is longer than max_chars
    only when it is one word (or one inline pronunciation). Text without any word gives an empty list. Raises
    CloningError when max_chars < 1.
    """
    if max_chars < 1:
        raise CloningError(f"max_chars is {max_chars}, it must be at least 1: use 200 or leave it out")
    return [piece for tokens in _sentences(_tokens(text), rules) for piece in _fit(tokens, max_chars)]


def _tokens(text: str) -> list[str]:
    tokens = []
    for token in _TOKEN.findall(text):
        tokens += _PART.findall(token) if len(token) > LONGEST_TOKEN and "{" not in token else [token]
    return tokens


def _sentences(tokens: list[str], rules: Language | None) -> list[list[str]]:
    """Tokens cut after each sentence."""
    sentences: list[list[str]] = [[]]
    for index, token in enumerate(tokens):
        sentences[-1].append(token)
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        if following and _ends_here(token, following, rules):
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


def _ends_here(token: str, following: str, rules: Language | None) -> bool:
    end = _SENTENCE_END.search(token)
    if not end:
        return False
    small = following.lstrip("\"'“‘([{¿¡")[:1].islower()
    if end[1] != ".":
        return not small
    if rules is None:
        return True
    word = token[: end.start()].lstrip("\"'“‘([")
    if small or word.isdigit():
        return False
    initial = len(word) == 1 and word.isupper() and word != "I"
    if not initial and word.lower() not in rules.abbreviations:
        return True
    return re.split(r"\W", following.lstrip("\"'“‘([{¿¡"), maxsplit=1)[0] in rules.sentence_starters


def _fit(tokens: list[str], max_chars: int) -> list[Sentence]:
    """One sentence in pieces of at most max_chars, cut after clauses where one ends past a third of the bound."""
    pieces: list[Sentence] = []
    while tokens:
        count = _how_many_fit(tokens, max_chars)
        pause = SENTENCE_PAUSE_S
        if count < len(tokens):
            pause = WORD_PAUSE_S
            for place in range(count, 0, -1):
                if len(" ".join(tokens[:place])) < max_chars / 3:
                    break
                if _CLAUSE_END.search(tokens[place - 1]):
                    count, pause = place, CLAUSE_PAUSE_S
                    break
        pieces.append(Sentence(SpokenText(" ".join(tokens[:count])), pause))
        tokens = tokens[count:]
    return pieces


def _how_many_fit(tokens: list[str], max_chars: int) -> int:
    length = len(tokens[0])
    for count, token in enumerate(tokens[1:], start=1):
        length += 1 + len(token)
        if length > max_chars:
            return count
    return len(tokens)
