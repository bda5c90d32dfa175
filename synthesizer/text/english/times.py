"""Times of the day and lengths of time in words."""

from __future__ import annotations

import re

from synthesizer.text.english.dates import MONTHS
from synthesizer.text.english.endings import ends_sentence
from synthesizer.text.english.number_words import cardinal, cardinal_of

_MERIDIEM = r"(?:\s?([ap])(?:\.\s?m\.|m\b)\.?)"
_CLOCK = re.compile(rf"(?<![\d:.,])(\d{{1,2}}):([0-5]\d)(?::([0-5]\d))?{_MERIDIEM}?(?:Z\b)?(?![\d:])", re.IGNORECASE)
_CLOCK_RANGE = re.compile(
    r"(?<=:[0-5]\d)(\s?[ap]\.?m\.?)?\s?[–—-]\s?(?=\d{1,2}(?::[0-5]\d|\s?[ap]\.?m))", re.IGNORECASE
)
_HOUR_TO_CLOCK = re.compile(r"(?<![\w:.,/-])(\d{1,2})\s?[–—-]\s?(?=\d{1,2}:[0-5]\d\s?[ap]\.?m)", re.IGNORECASE)
_RANGE_AFTER = re.compile(
    r"(?<=\d)(\s?[ap]\.?\s?m\.?)\s?[–—-]\s?(?=(?:\d{1,2}(?::[0-5]\d)?|noon|midnight|late|close)(?!\w*[.,]\d))"
    r"|\b(noon|midnight)\s?[–—-]\s?(?=\d)",
    re.IGNORECASE,
)
_HOUR = re.compile(rf"(?<![\d:.,/])(\d{{1,2}})(?:\s?(?:–|-|to)\s?(\d{{1,2}}))?{_MERIDIEM}", re.IGNORECASE)
_DOTTED = re.compile(rf"(?<![\d:.,])(\d{{1,2}})\.([0-5]\d){_MERIDIEM}", re.IGNORECASE)
_OCLOCK = re.compile(r"\s?o'?clock", re.IGNORECASE)
_RATIO = re.compile(r"(?<![\d:.])(\d{1,40}):(\d{1,40})(?![\d:])")
_ZONED = re.compile(
    r"[\s\"']+(?:[A-Z]{2,4}\b|(?:Eastern|Central|Mountain|Pacific|Greenwich|Sunset|Sunrise|Monday|Tuesday|Wednesday|"
    rf"Thursday|Friday|Saturday|Sunday|{'|'.join(MONTHS)})\b)"
)
_THE = re.compile(r"\b(?:[Tt]he|[Aa]n?|[Oo]ur|[Mm]y|[Hh]is|[Hh]er|[Tt]heir|[Yy]our) $")

_D, _H, _M, _S = (
    rf"(\d{{1,4}})\s?(?:{u})" for u in ("d|days?", "h|hrs?|hours?", "m|mins?|minutes?", "s|secs?|seconds?")
)
_RUN = re.compile(
    rf"(?<![\w.,:/])(?=\d{{1,4}}\s?[dhm][a-z]*\.?,?\s?\d{{1,4}}\s?[hms])"
    rf"(?:{_D}\.?,?\s?)?(?:{_H}\.?,?\s?)?(?:{_M}\.?,?\s?)?(?:{_S})?"
    r"(?![\w/²³^])"
)
_HOURS_MINUTES = re.compile(r"(?<![\w.,:/])(\d{1,2})h([0-5]\d)(?:m|min)?(?!\w)")
_NAMES = ("day", "hour", "minute", "second")
_SECONDS = re.compile(
    r"(?<![\w.,])(?:(?<=\bfor )|(?<=\bafter )|(?<=\bevery )|(?<=\btook )|(?<=\btakes )|(?<=\bwait )|(?<=\bWait )|"
    r"(?<=\bwithin )|(?<=\bonly )|(?<=\ba )|(?<=\ban )|(?<=\banother )|"
    r"(?=\d+s (?:later|ago|left|timer|delay|video|clip|ad)\b))"
    r"(\d{1,3}0)s\b"
)


def expand_times(text: str) -> str:
    """Times of the day with and without a.m. and p.m., lengths of time ("1h 30m"), ratios ("16:9")."""
    text = _RANGE_AFTER.sub(lambda m: f"{m[1] or m[2]} to ", text)
    text = _HOUR_TO_CLOCK.sub(r"\1 to ", text)
    text = _CLOCK_RANGE.sub(lambda m: f"{m[1] or ''} to ", text)
    text = _CLOCK.sub(lambda m: _time(m) or m[0], text)
    text = _DOTTED.sub(lambda m: _time(m) or m[0], text)
    text = _HOUR.sub(_hour, text)
    text = _HOURS_MINUTES.sub(lambda m: _length((None, m[1], m[2], None)), text)
    text = _RUN.sub(_run, text)
    text = _SECONDS.sub(lambda m: f"{cardinal(int(m[1]))} second" + _plural_after(m), text)
    return _RATIO.sub(lambda m: f"{cardinal_of(m[1])} to {cardinal_of(m[2])}", text)


def _run(match: re.Match[str]) -> str:
    numbers = match.groups()
    if sum(number is not None for number in numbers) < 2:
        return match[0]
    spoken = _length(numbers)
    whole = match[0]
    return spoken + whole[len(whole.rstrip(" ,")) :]


def _length(numbers: tuple[str | None, ...]) -> str:
    parts = []
    for number, name in zip(numbers, _NAMES, strict=True):
        if number is not None:
            parts.append(f"{cardinal(int(number))} {name}{'' if int(number) == 1 else 's'}")
    return " ".join(parts)


def _plural_after(match: re.Match[str]) -> str:
    return "" if re.search(r"\b[Aa]n? $", match.string[max(0, match.start() - 3) : match.start()]) else "s"


def _meridiem(letter: str | None, match: re.Match[str]) -> str:
    """ " P M", and the full stop that "p.m." may also have stood for."""
    if not letter:
        return ""
    spoken = f" {letter.upper()} M"
    if not match[0].endswith("."):
        return spoken
    before = match.string[max(0, match.start() - 6) : match.start()]
    names = _ZONED.match(match.string, match.end()) is not None or _THE.search(before) is not None
    return spoken + ("." if ends_sentence(match.string, match.end(), by_capital=not names) else "")


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
        spoken = cardinal(int(hour)) + ("" if _OCLOCK.match(match.string, match.end()) else " o'clock")
    else:
        spoken = f"{cardinal(int(hour))} hundred"
    if second and second != "00":
        spoken += f" and {cardinal(int(second))} second{'' if int(second) == 1 else 's'}"
    return spoken + meridiem


def _hour(match: re.Match[str]) -> str:
    first, last, letter = int(match[1]), match[2], match[3]
    spoken = cardinal(first) + (f" to {cardinal(int(last))}" if last else "")
    return spoken + _meridiem(letter, match)
