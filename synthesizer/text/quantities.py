"""Money, percentages, measures, fractions, ranges, years, ordinals and plain numbers in words."""

from __future__ import annotations

import re

from synthesizer.text.number_words import cardinal, cardinal_of, decimal, digits, ordinal_of_words, plural, year
from synthesizer.text.vocabulary import pairs, rows, table

_MAGNITUDES = table("magnitudes")
_CURRENCIES = rows("currencies")
_UNITS = pairs("units")

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_DASH = r"\s?(?:–|-|—|to)\s?"
_MAGNITUDE = r"(?:\s?(thousand|million|billion|trillion|hundred|mn|bn|Bn|tn|[kKmMbBT])\b)"
_SIGN = "(" + "|".join(re.escape(s) for s in sorted(_CURRENCIES, key=len, reverse=True)) + ")"
_MONEY = re.compile(rf"(?<![\w$£€])(-)?{_SIGN}\s?({NUMBER})(?:{_DASH}{_SIGN}?\s?({NUMBER}))?{_MAGNITUDE}?(?!\w)")
_MONEY_AFTER = re.compile(rf"(?<![\w.,])({NUMBER}){_MAGNITUDE}?\s?(USD|EUR|GBP|CHF|JPY|CAD|AUD|€|£|\$|¥)(?!\w)")
_CENTS = re.compile(rf"(?<![\w.,])({NUMBER})\s?¢")
_ARTICLE = re.compile(r"\b[Aa]n? $")  # "a $5 fee", "a 100 W bulb": the singular
_NOTES = re.compile(r"\s(?:bill|note|coin|banknote)s?\b")

_UNIT = "(" + "|".join(re.escape(u) for u in sorted(_UNITS, key=len, reverse=True)) + ")"
_POWERS = {"squared": "square", "cubed": "cubic"}
_MEASURE = re.compile(
    rf"(?<![\w.,/])([-+])?((?:\d+[ -])?\d+/\d+|{NUMBER})(?:{_DASH}({NUMBER}))?(\s?|-){_UNIT}"
    r"( (?:squared|cubed)\b|[23](?!\w))?(?![\w$']|\.\w)"
)
_PER = re.compile(r"(?<=[a-z])\s?/\s?(s|sec|second|min|minute|hr?|hour|day|week|month|year|kg|km|m|l|L|person|night)\b")
_HEIGHT = re.compile(r"(?<![\w.])(\d+)\s?'\s?(\d{1,2})\s?(?:\"|'')")
_FEET = re.compile(r"(?<![\w.'])(\d+)'(?=[\s,.;]|$)(?!\s*\w+')")

_TIMES = re.compile(r"(?<![\w.,])(\d+)\s?[x×]\s?(\d+)(?:\s?[x×]\s?(\d+))?(?!\w)")
_MULTIPLE = re.compile(rf"(?<![\w.,])({NUMBER})[x×](?!\w)")
_MIXED = re.compile(r"(?<![\w.,/])(?:(\d+)[ -])?(\d+)/(\d+)(?![\w/])")
_RANGE = re.compile(rf"(?<![\w.,-])({NUMBER})(?:\s?[–—]\s?|-)({NUMBER})(?![\w-])")
_YEARS = re.compile(r"(?<![\w.,/-])(1[1-9]\d\d|20\d\d)\s?[–-]\s?(\d{4}|\d{2})(?![\w-]|[.,]\d)")
_DECADE = re.compile(r"(?<![\w.,])(?:(1\d|20)?(\d0)'?s|'(\d0)s)(?!\w)")
_SHORT_YEAR = re.compile(r"(?<![\w'])'(\d\d)(?![\w'])")
_ORDINAL = re.compile(r"(?<![\w.])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", re.IGNORECASE)
_YEAR = re.compile(r"(?<![\w.,$])(1[1-9]\d\d|2[01]\d\d)(?!\w|[.,]\d)")
_YEAR_AFTER = re.compile(r"\b(in|of|since|by|until|from|year|before|after) (10[1-9]\d)(?!\w|[.,]\d)", re.IGNORECASE)
_SCIENTIFIC = re.compile(r"(?<![\w.,])([-+]?)(\d+(?:\.\d+)?)[eE]([-+]?)(\d{1,3})(?![\w-])")
_SIGNED = re.compile(rf"(?<![\w.)])-\s?(?={NUMBER})")
_BIG = re.compile(rf"(?<![\w.,-])(?![248]K)({NUMBER})(k|K|M|mn|bn)\b(?!-)")
_BIG_PEOPLE = re.compile(rf"(?<![\w.,-])({NUMBER})m(?= (?:people|users|copies|views|viewers|jobs|men|women)\b)")
_HUNDREDS = re.compile(r"(?<![\w.,])(100|1,?000)s(?= of\b)")
_NUMBER = re.compile(NUMBER)
_OPERATORS = re.compile(
    r"(?<=\d)\s?([+*/×÷])\s?(?=[\d.(-])|(?<=[\w)])(\^)(?=[\w(-])|(?<=\d) - (?=\d)|(?<=\d)\s?([<>])\s?(?=\d)"
)
_OPERATOR_NAMES = {
    "+": "plus", "*": "times", "×": "times", "/": "over", "÷": "divided by", "^": "to the power of",
    "<": "is less than", ">": "is greater than", None: "minus",
}  # fmt: skip


