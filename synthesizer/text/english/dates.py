"""Calendar dates, months and weekdays in words."""

from __future__ import annotations

import re

from synthesizer.text.english.endings import full_stop
from synthesizer.text.english.number_words import ordinal, year

MONTHS = "January February March April May June July August September October November December".split()
_SHORT_MONTHS = {m[:3].lower(): m for m in MONTHS} | {m.lower(): m for m in MONTHS} | {"sept": "September"}
_SHORT_MONTH = r"(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)"
_MONTH = rf"(?:{_SHORT_MONTH}\b\.?|(?:{'|'.join(MONTHS)})\b)"
_ANY_MONTH = rf"({_SHORT_MONTH}|{'|'.join(MONTHS)})"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?(?![a-z\d]|[.,:/-]\d)"
_NTH = r"(\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(\d{4})(?![\d,]*\d)"
_WEEKDAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "weds": "Wednesday", "thu": "Thursday",
    "thur": "Thursday", "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip

_ISO = re.compile(r"(?<![\w/-])(\d{4})([-/.])(\d{1,2})\2(\d{1,2})(?:T(?=\d{2}:)|(?![\d-]|[./]\d))")
_ISO_MONTH = re.compile(r"(?<![\w/.-])((?:19|20)\d\d)-(0[1-9]|1[0-2])(?![\w/-]|\.\d)")
_SLASHED = re.compile(r"(?<![\w/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?![\w/-]|\.\d)")
_DASHED = re.compile(rf"(?<![\w/.-])(\d{{1,2}})([-/.]){_ANY_MONTH}\2(\d{{4}}|\d{{2}})(?![\w/-])", re.IGNORECASE)
_DASHED_MONTH = re.compile(rf"(?<![\w/.-]){_ANY_MONTH}([-/])(\d{{1,2}})\2(\d{{4}}|\d{{2}})(?![\w/-])", re.IGNORECASE)
_DASHED_DAY = re.compile(rf"(?<![\w/.-])(\d{{1,2}})-{_ANY_MONTH}(?![\w/-])")
_NO_YEAR = re.compile(r"\b([Oo]n|[Bb]y|[Uu]ntil|[Ss]ince|[Dd]ue|[Dd]ated) (\d{1,2})/(\d{1,2})(?![\w/]|\.\d)")
_MONTH_DAY = re.compile(rf"\b({_MONTH}) {_DAY}(?:,? {_YEAR})?(?! ?(?:[ap]\.?m\b|%))")
_DAY_MONTH = re.compile(rf"(?<![\w.,:/-])(the )?{_DAY}(?: of)? (?P<month>{_MONTH})(?:,? {_YEAR})?", re.IGNORECASE)
_DAY_RANGE = re.compile(rf"\b({_MONTH}) {_NTH}\s?[–-]\s?{_NTH}(?!\d)(?:, {_YEAR})?")
_RANGE_MONTH = re.compile(rf"(?<![\w.,:/-])(\d{{1,2}})\s?[–-]\s?(\d{{1,2}}) ({_MONTH})(?:,? {_YEAR})?")
_MONTH_YEAR = re.compile(rf"\b({_MONTH}) {_YEAR}")
_MONTH_RANGE = re.compile(rf"\b({_SHORT_MONTH})\.?\s?[–-]\s?({_SHORT_MONTH})\b(\.?)")
_MONTH_ALONE = re.compile(r"\b(Jan|Feb|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.")
_IN_MONTH = re.compile(
    rf"\b([Ii]n|[Ss]ince|[Uu]ntil|[Ll]ast|[Nn]ext|[Ee]arly|[Ll]ate) ({_SHORT_MONTH})(?![\w'.-]| [A-Z])"
)
_MARCH = re.compile(r"\b([Ii]n|[Ss]ince|[Ll]ast|[Nn]ext|[Bb]y|[Uu]ntil|[Oo]f|[Tt]his|[Ll]ate|[Ee]arly|and|or|to) Mar\.")

_SHORT_DAY = "(Mon|Tues?|Weds?|Thur?s?|Fri|Sat|Sun)"
_WEEKDAY_RANGE = re.compile(rf"\b{_SHORT_DAY}\.?\s?[–-]\s?{_SHORT_DAY}\b\.?")
_WEEKDAY_LIST = re.compile(rf"\b{_SHORT_DAY}\.?(?:(?:,? (?:and|or|&) |, |\s?/\s?){_SHORT_DAY}\b\.?)+")
_WEEKDAY_IN_LIST = re.compile(rf"\b{_SHORT_DAY}\b\.?")
_WEEKDAY_DOTTED = re.compile(rf"(?<!\b[Tt]he )\b{_SHORT_DAY}\.(?!\w)")
_WEEKDAY = re.compile(rf"\b{_SHORT_DAY}\b(?=,? (?:at )?\d|,? [A-Z][a-z]+\.? \d|,? at (?:noon|midnight|[a-z]+ o'clock))")
_ON_WEEKDAY = re.compile(rf"\b([Oo]n|[Tt]his|[Nn]ext|[Ll]ast|[Ee]very|[Bb]y|[Uu]ntil) {_SHORT_DAY}\b(?!['.-])")


