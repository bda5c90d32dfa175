"""What was said: the transcript files of the corpora, each read once and kept for the folders around it."""

from __future__ import annotations

import csv
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

Table = dict[str, str]
LARGEST_TABLE = 4 * 2**30  # bytes; Common Voice's largest has half a gigabyte
_KEPT = 64  # tables in memory: LibriSpeech has one a chapter (5,831 of them), walked folder by folder


class Transcripts:
    """Reads texts, and keeps a few tables of them (utterance name -> text).

    `refuse(path)` says why a file may not be read, or None; `left_out` lists such files and those that cannot be read.
    """

    def __init__(self, refuse: Callable[[Path], str | None] = lambda path: None) -> None:
        self.left_out: dict[Path, str] = {}
        self._refuse = refuse
        self._tables: OrderedDict[tuple[Path, ...], dict[str, str]] = OrderedDict()

    def table(self, paths: Iterable[Path], parse: Callable[[str], Table]) -> Table:
        """The entries of all `paths` that exist, taken together; empty when none does."""
        key = tuple(paths)
        if key in self._tables:
            self._tables.move_to_end(key)
            return self._tables[key]
        table: Table = {}
        for path in key:
            if path.is_file():
                try:
                    table.update(parse(self.read(path, LARGEST_TABLE)))
                except csv.Error as error:
                    self.left_out[path] = f"no table of texts: {error}"
        self._tables[key] = table
        if len(self._tables) > _KEPT:
            self._tables.popitem(last=False)
        return table

    def read(self, path: Path, most: int = 2**20) -> str:
        """A text of at most so many bytes; "" for one that is left out."""
        reason = self._refuse(path)
        try:
            if reason is None and (size := path.stat().st_size) > most:
                reason = f"too long for a text: {size} bytes, at most {most}"
            if reason is None:
                return read_text(path)
        except OSError as error:
            reason = f"cannot be read: {error.strerror or error}"
        self.left_out[path] = reason
        return ""


def read_text(path: Path) -> str:
    """A text file in UTF-8, in UTF-16 with a mark (some files of ESD), or else in Windows' Latin-1."""
    data = path.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def one_line(text: str) -> str | None:
    """The text of a one-utterance file with its white space collapsed; None when nothing is left."""
    return " ".join(text.split()) or None


def first_word_is_name(text: str) -> Table:
    """`name text`, separated by white space: LibriSpeech's `.trans.txt`, Kaldi's `text`."""
    rows = (line.split(maxsplit=1) for line in text.splitlines())
    return {row[0]: row[1].strip() for row in rows if len(row) == 2}


def ljspeech(text: str) -> Table:
    """`name|text|text with numbers spelled out`: the last one, which is what was read, where it is there."""
    rows = (line.split("|") for line in text.splitlines() if "|" in line)
    return {Path(row[0].strip()).stem: (row[2:3] or [""])[0].strip() or row[1].strip() for row in rows}


def esd(text: str) -> Table:
    """`0011_000001<tab>text<tab>Emotion`."""
    rows = (re.split(r"\t+", line.strip()) for line in text.splitlines())
    return {row[0].strip(): row[1].strip() for row in rows if len(row) >= 2}


def an4(text: str) -> Table:
    """`<s> SIX TWO </s> (an406-fcaw-b)`."""
    found = re.findall(r"^(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\(([\w-]+)\)\s*$", text, flags=re.MULTILINE)
    return {name: words for words, name in found}


def common_voice(text: str) -> Table:
    """Common Voice's tsv: file stem -> `client id<tab>sentence`."""
    # QUOTE_NONE: the sentences hold lone quotation marks
    rows = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    return {
        Path(row["path"]).stem: f"{row['client_id']}\t{row.get('sentence') or ''}"
        for row in rows
        if row.get("path") and row.get("client_id")
    }
