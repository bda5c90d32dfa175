"""Roman numerals: kings in ordinals, chapters and wars in cardinals."""

from __future__ import annotations

import re
from collections.abc import Callable

from synthesizer.text.english.number_words import cardinal, ordinal, year
from synthesizer.text.english.vocabulary import names

_REGNAL = names("regnal")
_GIVEN = names("given") | _REGNAL
_NUMBERED = "|".join(sorted(names("numbered")))
_TITLED = "|".join(sorted(names("titled")))
_RULERS = "|".join(sorted(names("rulers")))
_COUNTED = frozenset(word.lower() for word in names("numbered") | names("titled"))

_ROMAN = r"(?=[IVXLCDM]+\b)(M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3}))(?![A-Za-z])"
_VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
_LONE_ROMANS = frozenset("II III VI VII VIII XI XII XIII XIV XVI XVII XVIII XIX XXI XXII XXIII".split())

_LISTED = re.compile(rf"\b((?i:{_NUMBERED})s?|{_TITLED}) {_ROMAN}\b")
_CENTURY = re.compile(rf"\b{_ROMAN}(?:th)? (centur(?:y|ies)|dynasty)\b")
_NAMED = re.compile(rf"\b((?:[A-Z][\w'-]*[a-z] )*)([A-Z][\w'-]*[a-z]) {_ROMAN}\b(?!\.\w)")
_LIST = re.compile(r"\b[IVX]{1,5}(?:, (?:and |or )?[IVX]{1,5}\b)+")
_LONE = re.compile(rf"\b{_ROMAN}\b(?![.'-]\w)")
_RULER = re.compile(rf"\b(?:{_RULERS}) $")
_REIGN = re.compile(
    r"(?:'s)?,? (?:of|ruled|reigned|died|"
    r"was (?:a |the )?(?:king|queen|pope|emperor|sultan|pharaoh|crowned|born|killed|murdered|succeeded|"
    r"overthrown|deposed)|became|abdicated|succeeded|conquered|fled|married|built|invaded|founded|ascended|"
    r"commissioned|and (?:his|her)|'s (?:reign|tomb|son|daughter|wife))\b"
)
_AFTER_FIRST = re.compile(r"\s*(?:$|[.,;:!?)\"']|of\b|and\b|was\b|reigned\b|ruled\b|died\b)")
_AFTER_SMALL = re.compile(
    r"\s*(?:$|[.,;:!?)\"'-]|(?:and|or|to|errors?|diabetes|cancer|trials?|civilization|supernova\w*)\b)"
)


def expand_roman_numerals(text: str, is_word: Callable[[str], bool]) -> str:
    """Kings in ordinals, chapters and wars in cardinals, others where nothing else can be meant."""
    text = _CENTURY.sub(lambda m: f"{ordinal(roman(m[1]))} {m[2]}", text)
    text = _LISTED.sub(_listed, text)
    text = _LIST.sub(lambda m: re.sub(r"[IVX]+", _lone_in_list, m[0]) if "II" in m[0] else m[0], text)
    text = _NAMED.sub(lambda m: _named(m, is_word), text)
    return _LONE.sub(lambda m: _lone(m, is_word), text)


def roman(numeral: str) -> int:
    """ "XIV" -> 14."""
    values = [_VALUES[c] for c in numeral.upper()]
    return sum(-v if v < max(values[i + 1 :], default=0) else v for i, v in enumerate(values))


def _listed(match: re.Match[str]) -> str:
    if match[2] == "I" and match[1].islower() and not _AFTER_SMALL.match(match.string, match.end()):
        return match[0]  # "the part I like"
    if match[2] in ("C", "D", "L", "M"):
        return match[0]  # a letter
    return f"{match[1]} {cardinal(roman(match[2]))}"


def _named(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    before, name, numeral = match.groups()
    number, text = roman(numeral), match.string
    if number > 39 or numeral in ("XL", "MI", "C", "D", "L", "M"):
        return match[0]
    ruler = _RULER.search(before) or _RULER.search(text[max(0, match.start() - 14) : match.start()])
    if len(numeral) == 1:  # "With George I went", "Malcolm X"
        first = match.start() == 0 or text[match.start() - 2] in ".!?"
        follows = _AFTER_FIRST.match(text, match.end()) or (first and _REIGN.match(text, match.end()))
        reigns = ruler or (name in _REGNAL and follows)
        return f"{before}{name} the {ordinal(number)}" if reigns and numeral != "X" else match[0]
    words = before.split()
    person = (
        ruler
        or name in _REGNAL
        or (words and words[0] in _GIVEN)
        or (words and words[-1] in _GIVEN)
        or _REIGN.match(text, match.end())
        or (name.lower() not in _COUNTED and not is_word(name.lower()))
    )
    return f"{before}{name} {'the ' + ordinal(number) if person else cardinal(number)}"


def _lone_in_list(match: re.Match[str]) -> str:
    return cardinal(roman(match[0]))


def _lone(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    numeral = match[1]
    if numeral in _LONE_ROMANS:
        return cardinal(roman(numeral))
    if len(numeral) < 4 or is_word(numeral.lower()):
        return match[0]
    return year(roman(numeral))
