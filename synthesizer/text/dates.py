"""Dates, times, telephone numbers and other digit groups in words."""

from __future__ import annotations

import re

from synthesizer.text.number_words import cardinal, digits, ordinal, year
from synthesizer.text.vocabulary import names

_STARTERS = names("starters")
MONTHS = "January February March April May June July August September October November December".split()
_SHORT_MONTHS = {m[:3].lower(): m for m in MONTHS} | {m.lower(): m for m in MONTHS} | {"sept": "September"}
_MONTH = r"(?:(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?|" + "|".join(MONTHS) + r"\b)"
_DAY = r"(\d{1,2})(?:st|nd|rd|th)?(?!\d|[.,:/-]\d)"
_YEAR = r"(\d{4})(?![\d,]*\d)"
_WEEKDAYS = {
    "mon": "Monday", "tue": "Tuesday", "tues": "Tuesday", "wed": "Wednesday", "thu": "Thursday", "thur": "Thursday",
    "thurs": "Thursday", "fri": "Friday", "sat": "Saturday", "sun": "Sunday",
}  # fmt: skip

_ISO = re.compile(r"(?<![\w/-])(\d{4})-(\d{2})-(\d{2})(?:T(?=\d{2}:))?(?![\d-])")
_SLASHED = re.compile(r"(?<![\w/.-])(\d{1,2})([/.-])(\d{1,2})\2(\d{4}|\d{2})(?![\w/-]|\.\d)")
_MONTH_DAY = re.compile(rf"\b({_MONTH}) {_DAY}(?:,? {_YEAR})?(?! ?(?:[ap]\.?m\b|%))")
_DAY_MONTH = re.compile(rf"(?<![\w.,:/-])(the )?{_DAY}(?: of)? ({_MONTH})(?:,? {_YEAR})?", re.IGNORECASE)
_DAY_RANGE = re.compile(rf"\b({_MONTH}) (\d{{1,2}})\s?[–-]\s?(\d{{1,2}})(?!\d)(?:, {_YEAR})?")
_MONTH_YEAR = re.compile(rf"\b({_MONTH}) {_YEAR}")
_SHORT_DAY = "(Mon|Tues?|Wed|Thur?s?|Fri|Sat|Sun)"
_WEEKDAY = re.compile(rf"\b{_SHORT_DAY}\b(?:\.(?=,|\s+[A-Z\d])|(?=,? (?:\d|[A-Z][a-z]+ \d)))")

_WEEKDAY_RANGE = re.compile(rf"\b{_SHORT_DAY}\.?\s?[–-]\s?{_SHORT_DAY}\b\.?")

_MERIDIEM = r"(?:\s?([ap])(?:\.\s?m\.|m\b)\.?)"
_CLOCK = re.compile(rf"(?<![\d:.,])(\d{{1,2}}):([0-5]\d)(?::([0-5]\d))?{_MERIDIEM}?(?![\d:])", re.IGNORECASE)
_CLOCK_RANGE = re.compile(r"(?<=:[0-5]\d)(\s?[ap]\.?m\.?)?\s?[–-]\s?(?=\d{1,2}:[0-5]\d)", re.IGNORECASE)
_HOUR = re.compile(rf"(?<![\d:.,/])(\d{{1,2}})(?:\s?(?:–|-|to)\s?(\d{{1,2}}))?{_MERIDIEM}", re.IGNORECASE)
_DOTTED = re.compile(rf"(?<![\d:.,])(\d{{1,2}})\.([0-5]\d){_MERIDIEM}", re.IGNORECASE)
_RATIO = re.compile(r"(?<![\d:.])(\d+):(\d+)(?![\d:])")

_PHONE = re.compile(
    r"(?<![\w.])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}"  # +44 20 7946 0958
    r"|(?:1[ .-])?\(\d{3}\) ?\d{3}[ .-]\d{4}"  # (555) 123-4567
    r"|(?:1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}"  # 555-123-4567
    r"|\d{3}-\d{4}"  # 555-1234
    r"|0\d{2,4} \d{3,4} \d{3,4}"  # 020 7946 0958
    r")(?![\w-])"
)
_EMERGENCY = re.compile(r"\b((?:call|dial)(?:s|ed|ing)?|ring|phone|area code) (\d{3})\b(?!-|[. ]\d)", re.IGNORECASE)
_GROUPS = re.compile(r"(?<![\w.-])(\d{3}-\d{2}-\d{4}|\d{4}(?:[ -]\d{4}){2,4}|\d{3}(?:-\d+){3,4})(?![\w-])")
_INTERNET = re.compile(r"(?<![\w.])(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?![\w]|\.\d)")
_VERSION = re.compile(r"(?<![\w.])([vV])?(\d+(?:\.\d+){2,})(?![\w]|\.\d)|(?<![\w.])[vV](\d+(?:\.\d+)?)(?![\w]|\.\d)")


def expand_digit_groups(text: str) -> str:
    """Telephone numbers, card and social security numbers, IP addresses, versions."""
    text = _INTERNET.sub(lambda m: " dot ".join(digits(g) for g in m.groups()), text)
    text = _GROUPS.sub(lambda m: _group_digits(m[0]), text)
    text = _EMERGENCY.sub(lambda m: f"{m[1]} {digits(m[2])}", text)
    text = _PHONE.sub(_phone, text)
    return _VERSION.sub(_version, text)


