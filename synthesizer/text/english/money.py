"""Amounts of money in words, and numbers that are written as they are outside the English-speaking world."""

from __future__ import annotations

import re

from synthesizer.text.english.number_words import NUMBER, counted, number_words
from synthesizer.text.english.vocabulary import alternatives, rows, table

_MAGNITUDES = table("magnitudes")
_CURRENCIES = rows("currencies")
_CODES = [name for name in _CURRENCIES if len(name) == 3 and name.isalpha()]

_DASH = r"\s?(?:–|-|—|to)\s?"
_MAGNITUDE = r"(?:\s?(thousand|million|billion|trillion|hundred|mn|bn|Bn|tn|[kKmMbBT])\b)"
_SIGN = f"({alternatives(_CURRENCIES)})"
_SIGN_AFTER = f"({alternatives([*_CODES, '€', '£', '$', '¥', '₹', '₽', '₺', '₩'])})"
_MONEY = re.compile(
    rf"(?<![\w$£€.,])([-+]\s?)?{_SIGN}\s?(-)?({NUMBER})(?:{_DASH}{_SIGN}?\s?({NUMBER}))?{_MAGNITUDE}?"
    rf"(?:\s({'|'.join(_CODES)}))?(?!\w)"
)
_MONEY_AFTER = re.compile(rf"(?<![\w.,])([-+])?({NUMBER}){_MAGNITUDE}?\s?{_SIGN_AFTER}(?!\w)")
_CENTS = re.compile(rf"(?<![\w.,])({NUMBER})\s?¢")
_ARTICLE = re.compile(r"\b[Aa]n? $")  # "a $5 fee": the singular
_NOTES = re.compile(r"\s(?:bill|note|coin|banknote)s?\b")

_POINTED = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3})+),(\d{1,2})(?![\w,]|\.\d)")  # 1.000,50
_POINTED_WHOLE = re.compile(r"(?<![\w.,])(\d{1,3}(?:\.\d{3}){2,})(?![\w]|[.,]\d)")  # 1.234.567
_EURO_THOUSANDS = re.compile(
    r"(?:(?<=€)|(?<=€\s)|(?<=EUR\s))\d{1,3}(?:\.\d{3})+(?![\d.,])|(?<![\w.,])\d{1,3}(?:\.\d{3})+(?=\s?(?:€|EUR\b))"
)
_SPACED = re.compile(r"(?<![\w.,/:-])(?<!\d )([1-9]\d{0,2}(?: \d{3})+)(?:,(\d{1,2}))?(?![\w/:-]| ?\d|[.,]\d)")
_APOSTROPHES = re.compile(r"(?<![\w.,'])(\d{1,3}(?:'\d{3})+)(?![\w']|[.,]\d)")
_LAKHS = re.compile(r"(?<![\w.,])(\d{1,2}(?:,\d{2})+,\d{3})(?!\w|,\d)")
_COMMA = re.compile(
    r"(?<![\w.,])(0,\d+|\d+,\d{4,}|\d+,\d{1,2}"
    r"(?=\s?(?:[€£%°]|EUR\b|CHF\b|Mio|Mrd|million|billion|[kmcd]?[gmlL]\b|km|kg|mm|cm|°|km/h|m²|kWh|GB|MB|TB|Uhr)))(?![\d,])"
)
_SHORT_MILLIONS = re.compile(r"(?<=\d )(?:Mio|Mrd)\b\.?")
_COMMA_MONEY = re.compile(r"(?<=[€£])(\s?-?\d+),(\d{1,2})(?![\d,]|\.\d)")


def expand_foreign_numbers(text: str) -> str:
    """Numbers of other countries as English has them, where nothing else can be meant.

    "1.000,50" and "1 000,50" -> "1000.50", "1'000'000" and "1.000.000" -> "1000000", "1,5 kg" and "€1,50" -> "1.5".
    """
    text = _POINTED.sub(lambda m: f"{m[1].replace('.', '')}.{m[2]}", text)
    text = _EURO_THOUSANDS.sub(lambda m: m[0].replace(".", ""), text)
    text = _POINTED_WHOLE.sub(lambda m: m[1].replace(".", ""), text)
    text = _SPACED.sub(lambda m: m[1].replace(" ", "") + (f".{m[2]}" if m[2] else ""), text)
    text = _APOSTROPHES.sub(lambda m: m[1].replace("'", ""), text)
    text = _LAKHS.sub(lambda m: m[1].replace(",", ""), text)
    text = _COMMA_MONEY.sub(r"\1.\2", text)
    text = _COMMA.sub(lambda m: m[0].replace(",", "."), text)
    return _SHORT_MILLIONS.sub(lambda m: "million" if m[0][1] == "i" else "billion", text)


def expand_money(text: str) -> str:
    """Amounts with a currency sign or code, with a sign on either side, with k, m, bn and with ranges."""
    text = _MONEY.sub(_money, text)
    text = _MONEY_AFTER.sub(lambda m: _signed(m[1]) + _amount(m[4], m[2], m[3]), text)
    return _CENTS.sub(lambda m: counted(m[1], "cent", "cents"), text)


def _signed(*signs: str | None) -> str:
    given = "".join(sign.strip() for sign in signs if sign)
    return {"-": "minus ", "+": "plus "}.get(given[:1], "")


def _money(match: re.Match[str]) -> str:
    before_sign, sign, after_sign, first, _, last, magnitude, code = match.groups()
    sign = code or sign
    before = match.string[max(0, match.start() - 4) : match.start()]
    adjective = (_ARTICLE.search(before) or _NOTES.match(match.string, match.end())) and "." not in (last or first)
    size = f" {_MAGNITUDES[magnitude]}" if magnitude else ""
    if adjective or (magnitude and _ARTICLE.search(before)):
        span = f"{number_words(first)} to {number_words(last)}" if last else number_words(first)
        spoken = f"{span}{size} {_CURRENCIES[sign][0]}"
    elif last:
        spoken = f"{number_words(first)} to {_amount(sign, last, magnitude)}"
    else:
        spoken = _amount(sign, first, magnitude)
    return _signed(before_sign, after_sign) + spoken


def _amount(sign: str, number: str, magnitude: str | None) -> str:
    one, many, cent, cents = _CURRENCIES[sign]
    if magnitude:
        return f"{number_words(number)} {_MAGNITUDES[magnitude]} {many}"
    whole, _, fraction = number.replace(",", "").partition(".")
    if len(fraction) not in (1, 2) or (len(fraction) == 1 and one in ("yen", "won")):
        return counted(number, one, many)
    hundredths = int(fraction.ljust(2, "0"))
    parts = [counted(whole or "0", one, many)] if whole.strip("0") or not hundredths else []
    if hundredths:
        parts.append(counted(str(hundredths), cent, cents))
    return " and ".join(parts)