def expand_dates(text: str) -> str:
    """Calendar dates, months and weekdays. 3/4/2024 is March fourth unless only the other order is a date."""
    text = _weekdays(text)
    text = _MONTH_RANGE.sub(lambda m: f"{_month(m[1])} to {_month(m[2])}{m[3] and full_stop(m)}", text)
    text = _ISO.sub(_iso, text)
    text = _DASHED.sub(lambda m: _named(m[0], m[3], m[1], m[4]), text)
    text = _DASHED_MONTH.sub(lambda m: _named(m[0], m[1], m[3], m[4]), text)
    text = _SLASHED.sub(_slashed, text)
    text = _NO_YEAR.sub(_no_year, text)
    text = _ISO_MONTH.sub(lambda m: f"{MONTHS[int(m[2]) - 1]} {year(int(m[1]))}", text)
    text = _DASHED_DAY.sub(lambda m: f"{m[1]} {m[2]}", text)
    text = _DAY_RANGE.sub(_day_range, text)
    text = _RANGE_MONTH.sub(_range_month, text)
    text = _MONTH_DAY.sub(lambda m: _month_day(m) or m[0], text)
    text = _DAY_MONTH.sub(lambda m: _day_month(m) or m[0], text)
    text = _MONTH_YEAR.sub(lambda m: f"{_month(m[1])} {year(int(m[2]))}", text)
    text = _MONTH_ALONE.sub(lambda m: _month(m[1]) + full_stop(m), text)
    text = _IN_MONTH.sub(lambda m: f"{m[1]} {_month(m[2])}", text)
    return _MARCH.sub(lambda m: f"{m[1]} March{full_stop(m)}", text)


def _weekdays(text: str) -> str:
    text = _WEEKDAY_RANGE.sub(lambda m: f"{_weekday(m[1])} to {_weekday(m[2])}{_dot(m)}", text)
    text = _WEEKDAY_LIST.sub(lambda m: _WEEKDAY_IN_LIST.sub(lambda d: _weekday(d[1]), m[0]) + _dot(m), text)
    text = _WEEKDAY_DOTTED.sub(lambda m: _weekday(m[1]) + full_stop(m), text)
    text = _WEEKDAY.sub(lambda m: _weekday(m[1]), text)
    return _ON_WEEKDAY.sub(lambda m: f"{m[1]} {_weekday(m[2])}", text)


def _dot(match: re.Match[str]) -> str:
    return full_stop(match) if match[0].endswith(".") else ""


def _weekday(short: str) -> str:
    return _WEEKDAYS[short.lower()]


def _month(name: str) -> str:
    return _SHORT_MONTHS[name.rstrip(".").lower()]


def _date(year_number: int, month: int, day: int) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    return f"{MONTHS[month - 1]} {ordinal(day)}, {year(year_number)}"


def _iso(match: re.Match[str]) -> str:
    date = _date(int(match[1]), int(match[3]), int(match[4]))
    return date + (", " if match[0].endswith("T") else "") if date else match[0]


def _full_year(written: str) -> int:
    number = int(written)
    return number if len(written) == 4 else number + (1900 if number > 50 else 2000)


def _named(whole: str, month: str, day: str, written_year: str) -> str:
    number = MONTHS.index(_month(month)) + 1
    return _date(_full_year(written_year), number, int(day)) or whole


def _slashed(match: re.Match[str]) -> str:
    first, mark, second, number = int(match[1]), match[2], int(match[3]), _full_year(match[4])
    month_first = mark != "."  # the dotted form is European
    orders = [(first, second), (second, first)] if month_first else [(second, first), (first, second)]
    return next((date for month, day in orders if (date := _date(number, month, day))), match[0])


def _no_year(match: re.Match[str]) -> str:
    first, second = int(match[2]), int(match[3])
    month, day = (first, second) if first <= 12 else (second, first)
    if (first, second) == (9, 11) or not (1 <= month <= 12 and 1 <= day <= 31):
        return match[0]
    return f"{match[1]} {MONTHS[month - 1]} {ordinal(day)}"


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return ""
    date = f"{_month(match[1])} {ordinal(int(match[2]))}"
    return f"{date}, {year(int(match[3]))}" if match[3] else date


def _day_month(match: re.Match[str]) -> str:
    name = match["month"]
    if not 1 <= int(match[2]) <= 31 or name.islower():
        return ""
    article = match[1] or "the "
    date = f"{article}{ordinal(int(match[2]))} of {_month(name)}"
    return f"{date}, {year(int(match[4]))}" if match[4] else date


def _day_range(match: re.Match[str]) -> str:
    span = f"{_month(match[1])} {ordinal(int(match[2]))} to {ordinal(int(match[3]))}"
    return f"{span}, {year(int(match[4]))}" if match[4] else span


def _range_month(match: re.Match[str]) -> str:
    span = f"the {ordinal(int(match[1]))} to the {ordinal(int(match[2]))} of {_month(match[3])}"
    return f"{span}, {year(int(match[4]))}" if match[4] else span
