"""The text front end of the published SV2TTS checkpoints, behavior for behavior, oddities included.

The models were trained on text cleaned in this very way, so it is kept even where it is plainly wrong: the pound
sign becomes "ps", decimals are read as whole numbers, text in curly braces is lost. `normalize` is the better
reader; this one serves published weights only. Regular expressions follow the published order of steps.
"""

from __future__ import annotations

import re

from synthesizer.text.english.number_words import cardinal, cardinal_of, ordinal_of_words
from synthesizer.text.symbols import CHARACTERS, END, PAD, SymbolTable

TABLE = SymbolTable(CHARACTERS)

_TITLES = {
    "mrs": "misess", "mr": "mister", "dr": "doctor", "st": "saint", "co": "company", "jr": "junior",
    "maj": "major", "gen": "general", "drs": "doctors", "rev": "reverend", "lt": "lieutenant",
    "hon": "honorable", "sgt": "sergeant", "capt": "captain", "esq": "esquire", "ltd": "limited",
    "col": "colonel", "ft": "fort",
}  # fmt: skip
_TITLE = re.compile(r"\b(" + "|".join(_TITLES) + r")\.", re.IGNORECASE)
_GROUPED = re.compile(r"[0-9][0-9,]+[0-9]")
_POUNDS = re.compile(r"£([0-9,]*[0-9]+)")
_DOLLARS = re.compile(r"\$([0-9.,]*[0-9]+)")
_DECIMAL = re.compile(r"([0-9]+)\.([0-9]+)")
_ORDINAL = re.compile(r"([0-9]+)(?:st|nd|rd|th)")
_INTEGER = re.compile(r"[0-9]+")
_SPACE = re.compile(r"\s+")
_BRACES = re.compile(r"(.*?)\{(.+?)\}(.*)")


def english_cleaners(text: str) -> str:
    """ASCII, lower case, numbers and titles spelled out, runs of white space as one space."""
    text = _expand_numbers(transliterate(text).lower())
    return _collapse(_TITLE.sub(lambda m: _TITLES[m[1].lower()], text))


def transliteration_cleaners(text: str) -> str:
    """ASCII, lower case, runs of white space as one space."""
    return _collapse(transliterate(text).lower())


def basic_cleaners(text: str) -> str:
    """Lower case, runs of white space as one space."""
    return _collapse(text.lower())


CLEANERS = {
    "english_cleaners": english_cleaners,
    "transliteration_cleaners": transliteration_cleaners,
    "basic_cleaners": basic_cleaners,
}


def transliterate(text: str) -> str:
    """The nearest ASCII (text-unidecode: the tables of Unidecode under the Artistic License)."""
    from text_unidecode import unidecode

    return text if text.isascii() else unidecode(text)


def text_to_sequence(text: str, cleaner: str = "english_cleaners") -> list[int]:
    """Published ids of `text`, the end symbol included; characters without an id are dropped."""
    clean = CLEANERS[cleaner]
    sequence: list[int] = []
    while text:
        match = _BRACES.match(text)
        if not match:
            return sequence + _ids(clean(text)) + [TABLE.ids[END]]
        sequence += _ids(clean(match[1]))  # what the braces hold has no symbols in the published table
        text = match[3]
    return sequence + [TABLE.ids[END]]


def sequence_to_text(sequence: list[int]) -> str:
    """The characters that the ids stand for."""
    return "".join(TABLE.symbols[i] for i in sequence)


def _ids(text: str) -> list[int]:
    return [TABLE.ids[c] for c in text if c in TABLE.ids and c not in (PAD, END)]


def _collapse(text: str) -> str:
    return _SPACE.sub(" ", text)


def _expand_numbers(text: str) -> str:
    text = _GROUPED.sub(lambda m: m[0].replace(",", ""), text)
    text = _POUNDS.sub(r"\1 pounds", text)
    text = _DOLLARS.sub(_dollars, text)
    text = _DECIMAL.sub(r"\1 point \2", text)
    text = _ORDINAL.sub(_ordinal, text)
    return _INTEGER.sub(lambda m: _integer(m[0]), text)


def _ordinal(match: re.Match[str]) -> str:
    return ordinal_of_words(cardinal_of(match[1], separator=", ", conjunction="and"))


def _dollars(match: re.Match[str]) -> str:
    amount = match[1].replace(",", "")
    if amount.count(".") > 1:
        return f"{amount} dollars"
    whole, _, fraction = amount.partition(".")
    dollars, cents = whole.lstrip("0"), fraction.lstrip("0")
    parts = []
    if dollars:
        parts.append(f"{dollars} {'dollar' if dollars == '1' else 'dollars'}")
    if cents:
        parts.append(f"{cents} {'cent' if cents == '1' else 'cents'}")
    return ", ".join(parts) or "zero dollars"


def _integer(text: str) -> str:
    number = int(text[:40])
    if len(text) > 40:
        return cardinal_of(text)
    if not 1000 < number < 3000 or number == 2000:
        return cardinal(number, separator=", ")
    if 2000 < number < 2010:
        return f"two thousand {cardinal(number - 2000)}"
    if number % 100 == 0:
        return f"{cardinal(number // 100)} hundred"
    high, low = divmod(number, 100)
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"
