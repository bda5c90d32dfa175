"""Unicode to the characters that the English reader knows; what it cannot read is named, never silently lost."""

from __future__ import annotations

import re
import unicodedata

_REPLACED = {
    "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"', "″": '"', "＂": '"',
    "‘": "'", "’": "'", "‚": "'", "‛": "'", "′": "'", "`": "'", "´": "'", "ʼ": "'", "‹": "'", "›": "'",
    "‐": "-", "‑": "-", "‒": "–", "―": "—", "−": "-", "\u00ad": "", "\u200b": "", "\u2060": "", "\ufeff": "",
    "\u200c": "", "\u200e": "", "\u200f": "", "…": "...", "™": "", "®": "", "℠": "", "№": "No. ", "℅": "c/o ",
    "¡": "", "¿": "", "⁄": "/", "∕": "/", "⁓": "~", "•": ", ", "·": " ",
    "†": "", "‡": "", "¦": "|", "‖": "|", "\u2028": "\n", "\u2029": "\n\n",
    "ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D",
    "ł": "l", "Ł": "L", "þ": "th", "Þ": "Th", "ð": "th", "Ð": "Th", "ı": "i", "ħ": "h", "Ħ": "H", "ŋ": "ng",
}  # fmt: skip
_SPOKEN = {
    "→": "to", "⇒": "to", "➔": "to", "←": "from", "↔": "to and from", "√": "square root of", "∞": "infinity",
    "©": "copyright", "§": "section", "¶": "paragraph", "×": "×", "÷": "divided by", "±": "plus or minus",
    "≈": "is about", "≠": "is not equal to", "≤": "is at most", "≥": "is at least", "∑": "sum of", "∈": "in",
    "♀": "female", "♂": "male", "∂": "partial", "∫": "integral of",
}  # fmt: skip
# Read by the passes that follow: currency signs, the degree sign, dashes and the multiplication sign.
_KEPT = frozenset("£€¥₹₩₽₺₿¢°–—×²³‰")
_SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_FRACTION = re.compile(r"(\d?)([½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒])")
_POWER = re.compile(r"(?<=[\dA-Za-z)])(⁻[⁰¹²³⁴-⁹]+|[⁰¹²³⁴-⁹]{2,}|[⁰¹⁴-⁹])")
_DEGREE = re.compile(r"(?<=\d)(\s?)[º˚](?=\s?[CF]?\b|\s|$|[.,])")
_MICRO = re.compile(r"(?<=[\d\s/])[µμ](?=[gmslLFAVW]\b)")
_GROUPED = re.compile(r"(?<=\d)[\u202f\u2009\u00a0](?=\d{3}(?!\d))")
_EMOTICON = re.compile(r"(?<!\S)[:;=8][-^o']?[)(DPp/|\]\[](?=\s|$|[.,!?])")
_EMOJI_MODIFIERS = frozenset("\u200d\ufe0e\ufe0f\u20e3")


def read_characters(text: str) -> tuple[str, list[str]]:
    """Text in ASCII and a few signs (`_KEPT`), and notes on all that was left out."""
    notes = _Notes()
    text = _EMOTICON.sub(lambda m: notes.emoticon(m[0]), text)
    text = _GROUPED.sub("", text)
    text = _DEGREE.sub(r"\1°", text.replace("§§", "sections "))
    text = _MICRO.sub("\x00", text)
    text = _FRACTION.sub(_vulgar_fraction, text)
    text = _POWER.sub(lambda m: f" to the power of {m[1].translate(_SUPERSCRIPTS)} ", text)
    text = text if text.isascii() else "".join(_read_one(c, text, i, notes) for i, c in enumerate(text))
    return re.sub(r"[^\S\n]+", " ", text).replace("\x00", "μ"), notes.lines()


def _read_one(character: str, text: str, index: int, notes: _Notes) -> str:
    if character.isascii() or character in _KEPT:
        return character
    if character in _REPLACED:
        return _REPLACED[character]
    if character in _SPOKEN:
        return f" {_SPOKEN[character]} "
    category = unicodedata.category(character)
    if category.startswith("Z"):
        return " "
    if _is_emoji(character):
        return notes.emoji(character)
    if category in ("Cc", "Cf", "Mn", "Mc", "Me"):
        return ""
    folded = unicodedata.normalize("NFKD", character)
    plain = "".join(_REPLACED.get(c, c) for c in folded if not unicodedata.combining(c))
    if plain and all(c.isascii() or c in _KEPT or c == "/" for c in plain):
        return plain
    return _greek_name(character, text, index) or notes.unreadable(character)


def _greek_name(character: str, text: str, index: int) -> str:
    """A lone Greek letter is a formula's ("α particle"); Greek words cannot be read."""
    character = {"µ": "μ", "Ω": "Ω", "ϕ": "φ"}.get(character, character)
    match = re.fullmatch(r"GREEK (?:SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)", unicodedata.name(character, ""))
    beside = text[max(0, index - 1) : index] + text[index + 1 : index + 2]
    if not match or any(unicodedata.name(c, "").startswith("GREEK") for c in beside):
        return ""
    return f" {match[1].lower()} ".replace("lamda", "lambda")


def _vulgar_fraction(match: re.Match[str]) -> str:
    plain = unicodedata.normalize("NFKD", match[2]).replace("⁄", "/")
    return f"{match[1]} {plain}" if match[1] else plain


def _is_emoji(character: str) -> bool:
    code = ord(character)
    if character in _EMOJI_MODIFIERS or 0x1F000 <= code <= 0x1FAFF or 0xE0020 <= code <= 0xE007F:
        return True
    return 0x2190 <= code <= 0x2BFF and unicodedata.category(character) in ("So", "Sk", "Sm")


class _Notes:
    """What was left out of a text; what stands in its place is returned."""

    def __init__(self) -> None:
        self._emoji: dict[str, None] = {}
        self._unreadable: dict[str, str] = {}

    def emoji(self, character: str) -> str:
        """Note an emoji -> a space"""
        name = unicodedata.name(character, "").lower()
        if character not in _EMOJI_MODIFIERS and "emoji modifier" not in name:
            self._emoji[f"{character} ({name})" if name else character] = None
        return " "

    def emoticon(self, text: str) -> str:
        """Note an emoticon -> a space"""
        self._emoji[text] = None
        return " "

    def unreadable(self, character: str) -> str:
        """Note a character of a script that is not read -> a space"""
        script = unicodedata.name(character, "UNNAMED").split()[0].lower()
        self._unreadable[script] = self._unreadable.get(script, "") + character
        return " "

    def lines(self) -> list[str]:
        """One line for emoji, one for each script."""
        lines = [f"emoji left out: {', '.join(self._emoji)}"] if self._emoji else []
        for script, found in self._unreadable.items():
            lines.append(f"cannot be read, left out: {found} ({len(found)} {script} characters)")
        return lines
