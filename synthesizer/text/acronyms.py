"""Capitals: letters to be named, words to be read, names in mixed case, codes of letters and digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from synthesizer.text.number_words import cardinal, decimal, digits
from synthesizer.text.vocabulary import names, table

_WORDS = table("acronyms")
_LETTERS = names("spelled")
_TWO_LETTER_WORDS = names("two_letter_words")
_STARTERS = names("starters")

_DOTTED = re.compile(r"(?<![\w.])((?:[A-Za-z]\.\s?){1,}[A-Za-z]\.)(?!\w)|(?<![\w.])((?:[A-Z]\.){1,}[A-Z])\b")
_INITIAL = re.compile(r"(?<![\w.'])(?<![A-Z] )([A-Z])\.(?=\s?[A-Z]\w|\s[A-Z]\b)")
_AMPERSAND = re.compile(r"\b([A-Z]{1,3})\s?&\s?([A-Z]{1,3})\b")
_CAPITALS = re.compile(r"(?<![\w'])([A-Z]{2,})('?s)?(?![\w])")
_CODE = re.compile(r"(?<!\w)(?=[A-Za-z]*-?\d)(?=[\d-]*[A-Za-z])[A-Za-z\d]+(?:-[A-Za-z\d]+|\.\d+)*(?!\w)")
_MIXED = re.compile(r"(?<!\w)(?=\w*[a-z][A-Z]|[A-Z]{2,}[a-z])[A-Za-z]+(?:'s)?(?!\w)")


def expand_dotted(text: str) -> str:
    """ "U.S.A." and "J. R. R. Tolkien" without their dots; the dot at the end of a sentence stays."""
    text = _INITIAL.sub(_initial, text)
    return _DOTTED.sub(_dotted, text)


def expand_codes(text: str, is_word: Callable[[str], bool]) -> str:
    """Tokens of letters and digits: "MP3", "COVID-19", "A380", "B2B", "H2O"."""
    return _CODE.sub(lambda m: _code(m[0], is_word), text)


def expand_acronyms(text: str, is_word: Callable[[str], bool], keep: Collection[str] = ()) -> str:
    """Words in capitals are read as words when they are some, else letter by letter: NASA, F B I.

    keep: words in lower case that are never spelled.
    """
    text = _AMPERSAND.sub(lambda m: f"{' '.join(m[1])} and {' '.join(m[2])}", text)
    return _CAPITALS.sub(lambda m: m[0] if m[1].lower() in keep else _capitals(m, is_word), text)


def expand_mixed_case(text: str, is_word: Callable[[str], bool]) -> str:
    """ "YouTube" -> "You Tube" unless the dictionary has it whole, as it has "McDonald"."""
    return _MIXED.sub(lambda m: _mixed(m[0], is_word), text)


def calm(text: str) -> str:
    """Text all in capitals (old transcripts, headlines) in lower case, so that it is not taken for acronyms."""
    words = re.findall(r"[^\W\d_]+", text)
    long_words = [w for w in words if len(w) > 1]
    if len(long_words) > 2 and not any(c.islower() for w in words for c in w):
        return re.sub(r"\bi\b", "I", text.lower())
    return text


def _initial(match: re.Match[str]) -> str:
    """ "John F. Kennedy" loses the dot, "vitamin A. It" ends a sentence."""
    rest = match.string[match.end() :]
    if re.split(r"\W", rest.lstrip(), maxsplit=1)[0] in _STARTERS:
        return match[0]
    return match[1] if rest.startswith(" ") else f"{match[1]} "


def _dotted(match: re.Match[str]) -> str:
    letters = re.sub(r"[.\s]", "", match[0])
    after = match.string[match.end() :]
    spaced = " ".join(letters.upper())
    if match[0].endswith((" ", ". ")) or not match[0].endswith("."):
        return spaced
    following = re.match(r"[\s\"')]+([A-Za-z]+)", after)
    ends = not after.strip("\"') \n") or (following is not None and following[1] in _STARTERS)
    return spaced + ("." if ends else "")


def _capitals(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    word, ending = match[1], match[2] or ""
    if word in _WORDS:
        return _WORDS[word] + (ending if ending != "s" or _WORDS[word][-1].islower() else "'s")
    if not _is_spelled(match, word, is_word):
        return word + ending
    return " ".join(word) + ("'s" if ending else "")


def _is_spelled(match: re.Match[str], word: str, is_word: Callable[[str], bool]) -> bool:
    before = match.string[: match.start()].rstrip()
    if word in ("IT", "US", "AM", "PM"):
        if word == "IT":
            return re.search(r"\b(?:the|an|our|their|your|in|of|and)$", before) is not None
        return word != "AM" or before.endswith(("M", "at", "the")) or before[-1:].isdigit()
    if word in _TWO_LETTER_WORDS:
        return False
    if len(word) == 2 or word in _LETTERS:
        return True
    if is_word(word.lower()):
        return not re.search("[AEIOUY]", word)
    return len(word) <= 5 or not re.search("[AEIOUY]", word)


def _code(token: str, is_word: Callable[[str], bool]) -> str:
    spoken = []
    for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+|\d+(?:\.\d+)?", token):
        if part[0].isdigit():
            spoken.append(decimal(part) if "." in part else _code_number(part))
        elif part in _WORDS:
            spoken.append(_WORDS[part])
        elif len(part) > 2 and is_word(part.lower()) and part not in _LETTERS and re.search("[AEIOUYaeiouy]", part):
            spoken.append(part)
        elif part.islower() and len(part) > 3:
            spoken.append(part)
        else:
            spoken.append(" ".join(part.upper()))
    return " ".join(spoken)


def _code_number(text: str) -> str:
    if text[0] == "0" or len(text) > 4:
        return digits(text)
    number = int(text)
    if number < 100 or number % 1000 == 0:
        return cardinal(number)
    high, low = divmod(number, 100)
    if low == 0:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def _mixed(token: str, is_word: Callable[[str], bool]) -> str:
    word = token.removesuffix("'s")
    ending = token[len(word) :]
    if is_word(word.lower()) and not re.match(r"[a-z][A-Z]", word):
        return token
    parts = re.findall(r"[A-Z]{2,}(?=[A-Z][a-z]|$|s$)|[A-Z]?[a-z]+|[A-Z]", word)
    if len(parts) > 1 and parts[-1] == "s" and parts[-2].isupper():
        parts[-2:] = [f"{' '.join(parts[-2])}'s"]
    return " ".join(" ".join(p) if p.isupper() and len(p) > 1 else p for p in parts) + ending
