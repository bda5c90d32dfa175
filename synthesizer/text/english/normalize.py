"""English as it is written to English as it is spoken: "Dr. Lee paid $5 on 3/4/2024" -> words only.

Passes in order, from the most particular form to the plainest number. What comes out holds letters, apostrophes,
quotation marks, parentheses, the pauses `, . ? ! ; : -` and inline pronunciations `{HH AH0 L OW1}`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from html import unescape

from synthesizer.text.english import (
    abbreviations,
    acronyms,
    dates,
    fractions,
    measures,
    money,
    quantities,
    roman,
    telephone,
    times,
)
from synthesizer.text.english import addresses as web
from synthesizer.text.english.abbreviations import SENTENCE_ABBREVIATIONS
from synthesizer.text.english.characters import read_characters
from synthesizer.text.english.number_words import number_names
from synthesizer.text.languages import Normalized
from synthesizer.text.marks import style_of
from synthesizer.text.symbols import ARPABET, ARPABET_STRESSED

__all__ = ["SENTENCE_ABBREVIATIONS", "normalize"]

_PHONES = frozenset(ARPABET + ARPABET_STRESSED)
_INLINE = re.compile(r"\{([^{}]*)\}")
_SYMBOLS = {
    "&": "and", "@": "at", "+": "plus", "=": "equals", "%": "percent", "°": "degrees", "\\": "backslash",
    "#": "hash", "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "₹": "rupees", "¢": "cents",
    "₩": "won", "₽": "rubles", "₺": "lira", "₿": "bitcoin", "×": "times", "²": "squared",
    "³": "cubed", "‰": "per mille", "μ": "mu",
}  # fmt: skip
_ABOUT = re.compile(r"(?<![\w/.])~\s?(?=[\d$£€.])")
_COMPARED = re.compile(r"(?<=\s)([<>]=?)(?=\s)|(?<=\w)\s?([<>]=?)\s?(?=\d)|(?<!\S)([<>]=?)\s?(?=[\d$£€])")
_COMPARISONS = {"<": "is less than", ">": "is greater than", "<=": "is at most", ">=": "is at least"}
_SHARP = re.compile(r"\b([A-G])#(?!\w)")  # the note and the programming language
_ARROW = re.compile(r"\s?[-=]+>\s?")
_SLASH = re.compile(r"(?<=[A-Za-z'])\s?/\s?(?=[A-Za-z])")
_DASHES = re.compile(r"\s*(?:—|(?<![-\w])-{2,}|(?<=\w)-{2,}|–(?!\w)|(?<=\s)–|\s-(?=\s))\s*")
_MARKUP = re.compile(r"</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>")
_LISTED = re.compile(r"(?:(?<=^)|(?<=[.!?] ))(\d{1,2})\.\s(?=[A-Z])")  # "1. First. 2. Second."
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,31}\d{0,2});?")
_QUESTION = re.compile(rf"([?!]['\")]* )({'|'.join(number_names())})\b")
_SMALL_QUESTION = re.compile(r"([?!]['\")]* )([a-z])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ALLOWED = re.compile(r"[A-Za-z'\",.?!;:()\s-]")


def normalize(text: str, words: Collection[str] = ()) -> Normalized:
    """Spoken form of `text`, with notes on everything that was left out.

    words: words in lower case that the user's lexicon pronounces; they are not taken apart. The text is "" when nothing
    that can be spoken is left. Time and memory grow with the square of the length: give it a paragraph at most.
    """
    spoken: list[str] = []
    notes: dict[str, None] = {}
    position = 0
    for match in _INLINE.finditer(text):
        if not _is_pronunciation(match[1]):
            continue
        spoken += [_plain(text[position : match.start()], words, notes), " {" + " ".join(match[1].split()) + "} "]
        position = match.end()
    spoken.append(_plain(text[position:], words, notes))
    result = _capitals(_tidy("".join(spoken)), everywhere=text.islower())
    return Normalized(result if re.search("[A-Za-z]", result) else "", tuple(notes))


def _capitals(text: str, *, everywhere: bool) -> str:
    """A capital after "?" and "!" where a number begins a sentence, or everywhere in a text that has none."""
    return (_SMALL_QUESTION if everywhere else _QUESTION).sub(lambda m: m[1] + m[2][0].upper() + m[2][1:], text)


def _is_pronunciation(content: str) -> bool:
    """Whether braces hold phones or a style; one right phone is enough: a wrong one beside it is reported later."""
    if style_of(f"{{{content}}}"):
        return True
    tokens = content.split()
    return any(t in _PHONES for t in tokens) and all(re.fullmatch(r"[A-Z]{1,3}\d?", t) for t in tokens)


def _plain(text: str, words: Collection[str], notes: dict[str, None]) -> str:
    """One stretch of text without inline pronunciations."""
    if not text.strip():
        return " "
    if tags := list(dict.fromkeys(_MARKUP.findall(text))):
        notes[f"markup left out: {' '.join(tags)}"] = None
        text = _MARKUP.sub(" ", text)
    text, unread = read_characters(_CONTROL.sub(" ", _ENTITY.sub(lambda m: unescape(m[0]), text)))
    notes.update(dict.fromkeys(unread))

    def is_word(word: str) -> bool:
        from synthesizer.text.english.phonemes import is_listed

        return word in words or is_listed(word)

    text = acronyms.calm(" ".join(text.split()))
    text = web.expand_addresses(text)
    text = _SHARP.sub(r"\1 sharp", text)
    text = _ABOUT.sub("about ", text)
    text = telephone.expand_places(text)
    text = fractions.expand_scores(text)
    text = dates.expand_dates(text)
    text = telephone.expand_digit_groups(text)
    text = times.expand_times(text)
    text = quantities.expand_sections(text)
    text = money.expand_foreign_numbers(text)
    text = money.expand_money(text)
    text = measures.expand_measures(text)
    text = fractions.expand_fractions(text)
    text = abbreviations.expand_abbreviations(text)
    text = _LISTED.sub(r"\1, ", text)
    text = acronyms.expand_dotted(text)
    text = abbreviations.drop_dots(text, is_word)
    text = roman.expand_roman_numerals(text, is_word)
    text = quantities.expand_ordinals(text)
    text = acronyms.expand_codes(text, is_word)
    text = _ARROW.sub(" to ", text)
    text = quantities.expand_numbers(text)
    text = acronyms.expand_acronyms(text, is_word, words)
    text = acronyms.expand_mixed_case(text, is_word)
    return _expand_symbols(text, notes)


def _expand_symbols(text: str, notes: dict[str, None]) -> str:
    text = _COMPARED.sub(lambda m: f" {_COMPARISONS[m[1] or m[2] or m[3]]} ", text)
    text = _SLASH.sub(" slash ", text)
    text = _DASHES.sub(" - ", text).replace("–", " - ")
    text = re.sub(r"[\[\]]", lambda m: "(" if m[0] == "[" else ")", text)
    left_out: dict[str, None] = {}
    pieces = []
    for character in text:
        if _ALLOWED.match(character):
            pieces.append(character)
        elif character in _SYMBOLS:
            pieces.append(f" {_SYMBOLS[character]} ")
        else:
            left_out[character] = None
            pieces.append("" if character in "*" else " ")
    if left_out:
        notes[f"left out: {' '.join(left_out)}"] = None
    return "".join(pieces)


def _tidy(text: str) -> str:
    """One space between words, none before marks, no mark twice."""
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\(\s*\)|\"\s*\"", " ", text)
    text = re.sub(r"\s+(?=[,.;:?!)])", "", text)
    text = re.sub(r"(?<=\()\s+", "", text)
    text = re.sub(r"\.{4,}", "...", text)
    text = re.sub(r"(?<!\.)\.\.(?!\.)", ".", text)
    text = re.sub(r"([,;:!?])\1+", r"\1", text)
    text = re.sub(r"([?!])[?!.]+", lambda m: "?" if "?" in m[0] else "!", text)
    text = re.sub(r"[,;:]+(?=[.?!])|,(?=[;:])", "", text)
    text = re.sub(r"(?<=[.?!])[,;:]+(?=\s|$)", "", text)
    text = re.sub(r"(?<=[,;:])[,;:]+", "", text)
    text = re.sub(r",(?=[A-Za-z])", ", ", text)
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"^[\s,.;:?!)-]+(?=[\w\"'({])", "", text)
