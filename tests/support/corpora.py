"""Folders as a scan sees them: names alone."""

from __future__ import annotations

from pathlib import Path

from utils.data.corpora import Clip, Scan


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
