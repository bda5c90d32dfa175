"""Turns of speech: from frames to turns, talk time, and RTTM (NIST's rich transcription time marks) in and out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from utils.errors import CloningError
from utils.times import rttm_line


@dataclass(frozen=True, order=True)
class Turn:
    """`speaker` talks from `start` to `stop`, in seconds."""

    start: float
    stop: float
    speaker: str

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.stop - self.start


def from_frames(edges: np.ndarray, labels: np.ndarray, stretch: np.ndarray, names: Sequence[str]) -> list[Turn]:
    """Frames (F,) of `edges` (F, 2) in seconds, `labels` into `names`, in stretches of speech -> turns in order.

    Neighboring frames of one speaker in one stretch are one turn.
    """
    if not len(labels):
        return []
    new = np.flatnonzero((np.diff(labels) != 0) | (np.diff(stretch) != 0)) + 1
    first, last = np.r_[0, new], np.r_[new - 1, len(labels) - 1]
    return [Turn(float(edges[a, 0]), float(edges[b, 1]), names[labels[a]]) for a, b in zip(first, last, strict=True)]


def absorb_short(turns: Sequence[Turn], shortest: float) -> list[Turn]:
    """Turns shorter than `shortest` go to the neighbor that they touch: the one that speaks on both sides, else the
    longer. One that touches none stays: somebody did say something."""
    turns = _join(sorted(turns))
    while True:
        short = [i for i, turn in enumerate(turns) if turn.seconds < shortest - 1e-6 and _touching(turns, i)]
        if not short:
            return turns
        i = min(short, key=lambda i: turns[i].seconds)
        heir = max(_touching(turns, i), key=lambda j: turns[j].seconds)
        turns[i] = Turn(turns[i].start, turns[i].stop, turns[heir].speaker)
        turns = _join(turns)


def talk_time(turns: Iterable[Turn]) -> dict[str, tuple[float, int]]:
    """Seconds and number of turns of each speaker, who talks most first."""
    found: dict[str, tuple[float, int]] = {}
    for turn in turns:
        seconds, count = found.get(turn.speaker, (0.0, 0))
        found[turn.speaker] = (seconds + turn.seconds, count + 1)
    return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))


def to_rttm(turns: Iterable[Turn], recording: str) -> str:
    """One line a turn: `SPEAKER <recording> 1 <start> <seconds> <NA> <NA> <speaker> <NA> <NA>`, white space as `_`."""
    return "".join(rttm_line(recording, turn.start, turn.seconds, turn.speaker) for turn in turns)


def read_rttm(path: str | Path) -> dict[str, list[Turn]]:
    """The turns of each recording in a file; lines of other types are passed over.

    Raises CloningError for a file that cannot be read, and for a SPEAKER line that is not one.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CloningError(f"{path}: cannot be read as RTTM: {error}") from error
    found: dict[str, list[Turn]] = {}
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            start, seconds, speaker = float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError) as error:
            raise CloningError(f"{path}, line {number}: not RTTM: {line[:60]!r}") from error
        found.setdefault(fields[1], []).append(Turn(start, start + seconds, speaker))
    return {recording: sorted(turns) for recording, turns in found.items()}


def _touching(turns: Sequence[Turn], i: int) -> list[int]:
    before = [i - 1] if i > 0 and turns[i].start - turns[i - 1].stop < 1e-6 else []
    after = [i + 1] if i + 1 < len(turns) and turns[i + 1].start - turns[i].stop < 1e-6 else []
    return before + after


def _join(turns: Sequence[Turn]) -> list[Turn]:
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].speaker == turn.speaker and turn.start - joined[-1].stop < 1e-6:
            joined[-1] = Turn(joined[-1].start, turn.stop, turn.speaker)
        else:
            joined.append(turn)
    return joined
