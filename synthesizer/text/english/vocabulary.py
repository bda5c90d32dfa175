"""The word lists of the English reader (`words.toml`, `acronyms.toml`), read once."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from synthesizer.text.english.number_words import plural

_FILES = ("words.toml", "acronyms.toml")


def names(section: str) -> frozenset[str]:
    """A list of words."""
    return frozenset(_load()[section].split())


def table(section: str) -> dict[str, str]:
    """Short form -> words."""
    return dict(_load()[section])


def rows(section: str) -> dict[str, list[str]]:
    """Key -> several words."""
    return dict(_load()[section])


def pairs(section: str) -> dict[str, tuple[str, str]]:
    """Short form -> (singular, plural)."""
    return {
        key: (value, plural(value)) if isinstance(value, str) else (value[0], value[1])
        for key, value in _load()[section].items()
    }


def alternatives(words: Iterable[str]) -> str:
    """A regular expression for any of these words, the longest first."""
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


@cache
def _load() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _FILES:
        found |= tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    return found
