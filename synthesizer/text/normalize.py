"""English as it is written to English as it is spoken: "Dr. Lee paid $5 on 3/4/2024" -> words only.

Passes in order, from the most particular form to the plainest number. What comes out holds letters, apostrophes,
quotation marks, parentheses, the pauses `, . ? ! ; : -` and inline pronunciations `{HH AH0 L OW1}`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from html import unescape

from synthesizer.text import abbreviations, acronyms, dates, quantities, web
from synthesizer.text.abbreviations import SENTENCE_ABBREVIATIONS
from synthesizer.text.characters import read_characters
from synthesizer.text.languages import Normalized
from synthesizer.text.symbols import ARPABET, ARPABET_STRESSED
from utils.errors import CloningError

__all__ = ["SENTENCE_ABBREVIATIONS", "normalize"]

_PHONES = frozenset(ARPABET + ARPABET_STRESSED)
_INLINE = re.compile(r"\{([^{}]*)\}")
_SYMBOLS = {
    "&": "and", "@": "at", "+": "plus", "=": "equals", "%": "percent", "°": "degrees", "\\": "backslash",
    "#": "hash", "$": "dollars", "£": "pounds", "€": "euros", "¥": "yen", "₹": "rupees", "¢": "cents",
    "₩": "won", "₽": "rubles", "₺": "lira", "₿": "bitcoin", "×": "times",
}  # fmt: skip
_ABOUT = re.compile(r"(?<![\w/.])~\s?(?=[\d$£€.])")
_COMPARED = re.compile(r"(?<=\s)([<>]=?)(?=\s)|(?<=\w)\s?([<>]=?)\s?(?=\d)|(?<!\S)([<>]=?)\s?(?=[\d$£€])")
_COMPARISONS = {"<": "is less than", ">": "is greater than", "<=": "is at most", ">=": "is at least"}
_SHARP = re.compile(r"\b([A-G])#(?!\w)")  # the note and the programming language
_ARROW = re.compile(r"\s?[-=]+>\s?")
_SLASH = re.compile(r"(?<=[A-Za-z'])\s?/\s?(?=[A-Za-z])")
_DASHES = re.compile(r"\s*(?:—|(?<![-\w])-{2,}|(?<=\w)-{2,}|–(?!\w)|(?<=\s)–|\s-(?=\s))\s*")
_MARKUP = re.compile(r"</?[A-Za-z][\w-]*(?:\s[^<>]*)?/?>")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ALLOWED = re.compile(r"[A-Za-z'\",.?!;:()\s-]")


def normalize(text: str, words: Collection[str] = ()) -> Normalized:
    """Spoken form of `text`, with notes on everything that was left out.

    words: words in lower case that the user's lexicon pronounces; they are not taken apart. Raises CloningError when
    nothing that can be spoken is left.
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
    result = _tidy("".join(spoken))
    if not re.search("[A-Za-z]", result):
        reason = "; ".join(notes) or "it has no letters and no digits"
        shown = " ".join(text.split())
        shown = shown if len(shown) <= 40 else f"{shown[:40]}..."
        raise CloningError(f"the text holds nothing that can be spoken: {shown!r} ({reason}): give it a word to say")
    return Normalized(result, tuple(notes))


def _is_pronunciation(content: str) -> bool:
    """Whether braces hold phones; one right phone is enough, so that a wrong one beside it is reported later."""
    tokens = content.split()
    return any(t in _PHONES for t in tokens) and all(re.fullmatch(r"[A-Z]{1,3}\d?", t) for t in tokens)


def _plain(text: str, words: Collection[str], notes: dict[str, None]) -> str:
    """One stretch of text without inline pronunciations."""
    if not text.strip():
        return " "
    if tags := list(dict.fromkeys(_MARKUP.findall(text))):
        notes[f"markup left out: {' '.join(tags)}"] = None
        text = _MARKUP.sub(" ", text)
    text, unread = read_characters(_CONTROL.sub(" ", unescape(text)))
    notes.update(dict.fromkeys(unread))

    def is_word(word: str) -> bool:
        from synthesizer.text.phonemes import is_listed

        return word in words or is_listed(word)

    text = acronyms.calm(_paragraphs(text))
    text = web.expand_addresses(text)
    text = _SHARP.sub(r"\1 sharp", text)
    text = _ABOUT.sub("about ", text)
    text = dates.expand_dates(text)
    text = dates.expand_digit_groups(text)
    text = dates.expand_times(text)
    text = quantities.expand_money(text)
    text = quantities.expand_measures(text)
    text = abbreviations.expand_abbreviations(text)
    text = acronyms.expand_dotted(text)
    text = abbreviations.expand_roman_numerals(text, is_word)
    text = quantities.expand_ordinals(text)
    text = acronyms.expand_codes(text, is_word)
    text = _ARROW.sub(" to ", text)
    text = quantities.expand_numbers(text)
    text = acronyms.expand_acronyms(text, is_word, words)
    text = acronyms.expand_mixed_case(text, is_word)
    return _expand_symbols(text, notes)


def _paragraphs(text: str) -> str:
    """A blank line ends a sentence, a line break does not."""
    text = re.sub(r"(?<=[^\s.,;:?!\"')-])[^\S\n]*\n\s*\n\s*", ". ", text.strip())
    return re.sub(r"\s+", " ", text)


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
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"^[\s,.;:?!)-]+(?=[\w\"'({])", "", text)
