"""Addresses as they are read aloud: web, e-mail, handles, hashtags, file names."""

from __future__ import annotations

import re

_SPOKEN_DOMAINS = frozenset("com org net edu gov info biz name app dev shop blog news online site club int mil".split())
_SPELLED_DOMAINS = frozenset(
    "uk us eu de fr es it nl be ch at se no dk fi pl cz ie pt gr ru jp cn in au nz ca br mx za kr tr io ai tv me fm co "
    "ly gg".split()
)
_EXTENSIONS = frozenset(
    "txt pdf doc docx xls xlsx ppt csv json xml html htm css js py cpp exe zip tar gz jpg jpeg png gif svg mp3 mp4 wav "
    "flac ogg opus avi mov md yml yaml toml ini log".split()
)
_MARKS = {
    ".": "dot", "/": "slash", "-": "dash", "_": "underscore", "@": "at", ":": "colon", "?": "question mark",
    "=": "equals", "&": "and", "#": "hash", "%": "percent", "~": "tilde", "+": "plus",
}  # fmt: skip
_NAME = r"[A-Za-z0-9][A-Za-z0-9-]*"
_EMAIL = re.compile(rf"(?:mailto:)?([A-Za-z0-9][\w.+-]*@{_NAME}(?:\.{_NAME})+)")
_URL = re.compile(r"(?:https?|ftp)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\]]+", re.IGNORECASE)
_BARE = re.compile(
    rf"(?<![\w@./])(?:{_NAME}\.)+(?:{'|'.join(sorted(_SPOKEN_DOMAINS))}|[a-z]{{2,3}}\.uk|io|ai|tv|uk|de|fr|eu)"
    r"(?:/[^\s<>\"')\]]*)?(?![\w@])"
)
_FILE = re.compile(rf"(?<![\w@])([A-Za-z][\w-]*)\.({'|'.join(sorted(_EXTENSIONS, key=len, reverse=True))})\b")
_HANDLE = re.compile(r"(?<![\w@.])@(?=[A-Za-z]\w)")
_HIDDEN = re.compile(r"(?<![\w.'\")])\.(?=[A-Za-z][\w-]+)")  # ".venv"
_ATTRIBUTE = re.compile(r"(?<=[a-z_]{3})\.(?=[a-z_]{3})")  # "cloner.clone"
_NO_SPACE = re.compile(r"(?:(?<=[a-z]{3})|(?<=\d))([.?!])(?=[A-Z][a-z]+\b(?!\())")  # "The end.Next"
_HASHTAG = re.compile(r"(?<![\w#&])#([A-Za-z]\w*)")


def expand_addresses(text: str) -> str:
    """E-mail and web addresses, handles, hashtags and file names in words."""
    text = _EMAIL.sub(lambda m: _spoken(m[1]), text)
    text = _URL.sub(_address, text)
    text = _BARE.sub(_address, text)
    text = _FILE.sub(lambda m: f"{_spoken(m[1])} dot {_part(m[2], False)}", text)
    text = _HIDDEN.sub("dot ", text)
    text = _NO_SPACE.sub(r"\1 ", text)
    text = _ATTRIBUTE.sub(" dot ", text)
    text = _HANDLE.sub("at ", text)
    return _HASHTAG.sub(lambda m: f"hashtag {_words(m[1])}", text)


def _address(match: re.Match[str]) -> str:
    whole = match[0]
    address = whole.rstrip(".,;:!?")
    after = whole[len(address) :]
    return _spoken(re.sub(r"^(?:https?|ftp)://", "", address, flags=re.IGNORECASE).rstrip("/")) + after


def _spoken(address: str) -> str:
    parts = re.findall(r"[A-Za-z]+|\d+|[^A-Za-z\d]", address)
    words = []
    for index, part in enumerate(parts):
        after_dot = index > 0 and parts[index - 1] == "."
        words.append(_MARKS[part] if part in _MARKS else _part(part, after_dot))
    return " ".join(w for w in words if w)


def _part(part: str, after_dot: bool) -> str:
    if part.isdigit():
        return part if len(part) <= 2 and part[0] != "0" else " ".join(part)
    lower = part.lower()
    if lower in ("www", "http", "https", "html") or (after_dot and lower in _SPELLED_DOMAINS):
        return " ".join(lower.upper())
    if lower in _EXTENSIONS and not re.search("[aeiou]", lower):
        return " ".join(re.sub(r"(?<=\D)(?=\d)|(?<=\d)(?=\D)", "", lower).upper())
    return part.upper() if len(part) == 1 and part not in "ivxIVX" else _words(part)


def _words(part: str) -> str:
    """Camel case taken apart: "BlackFriday" -> "Black Friday"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", part).strip() if part.isalpha() or "_" in part else part
