"""Capitals: letters to be named, words to be read, names in mixed case, codes of letters and digits."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from synthesizer.text.english.endings import full_stop, starts_sentence
from synthesizer.text.english.number_words import cardinal, decimal, digits
from synthesizer.text.english.vocabulary import names, rows, table

_WORDS = table("acronyms")
_LETTERS = names("spelled") | names("spelled_newer") | names("spelled_by_use")
_EVERYDAY = names("everyday")
_TWO_LETTER_WORDS = names("two_letter_words")
_SHORT_FORMS = frozenset(
    w.upper() for section in ("titles", "abbreviations") for w in table(section) if not re.search("[aeiouy]", w, re.I)
) | set("ST DR MT FT HMM SHH BRR PST TSK NTH PFFT GRR ZZZ".split())
_CODES = frozenset(code for section in ("currencies", "states") for code in rows(section) if code.isupper())

_DOTTED = re.compile(r"(?<![\w.])((?:[A-Za-z]\.\s?){1,9}[A-Za-z]\.)(?!\w)|(?<![\w.])((?:[A-Z]\.){1,9}[A-Z])\b")
_INITIAL = re.compile(r"(?<![\w.'])(?<![A-Z] )([A-Z])\.(?=\s?[A-Z]\w|\s[A-Z]\b)")
_BEFORE_SMALL = re.compile(r"(?<![\w.'])([A-HJ-Z])\.(?=\s[a-z])")
_LETTERED = re.compile(
    r"\b(?:[Pp]lan|[Vv]itamin|[Cc]lass|[Gg]rade|[Tt]ype|[Ss]ection|[Ff]igure|[Gg]roup|[Tt]eam|[Hh]epatitis|[Oo]ption|"
    r"[Aa]ppendix|an?|[Pp]oint|[Mm]odel|[Rr]oom|[Ll]etter|[Gg]ate|[Tt]able|[Ee]xhibit|[Pp]art|[Aa]nswer|[Bb]lock|[Ll]evel|"
    r"and I|than I|as I)\s?$"
)
_FOLLOWING = re.compile(r"\s*([A-Za-z']+)")
_AMPERSAND = re.compile(r"\b([A-Z]{1,3})\s?&\s?([A-Z]{1,3})(s?)\b")
_CAPITALS = re.compile(r"(?<![\w'])([A-Z]{2,})('?s)?(?![\w])")
_SMALL = re.compile(r"(?<![\w'{*-])([a-z]{2,5})('s)?(?![\w'*-])")
_SOUNDS = frozenset("hmm hm shh sh pst psst brr tsk pfft grr zzz mm mmm mhm nth ths th nd rd st ll ve vs".split())
_CODE = re.compile(r"(?<!\w)(?=[A-Za-z]*-?\d)(?=[\d-]*[A-Za-z])[A-Za-z\d]+(?:-[A-Za-z\d]+|\.\d+)*(?!\w)")
_MIXED = re.compile(r"(?<!\w)(?=\w*[a-z][A-Z]|[A-Z]{2,}[a-z])[A-Za-z]+(?:'s)?(?!\w)")


def expand_dotted(text: str) -> str:
    """ "U.S.A." and "J. R. R. Tolkien" without their dots; the dot at the end of a sentence stays."""
    text = _INITIAL.sub(_initial, text)
    text = _BEFORE_SMALL.sub(r"\1", text)
    return _DOTTED.sub(_dotted, text)


def expand_codes(text: str, is_word: Callable[[str], bool]) -> str:
    """Tokens of letters and digits: "MP3", "COVID-19", "A380", "B2B", "H2O"."""
    return _CODE.sub(lambda m: _code(m[0], is_word), text)


def expand_acronyms(text: str, is_word: Callable[[str], bool], keep: Collection[str] = ()) -> str:
    """Words in capitals are read as words when they are some, else letter by letter: NASA, F B I.

    keep: words in lower case that are never spelled.
    """
    text = _AMPERSAND.sub(lambda m: f"{' '.join(m[1])} and {' '.join(m[2])}" + ("'s" if m[3] else ""), text)
    text = _CAPITALS.sub(lambda m: m[0] if m[1].lower() in keep else _capitals(m, is_word), text)
    return _SMALL.sub(lambda m: m[0] if m[1] in keep else _small(m, is_word), text)


def expand_mixed_case(text: str, is_word: Callable[[str], bool]) -> str:
    """ "YouTube" -> "You Tube" unless the dictionary has it whole, as it has "McDonald"."""
    return _MIXED.sub(lambda m: _mixed(m[0], is_word), text)


def calm(text: str) -> str:
    """Text all in capitals (headlines, old transcripts) in small letters, but for its acronyms, numerals and codes."""
    words = _WORD.findall(text)
    if sum(len(word) > 1 for word in words) < 3 or any(c.islower() for word in words for c in word):
        return text
    calmed = _NUMBERED.sub(lambda m: m[1].capitalize(), _WORD.sub(_calmed, text))
    return _AFTER_TITLE.sub(lambda m: m[1].capitalize() + m[2] + m[3].capitalize(), calmed)


_WORD = re.compile(r"[^\W\d_]+")
_AMOUNT = re.compile(r"\s?\d")
_ZIP = re.compile(r" \d{5}\b")
_NUMERAL = re.compile("(?:X{0,3})(?:IX|IV|V?I{2,3}|VI)|X{2,3}I?")
_NAMES = frozenset(
    "JANUARY FEBRUARY APRIL JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER MONDAY TUESDAY WEDNESDAY THURSDAY "
    "FRIDAY SATURDAY SUNDAY JAN FEB APR AUG SEPT OCT NOV DEC MON TUE TUES WED THU THURS FRI".split()
)
_NUMBERED = re.compile(r"\b([a-z]+)(?= [IVX]{2,}\b| [VX]\b)")
_AFTER_TITLE = re.compile(r"\b(mr|mrs|ms|dr|st|prof|rev|capt|gen|sgt|lt|col|sen|gov)\b(\.? )([a-z]+)")


def _calmed(match: re.Match[str]) -> str:
    word = match[0]
    if word in _EVERYDAY:
        kept = match.string[max(0, match.start() - 4) : match.start()] == "THE " and word in ("US", "WHO", "IT", "LED")
    else:
        vowels = re.search("[AEIOUY]", word)
        kept = word in _LETTERS or word in _WORDS or (len(word) > 1 and not vowels and word not in _SHORT_FORMS)
    code = word in _CODES and (_AMOUNT if len(word) == 3 else _ZIP).match(match.string, match.end())
    if kept or (len(word) == 1 and word != "A") or code or (_NUMERAL.fullmatch(word) and match.start()):
        return word
    return word.capitalize() if word in _NAMES else word.lower()


def _initial(match: re.Match[str]) -> str:
    """ "John F. Kennedy" loses the dot, "vitamin A. It" ends a sentence."""
    following = _FOLLOWING.match(match.string, match.end())
    if following is not None and starts_sentence(following[1]):
        return match[0]
    before = match.string[max(0, match.start() - 12) : match.start()]
    if match.string[match.end()].isspace() and (_LETTERED.search(before) or _LETTERED.search(before + match[1])):
        return match[0]
    return match[1] if match.string[match.end()].isspace() else f"{match[1]} "


def _dotted(match: re.Match[str]) -> str:
    letters = re.sub(r"[.\s]", "", match[0])
    spaced = " ".join(letters.upper())
    return spaced + (full_stop(match) if match[0].endswith(".") else "")


def _capitals(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    word, ending = match[1], match[2] or ""
    if word in _WORDS:
        return _WORDS[word] + (ending if ending != "s" or _WORDS[word][-1].islower() else "'s")
    if not _is_spelled(match, word, is_word):
        return word + ending
    return " ".join(word) + ("'s" if ending else "")


def _small(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    """Initialisms in small letters: "usb", "btw"."""
    word = match[1]
    known = word.upper() in _LETTERS or not re.search("[aeiouy]", word)
    if not known or word in _SOUNDS or is_word(word):
        return match[0]
    return " ".join(word.upper()) + (match[2] or "")


def _is_spelled(match: re.Match[str], word: str, is_word: Callable[[str], bool]) -> bool:
    before = match.string[: match.start()].rstrip()
    if word in ("IT", "US", "AM", "PM", "WHO"):
        if word == "WHO":
            return re.search(r"\b[Tt]he$", before) is not None
        if word == "IT":
            return re.search(r"\b(?:the|an|our|their|your|in|of|and)$", before) is not None
        return word != "AM" or before.endswith(("M", "at", "the")) or before[-1:].isdigit()
    if before.endswith(("an", "An")) and word[0] in "FHLMNRSX" and re.search(r"\b[Aa]n$", before):
        return True
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
    if is_word(word.lower()):
        return token
    parts = re.findall(r"[A-Z]{2,}(?=[A-Z][a-z]|$|s$)|[A-Z]?[a-z]+|[A-Z]", word)
    if len(parts) > 1 and parts[-1] == "s" and parts[-2].isupper():
        parts[-2:] = [f"{' '.join(parts[-2])}'s"]
    return " ".join(" ".join(p) if p.isupper() and len(p) > 1 else p for p in parts) + ending
