"""Scripts: who says what, line by line.

    [ann] Hello.
    [ben|happy] Hello, Ann!
    And this is said by Ben too, without the emotion.
    [pause 0.8]

A line without a name is said by whoever spoke before. Lines are known by their number in the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from utils.errors import CloningError

PAUSE_SECONDS = 0.45  # between two lines
LONGEST_PAUSE = 600.0  # seconds
LONG = 10_000  # characters that one clone says at most; longer texts are made in parts
_TAG = re.compile(r"\[([^\[\]]*)\]\s*(.*)", re.DOTALL)
_PAUSE = re.compile(r"\[\s*pause\b([^\[\]|]*)\]?", re.IGNORECASE)


@dataclass(frozen=True)
class Line:
    """What one voice says; `voice` "" is the narrator's; `pause`: seconds of silence after it."""

    number: int
    voice: str
    emotion: str | None
    text: str
    pause: float = PAUSE_SECONDS


def parse(text: str, name: str = "the script") -> list[Line]:
    """The lines that are spoken. Raises CloningError, with the line's number, for what makes no sense, and for a script
    in which nothing is said."""
    lines: list[Line] = []
    voice, paused = "", False
    for number, row in enumerate(text.splitlines(), 1):
        where, row = f"{name} line {number}", row.strip()
        if not row:
            continue
        if found := _PAUSE.fullmatch(row):
            seconds = _seconds(found[1], where)
            if lines:
                before = lines[-1].pause if paused else 0.0
                lines[-1], paused = replace(lines[-1], pause=before + seconds), True
            continue
        emotion: str | None = None
        if row.startswith("["):
            voice, emotion, row = _tagged(row, where)
        if not row:
            raise CloningError(f"{where}: {voice} says nothing: write the words after the name, in the same line")
        if len(row) > LONG:
            raise CloningError(f"{where}: {len(row)} characters; a line has at most {LONG}: break it up")
        lines.append(Line(number, voice, emotion, row))
        paused = False
    if not lines:
        raise CloningError(f"{name}: nothing is said in it; write lines such as [ann] Hello.")
    return lines


def _seconds(text: str, where: str) -> float:
    """The seconds of a pause, such as "0.8" or "1 s"."""
    try:
        seconds = float(re.sub(r"\s*s$", "", text.strip(), flags=re.IGNORECASE))
    except ValueError:
        raise CloningError(f"{where}: a pause of {text.strip()!r}: give seconds, such as [pause 0.8]") from None
    if not 0 <= seconds <= LONGEST_PAUSE:
        raise CloningError(f"{where}: a pause of {seconds:g} s; it may be 0 to {LONGEST_PAUSE:g} s")
    return seconds


def _tagged(row: str, where: str) -> tuple[str, str | None, str]:
    """Voice, emotion and words of `[ann|happy] Hello.`"""
    found = _TAG.fullmatch(row)
    if not found:
        raise CloningError(f"{where}: its [ has no ]: a line begins with [name], [name|emotion] or [pause seconds]")
    voice, bar, emotion = (part.strip() for part in found[1].partition("|"))
    if not voice or (bar and not emotion):
        raise CloningError(f"{where}: [{found[1]}] is not [name], [name|emotion] or [pause seconds]")
    return voice, emotion or None, found[2].strip()
