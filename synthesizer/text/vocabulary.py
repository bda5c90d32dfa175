"""The word lists of the English reader (`english.toml`), read once."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from synthesizer.text.number_words import plural

_PATH = Path(__file__).with_name("english.toml")


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


@cache
def _load() -> dict[str, Any]:
    return tomllib.loads(_PATH.read_text(encoding="utf-8"))
