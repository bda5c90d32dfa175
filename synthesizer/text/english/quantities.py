"""Ordinals, years, ranges, sums and all other numbers in words."""

from __future__ import annotations

import re

from synthesizer.text.english.number_words import (
    NUMBER,
    cardinal,
    cardinal_of,
    number_words,
    ordinal_of_words,
    plural,
    year,
)
from synthesizer.text.english.vocabulary import table

_MAGNITUDES = table("magnitudes")
_BEFORE_NUMBER = table("before_number")

_TIMES = re.compile(rf"(?<![\w.,])({NUMBER})\s?[x×]\s?({NUMBER})(?:\s?[x×]\s?({NUMBER}))?(?!\w)")
_MULTIPLE = re.compile(rf"(?<![\w.,])({NUMBER})[x×](?!\w|\s?[+=^*/])")
_RANGE = re.compile(rf"(?<![\w.,-])({NUMBER})(?:\s?[–—]\s?|-)({NUMBER})(?![\w-])")
_YEARS = re.compile(r"(?<![\w.,/-])(1[1-9]\d\d|20\d\d)\s?[–-]\s?(\d{4}|\d{2})(?![\w-]|[.,]\d)")
_DECADE = re.compile(r"(?<![\w.,])(?:(1\d|20)?(\d0)'?s|'(\d0)s)(?!\w)")
_SHORT_YEAR = re.compile(r"(?<![\w'])'(\d\d)(?![\w'])")
_ORDINAL = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)
_YEAR = re.compile(r"(?<![\w.,$])(1[1-9]\d\d|2[01]\d\d)(?!\w|[.,]\d)")
_YEAR_AFTER = re.compile(r"\b(in|of|since|by|until|from|year|before|after) (10[1-9]\d)(?!\w|[.,]\d)", re.IGNORECASE)
_SCIENTIFIC = re.compile(r"(?<![\w.,])([-+]?)(\d+(?:\.\d+)?)[eE]([-+]?)(\d{1,3})(?![\w-])")
_SIGNED = re.compile(rf"(?<![\w.)])-\s?(?={NUMBER})")
_COUNTED_DOWN = re.compile(r"(?<=\d)\s?\.{2,}\s?(?=\d)")
_SECTION = re.compile(
    r"\b((?i:sections?|sec\.|sect\.|appendix|app\.|tables?|tab\.|figures?|figs?\.|chapters?|ch\.|annex|clauses?|rules?|"
    r"articles?|art\.|exercises?|lemma|theorem|equations?|eqs?\.|parts?|paragraphs?|para\.|items?|steps?|examples?))"
    r" ?(\d+(?:\.\d+)+)(?![\w/]|\.\d)"
)
_BRACKETED = re.compile(r"(?:(?<=\d)|(?<=\d[A-Za-z])|(?<=\)))\(([A-Za-z]|\d{1,2}|[ivx]{2,4})\)")
_LETTERED = re.compile(r"\b([A-Z])\.(\d{1,2}(?:\.\d{1,2})*)(?![\w/])")
_BRAND = re.compile(r"\b3M\b(?! (?!makes|sells|says|is|was|has)(?:[a-z]+s|people|men|women|in|for|of)\b)")
_NUMBER_TO_NUMBER = re.compile(r"(?<![\w.,-])(\d{1,3})-to-(\d{1,3})(?!\w)")
_BIG = re.compile(
    rf"(?<![\w.,-])(?![248]K)({NUMBER})"
    r"(k|K|M|mn|bn|(?:(?<=\.\d)|(?<=\.\d\d))B|B(?= (?:people|users|views|dollars)))\b(?!-)"
)
_RACE = re.compile(r"(?<![\w.,-])(\d{1,2})[kK](?= (?:runs?|races?|walks?)\b)|(?<=\b[Aa] )(\d{1,2})[kK]\b(?! [a-z]+s\b)")
_DIFFERENCE = re.compile(
    r"(?<=\d)\s?-\s?(?=\d+(?:\.\d+)?(?:\s?=|\)\s?[*/+×÷^=-]|\s?[+*×÷]\s?\d))|(?<=[+*×÷]\d)\s?-\s?(?=\d)"
)
_NUMBER = re.compile(NUMBER)
_OPERATORS = re.compile(
    r"(?<=[\d)])\s?([+*/×÷])\s?(?=[\d.(-])|(?<=[\w)])(\^)(?=[\w(-])|(?<=\d) - (?=\d)|(?<=\d)\s?([<>])\s?(?=\d)"
    r"|(?<=\))\s?-\s?(?=\d)"
)
_OPERATOR_NAMES = {
    "+": "plus", "*": "times", "×": "times", "/": "over", "÷": "divided by", "^": "to the power of",
    "<": "is less than", ">": "is greater than", None: "minus",
}  # fmt: skip


