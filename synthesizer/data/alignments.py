"""Forced alignments (phones with times) as the tokens and durations that a synthesizer learns from.

A file holds one JSON object a line: {"id", "score", "words": [[word, start, length], ...],
"phones": [[ARPAbet phone, start, length], ...]} in frames of 10 ms; "" and SIL are silence.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from synthesizer.features import FRAME_SECONDS, LONGEST_PAUSE_SECONDS, MARGIN_SECONDS, sound_bounds
from synthesizer.text.symbols import PAUSE, SILENCE, WORD_BOUNDARY
from utils.errors import CloningError

PARTS = ("words", "phones")
SHORTEST_PAUSE = 5  # alignment frames; less is the closure of a plosive


@dataclass(frozen=True)
class AlignedSymbols:
    """Symbols and their edges in seconds: symbol i lasts from edges[i] to edges[i + 1]."""

    symbols: list[str]
    edges: np.ndarray  # (N + 1,)


def read_alignments(paths: Iterable[str | Path]) -> dict[str, dict[str, Any]]:
    """All alignments of some .jsonl or .jsonl.gz files by utterance id."""
    found: dict[str, dict[str, Any]] = {}
    for path in map(Path, paths):
        if not path.is_file():
            raise CloningError(f"{path}: no such alignment file")
        try:
            with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as f:
                rows = [json.loads(line) for line in f if line.strip()]
            found.update((row["id"], row) for row in rows)
        except (json.JSONDecodeError, KeyError, TypeError, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise CloningError(f"{path}: not an alignment file (JSON lines with id, words, phones): {error}") from error
    return found


def at_speed(row: dict[str, Any], speed: float) -> dict[str, Any]:
    """The alignment of the same speech played `speed` times as fast."""
    return {
        **row,
        **{part: [[name, start / speed, length / speed] for name, start, length in row[part]] for part in PARTS},
    }


def symbols_of(row: dict[str, Any], seconds: float) -> AlignedSymbols:
    """SIL, then phones with exactly one of pause or word boundary between words, then SIL.

    Edges are ascending, from 0 to `seconds`; boundaries take no time, and so do silences that are not there.
    """
    phones = sorted(((start, phone.rstrip("012")) for phone, start, _ in row["phones"]), key=lambda item: item[0])
    if not any(phone != SILENCE for _, phone in phones):
        raise CloningError(f"empty alignment: {row['id']} holds no phones")
    phones = _without_short_silences(phones, round(seconds / FRAME_SECONDS))
    word_starts = _first_phones([start for word, start, _ in row["words"] if word and word != SILENCE], phones)
    symbols, starts = [SILENCE], [0]
    last = max(i for i, (_, phone) in enumerate(phones) if phone != SILENCE)
    for index, (start, phone) in enumerate(phones[: last + 1]):
        if phone == SILENCE:
            if len(symbols) > 1:
                symbols.append(PAUSE)
                starts.append(start)
            continue
        if index in word_starts and len(symbols) > 1 and symbols[-1] != PAUSE:
            symbols.append(WORD_BOUNDARY)
            starts.append(start)
        symbols.append(phone)
        starts.append(start)
    symbols.append(SILENCE)
    starts.append(phones[last + 1][0] if last + 1 < len(phones) else round(seconds / FRAME_SECONDS))
    edges = np.array([*starts, 0], dtype=float) * FRAME_SECONDS
    edges[-1] = seconds
    return AlignedSymbols(symbols, np.maximum.accumulate(np.minimum(edges, seconds)))


def _without_short_silences(phones: list[tuple[int, str]], end: int) -> list[tuple[int, str]]:
    """Neighboring silences joined, and those too short to be a pause given to the phone before them."""
    joined: list[tuple[int, str]] = []
    for start, phone in phones:
        if phone != SILENCE or not joined or joined[-1][1] != SILENCE:
            joined.append((start, phone))
    ends = [start for start, _ in joined[1:]] + [end]
    return [
        (start, phone)
        for i, ((start, phone), stop) in enumerate(zip(joined, ends, strict=True))
        if phone != SILENCE or stop - start >= SHORTEST_PAUSE or i == 0
    ]


def _first_phones(word_starts: list[int], phones: list[tuple[int, str]]) -> set[int]:
    """For each word the index of the phone that starts nearest to it: words and phones come from two passes."""
    spoken = [(start, i) for i, (start, phone) in enumerate(phones) if phone != SILENCE]
    starts = np.array([start for start, _ in spoken])
    return {spoken[int(np.abs(starts - word).argmin())][1] for word in word_starts}


def cut_to(samples: np.ndarray, row: dict[str, Any], rate: int) -> tuple[np.ndarray, AlignedSymbols]:
    """Speech (T,) as a synthesizer learns from it, silences at its ends and long pauses cut, and its symbols in time.

    Raises CloningError as `symbols_of`.
    """
    aligned = shorten_ends(samples, symbols_of(row, len(samples) / rate), rate)
    return cap_silences(samples, aligned, rate, LONGEST_PAUSE_SECONDS, MARGIN_SECONDS)


def cap_silences(
    samples: np.ndarray, aligned: AlignedSymbols, rate: int, longest: float = 0.3, margin: float = 0.1
) -> tuple[np.ndarray, AlignedSymbols]:
    """Cut the middle out of pauses longer than `longest` s, and silence at the ends down to `margin` s."""
    edges = np.round(aligned.edges * rate).astype(int)
    edges[-1] = len(samples)
    parts, lengths = [], []
    for i, symbol in enumerate(aligned.symbols):
        part = samples[edges[i] : edges[i + 1]]
        if symbol == SILENCE:
            size = round(margin * rate)
            part = part[max(0, len(part) - size) :] if i == 0 else part[:size]
        elif symbol == PAUSE and len(part) > longest * rate:
            part = join(part[: round(longest * rate / 2)], part[-round(longest * rate / 2) :], round(0.01 * rate))
        parts.append(part)
        lengths.append(len(part))
    new_edges = np.concatenate([[0], np.cumsum(lengths)]) / rate
    return np.concatenate(parts), AlignedSymbols(aligned.symbols, new_edges)


def join(left: np.ndarray, right: np.ndarray, overlap: int) -> np.ndarray:
    """Two stretches of sound, cross-faded over `overlap` samples so that the cut does not click."""
    overlap = min(overlap, len(left), len(right))
    fade = (np.arange(overlap, dtype=np.float32) + 0.5) / max(1, overlap)
    middle = left[len(left) - overlap :] * (1 - fade) + right[:overlap] * fade
    return np.concatenate([left[: len(left) - overlap], middle, right[overlap:]])


def frame_durations(aligned: AlignedSymbols, rate: int, hop: int, frames: int) -> np.ndarray:
    """Edges to durations in mel frames (N,) int16, which sum to `frames`: frame k belongs to the symbol at k * hop."""
    edges = np.ceil(np.round(aligned.edges * rate) / hop).astype(int).clip(0, frames)
    edges[0], edges[-1] = 0, frames
    return np.diff(edges).astype(np.int16)


def shorten_ends(samples: np.ndarray, aligned: AlignedSymbols, rate: int, drop_db: float = 45.0) -> AlignedSymbols:
    """Silence that the aligner gave to the first or last phone is given to the silence beside it."""
    first, last = sound_bounds(samples, rate, drop_db)
    edges = aligned.edges.copy()
    edges[1] = np.clip(first, edges[1], max(edges[1], edges[2] - 0.03))  # a phone keeps 30 ms
    edges[-2] = np.clip(last, min(edges[-2], edges[-3] + 0.03), edges[-2])
    return AlignedSymbols(aligned.symbols, np.maximum.accumulate(edges))
