"""Turns as other programs read them, the names that people write, and the clock."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

import numpy as np

from diarization.turns import Turn
from utils.times import subtitle_clock


def clock(seconds: float, decimals: int = 0) -> str:
    """`h:mm:ss`, from an hour on; `m:ss` before."""
    whole = round(seconds * 10**decimals)
    minutes, rest = divmod(whole, 60 * 10**decimals)
    tail = f"{rest / 10**decimals:0{3 + decimals if decimals else 2}.{decimals}f}"
    return f"{minutes // 60}:{minutes % 60:02d}:{tail}" if minutes >= 60 else f"{minutes}:{tail}"


def display_name(file: str | Path) -> str:
    """The name of a recording without its ending, as a person wrote it: browsers send a quote as `%22`."""
    stem = Path(file).stem
    try:
        return unquote(stem, errors="strict")
    except UnicodeDecodeError:
        return stem


def to_csv(turns: Iterable[Turn]) -> str:
    """A line a turn under `start,stop,speaker`, in seconds; names with commas, quotes or line ends are quoted."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("start", "stop", "speaker"))
    writer.writerows((f"{turn.start:.3f}", f"{turn.stop:.3f}", turn.speaker) for turn in turns)
    return out.getvalue()


def to_srt(turns: Iterable[Turn]) -> str:
    """Subtitles (SubRip) that name who speaks."""
    return "\n".join(
        f"{i}\n{subtitle_clock(turn.start, ',')} --> {subtitle_clock(turn.stop, ',')}\n{turn.speaker}\n"
        for i, turn in enumerate(turns, start=1)
    )


def silence(turns: Sequence[Turn], seconds: float) -> tuple[float, float]:
    """Seconds in which nobody speaks, and in which two or more do."""
    if not turns:
        return seconds, 0.0
    edges = np.array([edge for turn in turns for edge in ((turn.start, 1), (turn.stop, -1))])
    edges = edges[np.lexsort((edges[:, 1], edges[:, 0]))]
    lengths, speaking = np.diff(edges[:, 0]), np.cumsum(edges[:-1, 1])
    return max(0.0, seconds - float(lengths[speaking > 0].sum())), float(lengths[speaking > 1].sum())
