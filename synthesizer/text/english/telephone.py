"""Digits that are named one by one: telephone, card and social security numbers, addresses of machines, ZIP codes."""

from __future__ import annotations

import re

from synthesizer.text.english.endings import full_stop
from synthesizer.text.english.number_words import cardinal_of, digits
from synthesizer.text.english.vocabulary import alternatives, rows

_PHONE = re.compile(
    r"(?<![\w.])(?:"
    r"\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}"  # +44 20 7946 0958
    r"|(?:1[ .-])?\(\d{3,5}\) ?\d{3,4}[ .-]\d{3,4}"  # (555) 123-4567
    r"|(?:1[ .-])?\d{3}[.-]\d{3}[.-]\d{4}"  # 555-123-4567
    r"|1\d{2}[ -]\d{4}[ -]\d{4}"  # 135-4567-8900
    r"|\d{3}-\d{4}"  # 555-1234
    r"|0\d{2,4}[ -]\d{3,4}[ -]?\d{3,4}"  # 020 7946 0958
    r")(?:,? ?x\d{1,5})?(?![\w-]|\.\d)"
)
_TOLL_FREE = re.compile(r"(?<![\w-])1-(8\d\d)-([A-Z]+(?:-[A-Z]+)*)\b")
_CALLED = re.compile(
    r"\b((?:[Cc]all|[Dd]ial|[Pp]hone|[Rr]ing|[Tt]ext)(?:s|ed|ing)?(?: (?:me|us|him|her|them|number))?(?: (?:at|on))?"
    r"|[Tt]el\.?:?|[Pp]hone:|[Aa]rea code)"
    r" (\d{3}(?!\d)|\d{7,15}|\d{3} \d{3} \d{3,4}|\d{3} \d{4})\b(?!-|[. ]\d)"
)
_GROUPS = re.compile(r"(?<![\w.-])(\d{3}-\d{2}-\d{4}|\d{4}(?:[ -]\d{4}){2,4}|\d{3}(?:-\d+){3,4})(?![\w-])")
_INTERNET = re.compile(r"(?<![\w.])(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?![\w]|\.\d)")
_VERSION = re.compile(r"(?<![\w.])([vV])?(\d+(?:\.\d+){2,})(?![\w]|\.\d)|(?<![\w.])[vV](\d+(?:\.\d+)?)(?![\w]|\.\d)")
_THOUSANDS = re.compile(r"[1-9]\d{0,2}(?:\.\d{3}){2,}")

_STATES = {short: names[0] for code, names in rows("states").items() for short in (code, *names[1:])}
_STATE = f"({alternatives(_STATES)})"
_TOWN = r"(?:[A-Z][\w'-]*[a-z]|[A-Z]{3,})"
_INTERJECTION = "Yes|No|Well|Oh|Ah|Hey|Alright|Okay|So|Sure|Fine|Now|Please|Thanks|Sorry|Right|Maybe|Uh|Um|Hmm"
_ZIPPED = re.compile(rf"\b{_STATE},? (\d{{5}})(?:-(\d{{4}}))?(?![\w-])")
_STATE_AFTER_TOWN = re.compile(
    rf"\b(?!(?:{_INTERJECTION})\b)({_TOWN}), (?!MD\b){_STATE}(?![\w'])"
    r"(?=\s*(?:$|[,;:!?)]|\.(?!\w))|(?<!OK)(?<!ME)(?<!HI)(?<!OR)(?<!IN)\s[a-z])"
)
_SHORT_STATE = re.compile(rf"\b({_TOWN}), ({alternatives(s for s in _STATES if s.endswith('.'))})(?!\w)")


def expand_digit_groups(text: str) -> str:
    """Telephone numbers, card and social security numbers, IP addresses, versions."""
    text = _INTERNET.sub(lambda m: " dot ".join(digits(g) for g in m.groups()), text)
    text = _GROUPS.sub(lambda m: _group_digits(m[0]), text)
    text = _TOLL_FREE.sub(_toll_free, text)
    text = _CALLED.sub(lambda m: f"{m[1]} {_group_digits(m[2])}", text)
    text = _PHONE.sub(_phone, text)
    return _VERSION.sub(_version, text)


def expand_places(text: str) -> str:
    """US states after a town or before a ZIP code: "Austin, TX" and "Boston, MA 02101"."""
    text = _ZIPPED.sub(_zipped, text)
    text = _STATE_AFTER_TOWN.sub(lambda m: f"{m[1]}, {_STATES[m[2]]}", text)
    return _SHORT_STATE.sub(_short_state, text)


def _toll_free(match: re.Match[str]) -> str:
    code = match[1]
    spoken = f"{digits(code[0])} hundred" if code.endswith("00") else digits(code)
    return f"one, {spoken}, {match[2].replace('-', ' ')}"


def _phone(match: re.Match[str]) -> str:
    if match[0].startswith("+") and sum(c.isdigit() for c in match[0]) < 8:
        return match[0]
    plus = "plus " if match[0].startswith("+") else ""
    number, _, extension = match[0].partition("x")
    return plus + _group_digits(number) + (f", extension {digits(extension)}" if extension else "")


def _group_digits(text: str) -> str:
    return ", ".join(digits(group) for group in re.findall(r"\d+", text))


def _version(match: re.Match[str]) -> str:
    if not match[1] and not match[3] and _THOUSANDS.fullmatch(match[2]):
        return match[0]  # 1.234.567
    prefix = "version " if match[1] or match[3] else ""
    return prefix + " point ".join(cardinal_of(part) for part in (match[2] or match[3]).split("."))


def _zipped(match: re.Match[str]) -> str:
    end = f", {digits(match[3])}" if match[3] else ""
    return f"{_STATES[match[1]]} {digits(match[2])}{end}"


def _short_state(match: re.Match[str]) -> str:
    return f"{match[1]}, {_STATES[match[2]]}{full_stop(match)}"
