"""Abbreviations and titles: short forms whose reading hangs on what stands beside them."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from synthesizer.text.english.endings import full_stop, starts_sentence
from synthesizer.text.english.vocabulary import alternatives, names, table

_TITLES = table("titles")
_PLAIN = table("abbreviations")
_PLAIN |= {short.capitalize(): _PLAIN[short].capitalize() for short in "approx avg excl govt incl misc".split()}
_BEFORE_NUMBER = table("before_number")
_DEGREES = table("degrees")
_SAINTS = names("saints")
_CAPITAL = r"[A-Z][a-z]+"

_PHRASES = (  # regular expression, words, whether its last dot may also end a sentence
    (r"\b[eE]\.\s?g\.,?", "for example,", False),
    (r"\b[iI]\.\s?e\.,?", "that is,", False),
    (r"\ba\.\s?k\.\s?a\.", "also known as", False),
    (r"\bet al\.", "et al", True),
    (r"\b[Cc]f\.", "compare", False),
    (r"\bviz\.", "namely", False),
    (r"\b[nN]\.\s?[bB]\.(?!\s?[A-Za-z]\.)", "note well,", False),
    (r"\bR\.\s?S\.\s?V\.\s?P\.", "R S V P", True),
    (r"(?<![\w/])w/o\b", "without", False),
    (r"(?<![\w/])w/\s?", "with ", False),
    (r"\bb/c\b", "because", False),
    (r"\bc/o\b", "care of", False),
    (r"\bn/a\b|\bN/A\b", "not applicable", False),
    (r"\bPh\.\s?D\.?", "P H D", True),
    (r"\bP\.\s?S\.", "P S", False),
    (r"&c\.", "et cetera", True),
    (r"(?<=[A-Za-z] )v\.(?= [A-Z])", "versus", False),
    (r"\baka\b", "also known as", False),
    (r"\bvs\b(?!\.)", "versus", False),
    (r"\band/or\b", "and or", False),
    (r"\bo' ?clock\b", "o'clock", False),
)
_PHRASES_COMPILED = tuple((re.compile(pattern), words, ends) for pattern, words, ends in _PHRASES)
_TITLE = re.compile(rf"\b(?!Gen (?:[XYZ]\b|Alpha\b|Beta\b))({'|'.join(_TITLES)})\.?(?=\s+[A-Z\"'])")
_TITLE_ENDINGS = "|".join(title for title in _TITLES if title not in ("Gen", "Mt", "Ft"))
_TITLE_DOTTED = re.compile(rf"\b({_TITLE_ENDINGS})\.(?!\w)\s?|(?<![&\w])(Mr|Mrs|Ms)\b")
_TITLE_LOWER = re.compile(r"\b(mr|mrs|prof)\.")
_DEGREE = re.compile(rf"(?<![\w.])({alternatives(_DEGREES)})(?:(\.)(?!\w)|('?s)?(?![\w.]\w|\w))")
_SMALL = alternatives(w for w in _BEFORE_NUMBER if w.islower() and len(w) > 1)
_LARGE = alternatives(w for w in _BEFORE_NUMBER if not w.islower() or len(w) == 1)
_NUMBERS_SHORT = re.compile(
    rf"(?<!\bsaid )(?<!\bsays )(?<!\bsay )(?<!\bsaying )\b((?i:{_SMALL})|{_LARGE}|P)\."
    r"(?:\s?(?=#?\d)|\s(?=[IVX]{2,}\b|[VX]\b(?!\.\s?[A-Z])|I(?:$|[.,;:)])))"
)
_LETTERS_SHORT = re.compile(
    r"\b(Figs?|Apps?|Tab|Sec|Sect|Apt|Vol|Pt|Ex|Ch|Rm|Eq|Ste|Bldg|[Ff]ig|[Aa]pt|[Rr]m)\.\s?"
    r"(?=(?!A [a-z])[A-Z](?![\w']))"
    r"|\b(Fig|App|Tab|Sec)\.\s(?=A\b)"
)
_WORD = re.compile(rf"\b({alternatives(_PLAIN)})\.(\.\.+)?(?!\w)")
_ENDING_BY_CAPITAL = frozenset(("etc", "ibid"))
_SAINT = re.compile(r"\bSt\.?(?=[\s-])|\bSt\.")
_DOCTOR = re.compile(r"\bDr\.(?:\s?)|\bDr(?=\s+[A-Z])\s")
_HASH = re.compile(r"#\s?(?=\d)")
_UNKNOWN = re.compile(r"(?<![\w.'])([A-Za-z]{2,5})\.(?=\s+[a-z])")

SENTENCE_ABBREVIATIONS = frozenset(
    [w.lower() for w in (*_TITLES, *_PLAIN, *_BEFORE_NUMBER)]
    + "st dr e.g i.e a.k.a al cf viz n.b a.m p.m u.s u.k jan feb mar apr jun jul aug sep sept oct nov dec".split()
) - set("no ed art max temp app tab ex ref bk ste par fig".split()) | {"fig"}


def _phrase(words: str, may_end: bool, match: re.Match[str]) -> str:
    return words + (full_stop(match) if may_end else "")


def expand_abbreviations(text: str) -> str:
    """Titles, streets, saints, doctors and drives, degrees, Latin, short forms before a number or letter ("No. 5")."""
    text = _HASH.sub("number ", text)
    text = _DEGREE.sub(_degree, text)
    for pattern, words, may_end in _PHRASES_COMPILED:
        text = pattern.sub(partial(_phrase, words, may_end), text)
    text = _NUMBERS_SHORT.sub(_before_number, text)
    text = _LETTERS_SHORT.sub(_before_number, text)
    text = _SAINT.sub(_saint_or_street, text)
    text = _DOCTOR.sub(_doctor_or_drive, text)
    text = _TITLE.sub(lambda m: _TITLES[m[1]], text)
    text = _TITLE_DOTTED.sub(lambda m: _TITLES[m[1] or m[2]] + (" " if m[1] and m[0][-1] != "." else ""), text)
    text = _TITLE_LOWER.sub(lambda m: _TITLES[m[1].capitalize()].lower(), text)
    return _WORD.sub(_word, text)


def _word(match: re.Match[str]) -> str:
    end = "..." if match[2] else full_stop(match, by_capital=match[1] in _ENDING_BY_CAPITAL)
    return _PLAIN[match[1]] + end


def drop_dots(text: str, is_word: Callable[[str], bool]) -> str:
    """The dot of a short form that nobody knows is no full stop where a small letter follows ("the Lond. office")."""
    if text[:1].islower():  # a text that has no capitals at all
        return text
    return _UNKNOWN.sub(lambda m: m[0] if is_word(m[1].lower()) else m[1], text)


def _degree(match: re.Match[str]) -> str:
    plural = "'s" if match[3] else ""
    return _DEGREES[match[1]] + plural + (full_stop(match) if match[2] else "")


def _before_number(match: re.Match[str]) -> str:
    short = match[1] or match[2]
    word = _BEFORE_NUMBER.get(short) or _BEFORE_NUMBER.get(short.lower()) or _BEFORE_NUMBER[short.rstrip("s")]
    starts = re.search(r"(?:^|[.!?])\s*$", match.string[: match.start()]) is not None
    return (word.capitalize() if starts and short[0].isupper() else word) + " "


def _saint_or_street(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :]
    following = re.match(r"[\s-]+([A-Z][a-z]+)", after)
    named = re.search(r"(?:\b[A-Z][a-z]+|\d(?:st|nd|rd|th))$", before) is not None
    if following and (following[1] in _SAINTS or not named):
        return "Saint"
    if match[0] == "St" and not named:
        return "St"
    return "Street" + (full_stop(match) if match[0].endswith(".") else "")


def _doctor_or_drive(match: re.Match[str]) -> str:
    before, after = match.string[: match.start()].rstrip(), match.string[match.end() :]
    named = re.search(rf"\d+ (?:{_CAPITAL} ?)+$", before) or re.search(rf"(?:\b[a-z]+ )(?:{_CAPITAL} ?)+$", before)
    title = re.match(r"[A-Z]", after) is not None and not starts_sentence(after.split()[0].strip(".,"))
    if named and (not title or re.search(rf"\d+ (?:{_CAPITAL} ?)+$", before)):
        return "Drive" + full_stop(match) + (" " if match[0].endswith(" ") else "")
    return "Doctor" + (" " if after and re.match(r"\w", after) else "")
