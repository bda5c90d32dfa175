"""Words that are spelled alike and said apart: rules on their neighbors (`heteronyms.toml`)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

REACH = 4  # words and marks on either side


class _Rule(NamedTuple):
    phones: tuple[str, ...]
    before: re.Pattern[str]
    after: re.Pattern[str]


def choose(words: Sequence[str], index: int) -> tuple[str, ...]:
    """The phones of `words[index]`, a word of a sentence with its marks, as its neighbors tell; () when none do."""
    found = _load()
    word = words[index].lower()
    if word not in found.usual and word not in found.rules:
        return ()
    before = _sentence(words, index)
    if word in found.names and words[index][0].isupper() and before[-1:] != ["<s>"]:
        return found.names[word]
    after = " ".join(words[index + 1 : index + 1 + REACH]).lower()
    for rule in found.rules.get(word, ()):
        if rule.before.search(" ".join(before)) and rule.after.match(after):
            return rule.phones
    return found.usual.get(word, ())


def _sentence(words: Sequence[str], index: int) -> list[str]:
    """The words before in small letters, as far as the sentence goes; "<s>" is its start."""
    start = index
    while start > 0 and index - start < REACH and words[start - 1] not in (".", "?", "!", ":", ";"):
        start -= 1
    return [*(["<s>"] if index - start < REACH else []), *(word.lower() for word in words[start:index])]


class _Heteronyms(NamedTuple):
    usual: dict[str, tuple[str, ...]]
    names: dict[str, tuple[str, ...]]
    rules: dict[str, list[_Rule]]


@cache
def _load() -> _Heteronyms:
    found = tomllib.loads(Path(__file__).with_name("heteronyms.toml").read_text(encoding="utf-8"))
    lists = re.compile("|".join(found["lists"]))

    def expand(pattern: str) -> str:
        return lists.sub(lambda m: f"(?:{found['lists'][m[0]]})", pattern)

    usual = {word: tuple(phones.split()) for word, phones in found["usual"].items()}
    names = {word: tuple(phones.split()) for word, phones in found["names"].items()}
    rules = {}
    for word, table in found["rules"].items():
        rules[word] = [
            _Rule(
                tuple(phones.split()),
                re.compile(rf"(?:^|\s)(?:{expand(before)})$" if before else ""),
                re.compile(rf"(?:{expand(after)})(?![\w'])" if after else ""),
            )
            for phones, before, after in table
        ]
    return _Heteronyms(usual, names, rules)
