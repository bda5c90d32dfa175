"""What marks say of single words: letters digits, ordinals, dates, phones in ARPAbet or IPA; for English."""

from __future__ import annotations

import re

LETTERS = {
    "a": "EY", "b": "B IY", "c": "S IY", "d": "D IY", "e": "IY", "f": "EH F", "g": "JH IY", "h": "EY CH", "i": "AY",
    "j": "JH EY", "k": "K EY", "l": "EH L", "m": "EH M", "n": "EH N", "o": "OW", "p": "P IY", "q": "K Y UW",
    "r": "AA R", "s": "EH S", "t": "T IY", "u": "Y UW", "v": "V IY", "w": "D AH B AH L Y UW", "x": "EH K S",
    "y": "W AY", "z": "Z IY",
}  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIGNS = {
    "-": "dash", ".": "dot", "_": "underscore", "/": "slash", "\\": "backslash", "@": "at", "#": "hash", "+": "plus",
    "*": "star", "&": "and", "%": "percent", "=": "equals", ":": "colon", ",": "comma", "'": "apostrophe",
}  # fmt: skip
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip
READ_AS_THEY_ARE = ("cardinal", "number", "time", "telephone", "currency", "unit", "fraction", "address", "")
IPA = {
    "tʃ": "CH", "t͡ʃ": "CH", "ʧ": "CH", "dʒ": "JH", "d͡ʒ": "JH", "ʤ": "JH", "aɪ": "AY", "aʊ": "AW", "eɪ": "EY",
    "oʊ": "OW", "əʊ": "OW", "ɔɪ": "OY", "ɪə": "IH R", "eə": "EH R", "ʊə": "UH R", "ɝ": "ER", "ɜ": "ER", "ɚ": "ER",
    "ɜr": "ER", "ər": "ER", "ɑ": "AA", "ɒ": "AA", "a": "AA", "æ": "AE", "ʌ": "AH", "ə": "AH", "ɐ": "AH", "ɔ": "AO",
    "o": "OW", "ɛ": "EH", "e": "EH", "ɪ": "IH", "ɨ": "IH", "i": "IY", "ʊ": "UH", "u": "UW", "ʉ": "UW", "b": "B",
    "d": "D", "ð": "DH", "f": "F", "ɡ": "G", "g": "G", "h": "HH", "ɦ": "HH", "j": "Y", "k": "K", "l": "L", "ɫ": "L",
    "m": "M", "n": "N", "ŋ": "NG", "p": "P", "r": "R", "ɹ": "R", "ɻ": "R", "ʁ": "R", "s": "S", "ʃ": "SH", "t": "T",
    "ɾ": "T", "θ": "TH", "v": "V", "w": "W", "ʍ": "W", "x": "K", "z": "Z", "ʒ": "ZH", "ʔ": "T", "n̩": "AH N",
    "l̩": "AH L", "m̩": "AH M",
}  # fmt: skip
_LONGEST = max(map(len, IPA))
_SILENT = re.compile(r"[\sˈˌ'ːˑ.‿|‖͜͡/\[\]()-]+")


def said_as(text: str, how: str, form: str) -> tuple[str, str]:
    """What to write in place of `text`, and a note where it cannot be said so; form: of a date, such as "dmy"."""
    how, text = how.lower(), " ".join(text.split())
    if how in ("characters", "spell-out", "verbatim"):
        return f" {' '.join(filter(None, map(_character, text)))} ", ""
    if how == "digits":
        return (f" {' '.join(map(_character, re.sub(r'[^0-9]', '', text)))} " if re.search("[0-9]", text) else text), ""
    if how == "ordinal":
        number = text.replace(",", "")
        if number.isascii() and number.isdecimal() and len(number) <= 15:
            return f"{int(number)}{_ending(int(number))}", ""
        return text, f"say-as ordinal {text[:40]!r}: not a whole number; read as it is written"
    if how == "date":
        date = _date(text, form.lower())
        return date or text, "" if date else f"say-as date {text[:40]!r}: not a date; read as it is written"
    note = "" if how in READ_AS_THEY_ARE else f"say-as interpret-as={how[:40]!r}: unknown; read as it is written"
    return text, note


def phones_of(written: str, alphabet: str, known: tuple[str, ...]) -> tuple[list[str], str]:
    """The phones of a pronunciation in "x-arpabet" or "ipa", and what is wrong with it: then there are none."""
    if alphabet == "ipa":
        found, wrong = _from_ipa(written)
    elif alphabet in ("x-arpabet", "arpabet"):
        found, wrong = written.upper().replace(".", " ").split(), ""
    else:
        return [], f"alphabet {alphabet[:40]!r} is unknown, there are x-arpabet and ipa"
    if not wrong and (odd := [phone for phone in found if phone not in known]):
        wrong = f"{odd[0][:10]} is no phone"
    return ([], wrong) if wrong else (found, "" if found else "no phones")


def _from_ipa(written: str) -> tuple[list[str], str]:
    found: list[str] = []
    place = 0
    while place < len(written):
        for size in range(_LONGEST, 0, -1):
            if (piece := written[place : place + size]) in IPA and len(piece) == size:
                found += IPA[piece].split()
                place += size
                break
        else:
            if not _SILENT.fullmatch(written[place]):
                return [], f"{written[place]!r} is unknown"
            place += 1
    return found, ""


def _character(character: str) -> str:
    if (phones := LETTERS.get(character.lower())) is not None:
        return f"{{{phones}}}"
    return DIGITS[int(character)] if character in "0123456789" else SIGNS.get(character, character)


def _ending(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def _date(text: str, form: str) -> str:
    """Numbers as a date that is read as one: "March 4th, 2024"; "" where they are none."""
    numbers = re.findall(r"\d{1,4}", text)
    if not form:
        form = "ymd" if re.match(r"\d{4}\D", text) else "mdy"
    if len(numbers) != len(form) or not set(form) <= set("ymd") or len(set(form)) != len(form):
        return text if re.search("[A-Za-z]", text) and re.search(r"\d", text) else ""
    parts = dict(zip(form, map(int, numbers), strict=True))
    month, day = parts.get("m", 1), parts.get("d", 1)
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return ""
    spoken = MONTHS[month - 1] if "m" in parts else ""
    spoken += f" {day}{_ending(day)}" if "d" in parts else ""
    return f"{spoken}, {parts['y']}".strip(", ") if "y" in parts else spoken.strip()
