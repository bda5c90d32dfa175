"""Fractions, scores and set phrases with a slash in words."""

from __future__ import annotations

import re

from synthesizer.text.english.number_words import cardinal_of, decimal, number_words, ordinal_of_words, plural, year

MIXED = re.compile(r"(?<![\w.,/])(?:(\d+)[ -])?(\d+)/(\d+)(?![\w/]|\.\d)")
_BOTTOMS = frozenset("2 3 4 5 6 7 8 9 10 12 16 20 32 64 100".split())
_BEFORE_HYPHEN = re.compile(r"(?<![\w.,/])((?:\d+[ -])?\d+/\d+)(?=-[a-z])")

_PHRASE = re.compile(
    r"(?<![\w.,/-])(?:(24)[/-](7)(?:[/-](365))?|(9)/(11)|(7)/(11)|(\d)/(\d)(?= time\b))(?![\w/-]|\.\d)"
)
_PAIR = re.compile(
    r"(?<![\w.,/-])(\d0|\d5)([/-])(\d0|\d5)(?![\w/-]|\.\d)"
    r"(?=( (?:split|rule|deal|odds|blend|mix|share|ratio|cost|ownership|partnership|chance|basis|vision)\b)?)"
)
_SCORE = re.compile(
    r"(?<![\w.,/-])(\d{1,3}(?:\.\d)?)/(5|10|20|100)(?![\w/-]|\.\d)(?!\s?(?:of\b|inch|cup|mile|second|\"|tea|table|tsp|"
    r"tbsp|oz|lb|kg|g\b|ml|cm|mm|in\b|in\.))"
)
_RATED = re.compile(
    r"\b(?:rat|scor|giv|gav|got|get|mark|grad|earn|receiv|deserv|solid|review)\w*\b[^.!?]{0,40}$|^\W*$", re.IGNORECASE
)
_STARS = re.compile(r"\s(?:stars?|points?|correct|marks?|rating)\b")


def expand_scores(text: str) -> str:
    """ "9/10" of a mark, and pairs that are said number by number: "50/50", "24/7", "20/20", "9/11"."""
    text = _PHRASE.sub(lambda m: " ".join(cardinal_of(g) for g in m.groups() if g).replace("hundred ", ""), text)
    text = _PAIR.sub(_pair, text)
    return _SCORE.sub(_score, text)


def _pair(match: re.Match[str]) -> str:
    first, mark, second, named = match.groups()
    whole = int(first) + int(second) == 100 and (first == second or mark == "/" or named) or named == " vision"
    return f"{cardinal_of(first)} {cardinal_of(second)}" if whole or (first, second) == ("20", "20") else match[0]


def expand_fractions(text: str) -> str:
    """ "3/4" and "2 1/2", with a hyphen before what they measure too."""
    text = _BEFORE_HYPHEN.sub(lambda m: half_of(m[1], True), text)
    return MIXED.sub(fraction, text)


def half_of(written: str, adjective: bool) -> str:
    """ "1/2" -> "one half", "3-1/2" -> "three and a half"; before a noun, "3/4" is "three quarter"."""
    spoken = MIXED.sub(fraction, written)
    if adjective and not re.search(r"\d[ -]\d", written):
        spoken = spoken.replace("quarters", "quarter")
    return spoken


def fraction(match: re.Match[str]) -> str:
    """A match of `MIXED` in words."""
    whole, top, bottom = match.groups()
    if not whole and len(top) == 4 and len(bottom) == 2 and (int(top) + 1) % 100 == int(bottom):
        return f"{year(int(top))} {cardinal_of(bottom)}"  # a season
    if not 0 < int(top) < int(bottom) or bottom not in _BOTTOMS:
        spoken = f"{cardinal_of(top)} over {cardinal_of(bottom)}"
        return f"{number_words(whole)} {spoken}" if whole else spoken
    part = {"2": "half", "4": "quarter"}.get(bottom) or ordinal_of_words(cardinal_of(bottom))
    if int(top) > 1:
        part = "halves" if part == "half" else plural(part)
    if whole and top == "1":
        return f"{number_words(whole)} and {'an' if part[0] == 'e' else 'a'} {part}"
    return f"{number_words(whole)} and {cardinal_of(top)} {part}" if whole else f"{cardinal_of(top)} {part}"


def _score(match: re.Match[str]) -> str:
    mark, of = match.groups()
    before = match.string[max(0, match.start() - 60) : match.start()]
    stars = _STARS.match(match.string, match.end()) is not None
    if of in ("5", "20") and not (stars or "." in mark or _RATED.search(before) and not before.isspace() and before):
        return match[0]
    if mark == "1" and not (stars or (before.strip() and _RATED.search(before))):
        return match[0]
    if of == "100" and float(mark) > 100:
        return match[0]
    return f"{decimal(mark)} out of {cardinal_of(of)}"
