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


def from_activity(
    active: np.ndarray, edges: np.ndarray, names: Sequence[str], max_pause: float, min_turn: float
) -> list[Turn]:
    """Who speaks in each frame, active (T, S) bool, and the T + 1 edges of the frames in seconds -> turns in order.

    Of each speaker pauses up to `max_pause` seconds are part of the turn, and turns shorter than `min_turn` are left
    out. Speakers may have the same name: their turns are joined where they touch.
    """
    turns = []
    for name in dict.fromkeys(names):
        said = active[:, [other == name for other in names]].any(axis=1)
        spans = join(
            edges[np.flatnonzero(np.diff(said.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)], max_pause
        )
        turns += [Turn(float(a), float(b), name) for a, b in spans if b - a >= min_turn - 1e-6]
    return sorted(turns)


def join(spans: np.ndarray, gap: float) -> np.ndarray:
    """Sorted spans (K, 2), those with at most `gap` seconds between them made one."""
    if not len(spans):
        return spans.reshape(0, 2)
    apart = np.flatnonzero(spans[1:, 0] - spans[:-1, 1] > gap + 1e-6)
    return np.stack([spans[np.r_[0, apart + 1], 0], spans[np.r_[apart, len(spans) - 1], 1]], axis=1)


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
