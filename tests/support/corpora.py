"""Folders as a scan sees them, names alone; and a spoken one, whose phones are known."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.vocoder_set import voice
from utils.audio.io import Waveform, write
from utils.data.corpora import Clip, Scan

SPEAKERS = ("ann", "ben", "cat", "dan", "eve", "fay")


def make(root: Path, *paths: str) -> None:
    """Write a short tone to each of `paths`; a path that ends in "=text" is a text file."""
    for entry in paths:
        name, equals, text = entry.partition("=")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if equals:
            path.write_text(text, encoding="utf-8")
        else:
            path.write_bytes(b"")  # a scan reads names only


def by_id(found: Scan) -> dict[str, Clip]:
    return {clip.id: clip for clip in found.clips}


def speak(root: Path) -> None:
    """Two clips of each of SPEAKERS in root/corpus, with their text, and root/alignments.jsonl."""
    rows = []
    for number, name in enumerate(SPEAKERS):
        (root / "corpus" / name).mkdir(parents=True)
        for take in "ab":
            write(root / "corpus" / name / f"{name}{take}.wav", Waveform(voice(1.5, number), 16000))
            (root / "corpus" / name / f"{name}{take}.txt").write_text("See it.", encoding="utf-8")
            phones = [["SIL", 0, 10], ["S", 10, 30], ["IY", 40, 30], ["IH", 70, 30], ["T", 100, 40], ["SIL", 140, 10]]
            words = [["", 0, 10], ["see", 10, 60], ["it", 70, 70], ["", 140, 10]]
            rows.append({"id": f"{name}{take}", "score": 1.0, "words": words, "phones": phones})
    (root / "alignments.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
