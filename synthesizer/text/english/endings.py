"""Whether a dot that belongs to a short form also ends its sentence."""

from __future__ import annotations

import re

from synthesizer.text.english.vocabulary import names

_STARTERS = names("starters")
_FOLLOWING = re.compile(r"[\"')\]]*(?:(\s*)$|\s+[\"'(\[]*([A-Z][A-Za-z']*)?)")


def starts_sentence(word: str) -> bool:
    """Whether a word with a capital begins a sentence rather than a name."""
    return word in _STARTERS or word.partition("'")[0] in (
        "I",
        "It",
        "He",
        "She",
        "We",
        "They",
        "You",
        "That",
        "There",
        "Mr",
        "Mister",
        "Mrs",
        "Missus",
        "Ms",
        "Dr",
        "Doctor",
        "Prof",
        "Professor",
    )


def ends_sentence(text: str, position: int, *, by_capital: bool = False) -> bool:
    """Whether the sentence ends at `position`: nothing follows, or a word that begins one.

    by_capital: any word with a capital begins one, for short forms that stand before no names ("etc.").
    """
    following = _FOLLOWING.match(text, position)
    if following is None:
        return False
    if following[1] is not None:
        return True
    word = following[2]
    return word is not None and (by_capital or starts_sentence(word))


def full_stop(match: re.Match[str], *, by_capital: bool = False) -> str:
    """ "." when the dot at the end of a match is also the end of its sentence, else ""."""
    return "." if ends_sentence(match.string, match.end(), by_capital=by_capital) else ""