def expand_dates(text: str) -> str:
    """Calendar dates and short weekday names. 3/4/2024 is March fourth unless only the other order is a date."""
    text = _WEEKDAY_RANGE.sub(lambda m: f"{_WEEKDAYS[m[1].lower()]} to {_WEEKDAYS[m[2].lower()]}", text)
    text = _WEEKDAY.sub(lambda m: _WEEKDAYS[m[1].lower()], text)
    text = _ISO.sub(lambda m: _date(int(m[1]), int(m[2]), int(m[3])) or m[0], text)
    text = _SLASHED.sub(_slashed, text)
    text = _DAY_RANGE.sub(_day_range, text)
    text = _MONTH_DAY.sub(lambda m: _month_day(m) or m[0], text)
    text = _DAY_MONTH.sub(lambda m: _day_month(m) or m[0], text)
    return _MONTH_YEAR.sub(lambda m: f"{_month(m[1])} {year(int(m[2]))}", text)


def expand_times(text: str) -> str:
    """Times of the day with and without a.m. and p.m., and ratios ("16:9")."""
    text = _CLOCK_RANGE.sub(lambda m: f"{m[1] or ''} to ", text)
    text = _CLOCK.sub(lambda m: _time(m) or m[0], text)
    text = _DOTTED.sub(lambda m: _time(m) or m[0], text)
    text = _HOUR.sub(_hour, text)
    return _RATIO.sub(lambda m: f"{cardinal(int(m[1]))} to {cardinal(int(m[2]))}", text)


def _month(name: str) -> str:
    return _SHORT_MONTHS[name.rstrip(".").lower()]


def _date(year_number: int, month: int, day: int) -> str:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    return f"{MONTHS[month - 1]} {ordinal(day)}, {year(year_number)}"


def _slashed(match: re.Match[str]) -> str:
    first, mark, second, written_year = int(match[1]), match[2], int(match[3]), match[4]
    number = int(written_year)
    if len(written_year) == 2:
        number += 1900 if number > 50 else 2000
    month_first = mark != "."  # the dotted form is European
    orders = [(first, second), (second, first)] if month_first else [(second, first), (first, second)]
    return next((date for month, day in orders if (date := _date(number, month, day))), match[0])


def _month_day(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31:
        return ""
    date = f"{_month(match[1])} {ordinal(int(match[2]))}"
    return f"{date}, {year(int(match[3]))}" if match[3] else date


def _day_month(match: re.Match[str]) -> str:
    if not 1 <= int(match[2]) <= 31 or match[3].islower():
        return ""
    article = match[1] or "the "
    date = f"{article}{ordinal(int(match[2]))} of {_month(match[3])}"
    return f"{date}, {year(int(match[4]))}" if match[4] else date


def _day_range(match: re.Match[str]) -> str:
    span = f"{_month(match[1])} {ordinal(int(match[2]))} to {ordinal(int(match[3]))}"
    return f"{span}, {year(int(match[4]))}" if match[4] else span


def _meridiem(letter: str | None, match: re.Match[str]) -> str:
    """ " P M", and the full stop that "p.m." may also have stood for."""
    if not letter:
        return ""
    rest = match.string[match.end() :]
    following = re.match(r"[\s\"')]+([A-Za-z]+)", rest)
    ends = not rest.strip("\"') \n") or (following is not None and following[1] in _STARTERS)
    return f" {letter.upper()} M" + ("." if ends and match[0].endswith(".") else "")


def _time(match: re.Match[str]) -> str:
    hour, minute, *more = match.groups()
    second = more[0] if len(more) > 1 else None
    meridiem = _meridiem(more[-1], match)
    if int(hour) > 24:
        return ""
    if minute != "00":
        spoken = f"{cardinal(int(hour))} {'oh ' if minute[0] == '0' else ''}{cardinal(int(minute))}"
    elif meridiem:
        spoken = cardinal(int(hour))
    elif 1 <= int(hour) <= 12:
        already = re.match(r"\s?o'?clock", match.string[match.end() :], re.IGNORECASE)
        spoken = cardinal(int(hour)) + ("" if already else " o'clock")
    else:
        spoken = f"{cardinal(int(hour))} hundred"
    if second:
        spoken += f" and {cardinal(int(second))} second{'' if int(second) == 1 else 's'}"
    return spoken + meridiem


def _hour(match: re.Match[str]) -> str:
    first, last, letter = int(match[1]), match[2], match[3]
    spoken = cardinal(first) + (f" to {cardinal(int(last))}" if last else "")
    return spoken + _meridiem(letter, match)


def _phone(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + _group_digits(match[0])


def _group_digits(text: str) -> str:
    return ", ".join(digits(group) for group in re.findall(r"\d+", text))


def _version(match: re.Match[str]) -> str:
    prefix = "version " if match[1] or match[3] else ""
    return prefix + " point ".join(cardinal(int(part)) for part in (match[2] or match[3]).split("."))