def expand_sections(text: str) -> str:
    """Numbers of sections, part by part: "Section 3.10" -> "Section three point ten", "Table A.1", "G.2"."""
    text = _SECTION.sub(lambda m: f"{_word(m[1])} {_dotted(m[2])}", text)
    text = _BRACKETED.sub(lambda m: f" {m[1].upper()}", text)
    return _LETTERED.sub(lambda m: f"{m[1]} point {_dotted(m[2])}", text)


def _word(short: str) -> str:
    word = _BEFORE_NUMBER.get(short.rstrip(".").lower()) or _BEFORE_NUMBER.get(short.rstrip("."), short)
    return word if short.endswith(".") else short


def _dotted(number: str) -> str:
    return " point ".join(cardinal_of(part) for part in number.split("."))


def expand_ordinals(text: str) -> str:
    """Numbers with letters on them, which are no codes: "21st", "1990s", "3x4", "5k", "6.02e23"."""
    text = _BRAND.sub("3 M", text)
    text = _RACE.sub(lambda m: f"{m[1] or m[2]} K", text)
    text = _DIFFERENCE.sub(" minus ", text)
    text = _NUMBER_TO_NUMBER.sub(r"\1 to \2", text)
    text = _SCIENTIFIC.sub(_scientific, text)
    text = _TIMES.sub(lambda m: " by ".join(_year_or_number(g) for g in m.groups() if g), text)
    text = _MULTIPLE.sub(lambda m: f"{number_words(m[1])} times", text)
    text = _YEARS.sub(_year_range, text)
    text = _DECADE.sub(_decade, text)
    text = _SHORT_YEAR.sub(lambda m: _short_year(m[1]), text)
    text = _ORDINAL.sub(lambda m: ordinal_of_words(number_words(m[1])), text)
    return _BIG.sub(lambda m: f"{number_words(m[1])} {_MAGNITUDES[m[2]]}", text)


def expand_numbers(text: str) -> str:
    """All other digits."""
    text = _COUNTED_DOWN.sub("... ", text)
    text = _RANGE.sub(lambda m: f"{_year_or_number(m[1])} to {_year_or_number(m[2])}", text)
    text = _OPERATORS.sub(lambda m: f" {_OPERATOR_NAMES[m[1] or m[2] or m[3]]} ", text)
    text = _SIGNED.sub("minus ", text)
    text = _YEAR_AFTER.sub(lambda m: f"{m[1]} {year(int(m[2]))}", text)
    text = _YEAR.sub(lambda m: year(int(m[1])), text)
    return _NUMBER.sub(lambda m: _apart(m, number_words(m[0])), text)


def _scientific(match: re.Match[str]) -> str:
    minus, number, below, power = match.groups()
    if "." not in number and not below:
        return match[0]  # a code, such as 2E5
    signs = ["minus " if sign == "-" else "" for sign in (minus, below)]
    return f"{signs[0]}{number_words(number)} times ten to the power of {signs[1]}{cardinal_of(power)}"


def _apart(match: re.Match[str], words: str) -> str:
    """`words`, with a space where letters touch the digits."""
    before = match.string[match.start() - 1 : match.start()].isalnum() if match.start() else False
    return (" " if before else "") + words + (" " if match.string[match.end() : match.end() + 1].isalnum() else "")


def _year_or_number(text: str) -> str:
    return year(int(text)) if re.fullmatch(r"1[1-9]\d\d|20\d\d", text) else number_words(text)


def _year_range(match: re.Match[str]) -> str:
    first, last = match[1], match[2]
    return f"{year(int(first))} to {year(int(last)) if len(last) == 4 else _short_year(last)}"


def _short_year(text: str) -> str:
    return f"oh {cardinal(int(text))}" if text[0] == "0" else cardinal(int(text))


def _decade(match: re.Match[str]) -> str:
    century, tens, short = match.groups()
    if short or not century:
        return plural(cardinal(int(short or tens))) if int(short or tens) else match[0]
    return plural(year(int(century + tens)))
