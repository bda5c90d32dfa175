"""Better texts than a corpus has, by the ids of its clips: with their punctuation, say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from utils.data.corpora.scanning import Clip
from utils.errors import CloningError


def read_texts(path: Path) -> dict[str, str]:
    """Texts by id, from lines `id<tab>text`. Raises CloningError for a file that is missing or has other lines."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CloningError(f"{path}: cannot read the texts: {error}") from error
    texts = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        id, _, text = (part.strip() for part in line.partition("\t"))
        if not (id and text):
            raise CloningError(f"{path}, line {number}: {line[:60]!r} is not an id, a tab and a text")
        texts[id] = " ".join(text.split())
    return texts


def text_of(clip: Clip, texts: Mapping[str, str]) -> str | None:
    """What `texts` has for a clip's id or, without its suffix, its file's name; else the corpus's own."""
    return texts.get(clip.id) or texts.get(clip.path.stem) or clip.text


def with_texts(clips: Iterable[Clip], texts: Mapping[str, str]) -> list[Clip]:
    """Clips with `text_of` as their text. Raises CloningError when none is in `texts`."""
    clips = list(clips)
    if texts.keys().isdisjoint(name for clip in clips for name in (clip.id, clip.path.stem)):
        raise CloningError(f"none of the {len(texts)} texts is of any of the {len(clips)} clips, such as {clips[0].id}")
    return [replace(clip, text=text_of(clip, texts)) for clip in clips]
