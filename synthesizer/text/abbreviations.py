"""Abbreviations, titles, Roman numerals: short forms whose reading hangs on what stands beside them."""

from __future__ import annotations

import re
from collections.abc import Callable

from synthesizer.text.number_words import cardinal, ordinal, year
from synthesizer.text.vocabulary import names, table

_TITLES = table("titles")
_PLAIN = table("abbreviations")
_BEFORE_NUMBER = table("before_number")
_SAINTS = names("saints")
_STARTERS = names("starters")
_REGNAL = "|".join(sorted(names("regnal")))
_NUMBERED = "|".join(sorted(names("numbered")))

_ROMAN = r"(?=[IVXLCDM])(M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_LONE_ROMANS = frozenset("II III VI VII VIII XI XII XIII XIV XVI XVII XVIII XIX XXI XXII XXIII".split())
_CAPITAL = r"[A-Z][a-z]+"

_PHRASES = (  # regular expression, words, whether its last dot may also end a sentence
    (r"\b[eE]\.\s?g\.,?", "for example,", False),
    (r"\b[iI]\.\s?e\.,?", "that is,", False),
    (r"\ba\.\s?k\.\s?a\.", "also known as", False),
    (r"\bet al\.", "et al", True),
    (r"\bcf\.", "compare", False),
    (r"\bviz\.", "namely", False),
    (r"\b[nN]\.\s?[bB]\.", "note well,", False),
    (r"\bR\.\s?S\.\s?V\.\s?P\.", "R S V P", True),
    (r"\bPh\.\s?D\.", "P H D", True),
    (r"(?<![\w/])w/o\b", "without", False),
    (r"(?<![\w/])w/\s?", "with ", False),
    (r"\bb/c\b", "because", False),
    (r"\bc/o\b", "care of", False),
    (r"\bn/a\b|\bN/A\b", "not applicable", False),
    (r"&c\.", "et cetera", True),
    (r"\bvs\b(?!\.)", "versus", False),
    (r"\band/or\b", "and or", False),
    (r"\bo' ?clock\b", "o'clock", False),
)
_PHRASES_COMPILED = tuple((re.compile(pattern), words, ends) for pattern, words, ends in _PHRASES)
_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\.?(?=\s+[A-Z\"'])")
_DOTTED = "|".join(title for title in _TITLES if title not in ("Gen", "Mt", "Ft"))
_TITLE_DOTTED = re.compile(rf"\b({_DOTTED})\.(?!\w)\s?|\b(Mr|Mrs|Ms)\b")
_TITLE_LOWER = re.compile(r"\b(mr|mrs|prof)\.")
_NUMBERS_SHORT = re.compile(rf"\b({'|'.join(_BEFORE_NUMBER)})\.\s?(?=\d|[IVX]+\b)", re.IGNORECASE)
_WORD = re.compile(rf"\b({'|'.join(sorted(_PLAIN, key=len, reverse=True))})\.(?!\w)")
_SAINT = re.compile(r"\bSt\.?(?=[\s-])|\bSt\.")
_DOCTOR = re.compile(r"\bDr\.(?:\s?)|\bDr(?=\s+[A-Z])\s")
_HASH = re.compile(r"#\s?(?=\d)")
_REGENT = re.compile(rf"\b((?:{_REGNAL})(?: [A-Z][a-z]+)?) {_ROMAN}\b(?!\.\w)")
_LISTED = re.compile(rf"\b((?i:{_NUMBERED}))s? {_ROMAN}\b")
_CENTURY = re.compile(rf"\b{_ROMAN}(?:th)? (centur(?:y|ies)|dynasty)\b")
_NAMED = re.compile(rf"\b({_CAPITAL}) {_ROMAN}\b(?!\.\w)")
_LONE = re.compile(rf"\b{_ROMAN}\b(?![.'-]\w)")

SENTENCE_ABBREVIATIONS = frozenset(
    [w.lower() for w in (*_TITLES, *_PLAIN, *_BEFORE_NUMBER)]
    + "st dr e.g i.e a.k.a al cf viz n.b a.m p.m u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec".split()
) - {"no", "ed", "art", "max", "temp"}


def expand_abbreviations(text: str) -> str:
    """Titles, streets, saints, doctors and drives, Latin, and short forms before a number ("No. 5")."""
    text = _HASH.sub("number ", text)
    for pattern, words, may_end in _PHRASES_COMPILED:
        text = pattern.sub(lambda m, w=words, e=may_end: w + (_full_stop(m) if e else ""), text)
    text = _NUMBERS_SHORT.sub(_before_number, text)
    text = _SAINT.sub(_saint_or_street, text)
    text = _DOCTOR.sub(_doctor_or_drive, text)
    text = _TITLE.sub(lambda m: _TITLES[m[1]], text)
    text = _TITLE_DOTTED.sub(lambda m: _TITLES[m[1] or m[2]] + (" " if m[1] and m[0][-1] != "." else ""), text)
    text = _TITLE_LOWER.sub(lambda m: _TITLES[m[1].capitalize()].lower(), text)
    return _WORD.sub(lambda m: _PLAIN[m[1]] + _full_stop(m), text)


def expand_roman_numerals(text: str, is_word: Callable[[str], bool]) -> str:
    """Kings in ordinals, chapters and wars in cardinals, others where nothing else can be meant."""
    text = _REGENT.sub(_regent, text)
    text = _LISTED.sub(lambda m: f"{m[0][: len(m[0]) - len(m[2])]}{cardinal(roman(m[2]))}", text)
    text = _CENTURY.sub(lambda m: f"{ordinal(roman(m[1]))} {m[2]}", text)
    text = _NAMED.sub(_named, text)
    return _LONE.sub(lambda m: _lone(m, is_word), text)


def roman(numeral: str) -> int:
    """ "XIV" -> 14."""
    values = [_VALUES[c] for c in numeral.upper()]
    return sum(-v if v < max(values[i + 1 :], default=0) else v for i, v in enumerate(values))


def _full_stop(match: re.Match[str]) -> str:
    """The dot of an abbreviation that is also the end of its sentence."""
    rest = match.string[match.end() :]
    following = re.match(r"[\s\"')]+([A-Za-z]+)", rest)
    return "." if not rest.strip("\"') \n") or (following and following[1] in _STARTERS) else ""


def _before_number(match: re.Match[str]) -> str:
    word = _BEFORE_NUMBER[match[1].lower()]
    starts = re.search(r"(?:^|[.!?])\s*$", match.string[: match.start()]) is not None
    return (word.capitalize() if starts and match[1][0].isupper() else word) + " "


def _saint_or_street(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :]
    following = re.match(r"[\s-]+([A-Z][a-z]+)", after)
    named = re.search(r"(?:\b[A-Z][a-z]+|\d(?:st|nd|rd|th))$", before) is not None
    if following and (following[1] in _SAINTS or not named):
        return "Saint"
    if match[0] == "St" and not named:
        return "St"
    return "Street" + (_full_stop(match) if match[0].endswith(".") else "")


def _doctor_or_drive(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :]
    named = re.search(rf"\d+ (?:{_CAPITAL} ?)+$", before) or re.search(rf"(?:\b[a-z]+ )(?:{_CAPITAL} ?)+$", before)
    title = re.match(r"[A-Z]", after) is not None and after.split()[0].strip(".,") not in _STARTERS
    if named and (not title or re.search(rf"\d+ (?:{_CAPITAL} ?)+$", before)):
        return "Drive" + _full_stop(match) + (" " if match[0].endswith(" ") else "")
    return "Doctor" + (" " if after and re.match(r"\w", after) else "")


def _regent(match: re.Match[str]) -> str:
    name, numeral = match[1], match[2]
    if numeral == "I" and not _reigns(match):
        return match[0]
    return f"{name} the {ordinal(roman(numeral))}"


def _reigns(match: re.Match[str]) -> bool:
    """Whether the I after a first name is a number: "Elizabeth I of England", not "With George I went"."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    if re.search(r"\b(?:King|Queen|Pope|Emperor|Empress|Tsar|Czar|Kaiser|Saint)\s$", before):
        return True
    return re.match(r"\s*(?:$|[.,;:!?)\"']|of\b|and\b|was\b|reigned\b|ruled\b|died\b)", after) is not None


def _named(match: re.Match[str]) -> str:
    numeral = match[2]
    if len(numeral) < 2 or roman(numeral) > 39 or numeral in ("XL", "MI"):
        return match[0]
    return f"{match[1]} {cardinal(roman(numeral))}"


def _lone(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    numeral = match[1]
    if numeral in _LONE_ROMANS:
        return cardinal(roman(numeral))
    if len(numeral) < 4 or is_word(numeral.lower()):
        return match[0]
    return year(roman(numeral))
