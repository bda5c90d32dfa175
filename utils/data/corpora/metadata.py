"""The list of a one-voice corpus: `metadata.csv`, a line a recording, beside the recordings or a folder `wavs` of them.

LJSpeech's form `name|text|text with numbers spelled out`, without a header; or tabs or commas, then with a header or
without. A name may have folders and a suffix, or not.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from utils.data.corpora.transcripts import one_line

LISTINGS = ("metadata.csv", "metadata.tsv", "metadata.txt")
_NAME_COLUMNS = ("file_name", "filename", "file", "path", "audio", "audio_file", "wav", "wav_filename", "id", "name")
_TEXT_COLUMNS = ("normalized_text", "normalized_transcription", "text", "transcription", "transcript", "sentence")
_TEXTS = [2, 1]  # columns without a header: the first that is there and not empty counts
_MISSING, _TWICE, _EMPTY = "no recording of that name", "a name that stood there before", "a name without a text"


class Listing:
    """The texts of one such file, and by line what is wrong with it."""

    def __init__(self, path: Path, content: str, suffixes: Iterable[str]) -> None:
        """`content`: what stands in the file; `suffixes`: those of recordings, which names may carry."""
        self.path = path
        self._suffixes = tuple(suffixes)
        self._rows: dict[str, tuple[int, str]] = {}  # name -> line, text
        self._faults: dict[str, list[int]] = defaultdict(list)
        self._used: set[str] = set()
        for line, name, text in _rows(content):
            if text is None:
                self._faults[_EMPTY].append(line)
            elif self._rows.setdefault(self._plain(name), (line, text))[0] != line:
                self._faults[_TWICE].append(line)

    def text(self, recording: Path) -> str | None:
        """What is said in `recording`, a file in this folder or below it."""
        key = self._key(recording)
        if key is None:
            return None
        self._used.add(key)
        return self._rows[key][1]

    def names(self, recording: Path) -> bool:
        """Whether `recording`, a file in this folder or below it, is on the list."""
        return self._key(recording) is not None

    def _key(self, recording: Path) -> str | None:
        parts = PurePosixPath(self._plain(recording.relative_to(self.path.parent).as_posix())).parts
        tails = ("/".join(parts[start:]) for start in range(len(parts)))  # wavs/a/001, a/001, 001
        return next((tail for tail in tails if tail in self._rows), None)

    def faults(self) -> list[tuple[Path, str]]:
        """Once all recordings were asked for: places such as `metadata.csv:3,7`, each with what is wrong there."""
        unused = [line for name, (line, _) in self._rows.items() if name not in self._used]
        faults = {**self._faults, _MISSING: unused}
        return [
            (self.path.with_name(f"{self.path.name}:{','.join(map(str, lines))}"), reason)
            for reason, lines in faults.items()
            if lines
        ]

    def _plain(self, name: str) -> str:
        name = name.strip().replace("\\", "/").removeprefix("./")
        suffix = PurePosixPath(name).suffix
        return name.removesuffix(suffix) if suffix.lower() in self._suffixes else name


def _rows(text: str) -> Iterable[tuple[int, str, str | None]]:
    """(line number from 1, name, text or None) of every line that is not empty."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    separator = next((mark for mark in "|\t" if lines and mark in lines[0][1]), ",")
    texts = _TEXTS
    for place, (number, line) in enumerate(lines):
        cells = [cell.strip() for cell in _cells(line, separator)]
        if place == 0 and cells[0].lower() in _NAME_COLUMNS:
            header = [cell.lower() for cell in cells]
            texts = [header.index(name) for name in _TEXT_COLUMNS if name in header] or _TEXTS
            separator = "quoted" if separator == "," else separator
            continue
        transcripts = (cells[i] for i in texts if i < len(cells) and cells[i])
        yield number, cells[0], one_line(next(transcripts, ""))


def _cells(line: str, separator: str) -> list[str]:
    if separator in ("|", "\t"):
        return line.split(separator)  # quotation marks are the text's own
    if separator == "," and '"' not in line:
        return line.split(",", 1)  # other commas are the text's own
    try:
        return next(csv.reader(io.StringIO(line)))
    except csv.Error:  # a field of more than 131,072 characters
        return line.split(",", 1)