def number_words(text: str) -> str:
    """ "1,234.5" -> words; leading zeros are read one by one ("007")."""
    plain = text.replace(",", "")
    if re.fullmatch(r"0\d+", plain):
        return digits(plain)
    return decimal(plain)


def expand_money(text: str) -> str:
    """Amounts with a currency sign or code, with k, m, bn and with ranges."""
    text = _MONEY.sub(_money, text)
    text = _MONEY_AFTER.sub(lambda m: _amount(m[3], m[1], m[2]), text)
    return _CENTS.sub(lambda m: _counted(m[1], "cent", "cents"), text)


def expand_measures(text: str) -> str:
    """Percentages and numbers with a unit; heights in feet and inches."""
    text = _BIG_PEOPLE.sub(lambda m: f"{number_words(m[1])} million", text)
    text = _HUNDREDS.sub(lambda m: "hundreds" if m[1] == "100" else "thousands", text)
    text = _HEIGHT.sub(lambda m: f"{cardinal_of(m[1])} foot {cardinal_of(m[2])}", text)
    text = _MEASURE.sub(_measure, text)
    text = _FEET.sub(lambda m: _counted(m[1], "foot", "feet"), text)
    return _PER.sub(lambda m: f" per {_UNITS[m[1]][0] if m[1] in _UNITS else m[1]}", text)


def expand_ordinals(text: str) -> str:
    """Numbers with letters on them, which are no codes: "21st", "1990s", "3x4", "5k", "6.02e23"."""
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
    text = _RANGE.sub(lambda m: f"{_year_or_number(m[1])} to {_year_or_number(m[2])}", text)
    text = _MIXED.sub(_fraction, text)
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


def _counted(number: str, one: str, many: str) -> str:
    return f"{number_words(number)} {one if number == '1' else many}"


def _money(match: re.Match[str]) -> str:
    minus, sign, first, _, last, magnitude = match.groups()
    before = match.string[: match.start()]
    adjective = (_ARTICLE.search(before) or _NOTES.match(match.string, match.end())) and "." not in (last or first)
    size = f" {_MAGNITUDES[magnitude]}" if magnitude else ""
    if adjective or (magnitude and _ARTICLE.search(before)):
        span = f"{number_words(first)} to {number_words(last)}" if last else number_words(first)
        spoken = f"{span}{size} {_CURRENCIES[sign][0]}"
    elif last:
        spoken = f"{number_words(first)} to {_amount(sign, last, magnitude)}"
    else:
        spoken = _amount(sign, first, magnitude)
    return f"minus {spoken}" if minus else spoken


def _amount(sign: str, number: str, magnitude: str | None) -> str:
    one, many, cent, cents = _CURRENCIES[sign]
    if magnitude:
        return f"{number_words(number)} {_MAGNITUDES[magnitude]} {many}"
    whole, _, fraction = number.replace(",", "").partition(".")
    if len(fraction) not in (1, 2) or (len(fraction) == 1 and one in ("yen", "won")):
        return _counted(number, one, many)
    hundredths = int(fraction.ljust(2, "0"))
    parts = [_counted(whole, one, many)] if int(whole or 0) or not hundredths else []
    if hundredths:
        parts.append(_counted(str(hundredths), cent, cents))
    return " and ".join(parts)


def _measure(match: re.Match[str]) -> str:
    sign, first, last, gap, unit, power = match.groups()
    if (unit == "s" and not gap) and re.fullmatch(r"\d*0", first):
        return match[0]  # a decade
    if unit in ("m", "t") and match.string[match.start() - 1 : match.start()] in "$£€" and match.start():
        return match[0]
    one, many = _UNITS[unit]
    if power:
        name = _POWERS.get(power.strip(), "square" if power.strip() == "2" else "cubic")
        one, many = f"{name} {one}", f"{name} {many}"
    spoken = {"-": "minus ", "+": "plus ", None: ""}[sign]
    spoken += _MIXED.sub(_fraction, first) if "/" in first else number_words(first)
    if last:
        spoken += f" to {number_words(last)}"
    before, after = match.string[: match.start()], match.string[match.end() :]
    adjective = gap == "-" or _ARTICLE.search(before) or re.match(r"-[a-z]", after)
    single = not last and (first == "1" or re.fullmatch(r"\d+/\d+", first))
    return f"{spoken} {one if adjective or single else many}"


def _fraction(match: re.Match[str]) -> str:
    whole, top, bottom = match[1], int(match[2]), int(match[3])
    if (top, bottom) in ((24, 7), (9, 11)) and not whole:
        return f"{cardinal(top)} {cardinal(bottom)}"
    if not 0 < top < bottom or (bottom > 20 and bottom not in (32, 64, 100)) or bottom < 2:
        spoken = f"{cardinal(top)} over {cardinal(bottom)}"
        return f"{number_words(whole)} {spoken}" if whole else spoken
    part = {2: "half", 4: "quarter"}.get(bottom) or ordinal_of_words(cardinal(bottom))
    if top > 1:
        part = "halves" if part == "half" else plural(part)
    if whole and top == 1:
        return f"{number_words(whole)} and {'an' if part[0] == 'e' else 'a'} {part}"
    return f"{number_words(whole)} and {cardinal(top)} {part}" if whole else f"{cardinal(top)} {part}"


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
