"""When each sentence, word and phone of speech is said, as files: SRT, WebVTT, TextGrid, JSON, RTTM."""

from __future__ import annotations

import html
import json
import os
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import CloningError, missing_package
from utils.files import atomic_path, user_path

LINE_CHARACTERS, CUE_CHARACTERS = 42, 84  # of a subtitle: two lines
DIGITS = 5  # of seconds: 10 microseconds


class Span(NamedTuple):
    """What is said from `start` to `stop`, in seconds of the audio."""

    text: str
    start: float
    stop: float


@dataclass(frozen=True)
class Times:
    """Sentences, words and phones (ARPAbet; none for a synthesizer that reads letters), each in the order of speech.

    A sentence lasts from its first word to the end of its last. `seconds`: of the whole audio.
    """

    sentences: tuple[Span, ...]
    words: tuple[Span, ...]
    phones: tuple[Span, ...]
    seconds: float

    def shifted(self, seconds: float) -> Times:
        """The same speech when it begins `seconds` later."""
        moved = {
            name: tuple(Span(s.text, s.start + seconds, s.stop + seconds) for s in getattr(self, name))
            for name in ("sentences", "words", "phones")
        }
        return replace(self, **moved, seconds=self.seconds + seconds)

    def until(self, seconds: float) -> Times:
        """What is said before: of audio that ends then."""
        heard = {
            name: tuple(s._replace(stop=min(s.stop, seconds)) for s in getattr(self, name) if s.start < seconds)
            for name in ("sentences", "words", "phones")
        }
        return replace(self, **heard, seconds=seconds)

    def report(self) -> dict[str, Any]:
        """For machines: what a .json file holds."""
        spans = {
            name: [
                {"text": s.text, "start": round(s.start, DIGITS), "stop": round(s.stop, DIGITS)}
                for s in getattr(self, name)
            ]
            for name in ("sentences", "words", "phones")
        }
        return {"seconds": round(self.seconds, DIGITS), **spans}

    def save(self, path: str | os.PathLike, speaker: str = "speech") -> Path:
        """Write a file of the kind that the suffix names (`KINDS`), atomically.

        speaker: who speaks, for RTTM. Raises CloningError: another suffix, a package is missing, cannot be written.
        """
        path = require_suffix(path)
        text = KINDS[path.suffix.lower()](self, path.stem, speaker)
        with atomic_path(path) as partial:
            partial.write_bytes(text.encode())
        return path


def require_suffix(path: str | os.PathLike) -> Path:
    """`path`, when its suffix is a kind that can be written here. Raises CloningError: no such kind, no package."""
    path = user_path(path)
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise CloningError(f"{path}: times are written as {', '.join(KINDS)}: give the file one of these endings")
    package = {".srt": "srt", ".textgrid": "praatio"}.get(kind)
    if package and find_spec(package) is None:
        raise missing_package(package, f"writing {path.name}", "requirements.txt")
    return path


def cues(times: Times) -> Iterator[tuple[Span, list[tuple[float, str]]]]:
    """Subtitles of at most CUE_CHARACTERS, cut between words, best after a mark.

    With each, its parts: the second at which a word begins, and the word with the marks around it.
    """
    for sentence in times.sentences:
        words = [w for w in times.words if sentence.start <= w.start and w.stop <= sentence.stop]
        parts = _parts(sentence, words)
        while parts:
            count = _fitting([text for _, text in parts])
            stop = sentence.stop if count == len(parts) else parts[count][0]
            ends = [w.stop for w in words if w.start < stop]
            text = "".join(text for _, text in parts[:count]).strip()
            yield Span(text, parts[0][0], max(ends, default=stop)), parts[:count]
            parts = parts[count:]


def _parts(sentence: Span, words: list[Span]) -> list[tuple[float, str]]:
    """The text of a sentence, cut where its words begin."""
    text, place = sentence.text.replace("’", "'"), 0
    starts: list[int] = []
    for word in words:
        place = text.find(word.text.replace("’", "'"), place)
        if place < 0:
            return [(sentence.start, sentence.text)]
        before = text[:place]
        starts.append(len(before.rstrip("\"'“‘([")) if starts else 0)
        place += len(word.text)
    if not words:
        return [(sentence.start, sentence.text)]
    ends = [*starts[1:], len(text)]
    return [(w.start, sentence.text[a:b]) for w, a, b in zip(words, starts, ends, strict=True)]


def _fitting(texts: list[str]) -> int:
    """How many of the parts of a sentence go into one subtitle."""
    lengths = [len("".join(texts[: i + 1]).strip()) for i in range(len(texts))]
    if lengths[-1] <= CUE_CHARACTERS:
        return len(texts)
    count = max(1, sum(length <= CUE_CHARACTERS for length in lengths))
    marked = [i + 1 for i in range(count) if re.search(r"[,;:.!?]\W*$", texts[i]) and lengths[i] > CUE_CHARACTERS / 3]
    spaced = [i + 1 for i in range(count) if texts[i][-1:].isspace()]
    return max(marked or spaced or [count])


def _srt(times: Times, name: str, speaker: str) -> str:
    import srt

    return srt.compose(
        srt.Subtitle(index, timedelta(seconds=cue.start), timedelta(seconds=cue.stop), _lines(cue.text))
        for index, (cue, _) in enumerate(cues(times), start=1)
    )


def _vtt(times: Times, name: str, speaker: str) -> str:
    """Each word with the time at which it begins, so that players can follow it."""
    blocks = ["WEBVTT"]
    for cue, parts in cues(times):
        (_, first), *others = parts
        text = html.escape(first, quote=False) + "".join(
            f"<{subtitle_clock(start)}>{html.escape(part, quote=False)}" for start, part in others
        )
        blocks.append(f"{subtitle_clock(cue.start)} --> {subtitle_clock(cue.stop)}\n{text.strip()}")
    return "\n\n".join(blocks) + "\n"


def _textgrid(times: Times, name: str, speaker: str) -> str:
    """Tiers of sentences, words and phones; what takes no time, at a fast rate, is left out."""
    import tempfile

    from praatio import textgrid

    grid = textgrid.Textgrid(0, times.seconds)
    for tier in ("sentences", "words", "phones"):
        spans = [(round(s.start, DIGITS), round(s.stop, DIGITS), s.text) for s in getattr(times, tier)]
        if spans := [span for span in spans if span[0] < span[1]]:
            grid.addTier(textgrid.IntervalTier(tier, spans, 0, times.seconds))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "times.TextGrid"
        grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")


def _json(times: Times, name: str, speaker: str) -> str:
    return json.dumps(times.report(), indent=1, ensure_ascii=False) + "\n"


def _rttm(times: Times, name: str, speaker: str) -> str:
    """A turn for each sentence: RTTM has no place for words."""
    return "".join(rttm_line(name, s.start, s.stop - s.start, speaker) for s in times.sentences)


KINDS: dict[str, Callable[[Times, str, str], str]] = {
    ".srt": _srt,
    ".vtt": _vtt,
    ".textgrid": _textgrid,
    ".json": _json,
    ".rttm": _rttm,
}


def _lines(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LINE_CHARACTERS, break_long_words=False))


def subtitle_clock(seconds: float, point: str = ".") -> str:
    """`hh:mm:ss.mmm` as WebVTT has it; SubRip has a comma for the point."""
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}{point}{rest % 1000:03d}"


def rttm_line(recording: str, start: float, seconds: float, speaker: str) -> str:
    """`SPEAKER <recording> 1 <start> <seconds> <NA> <NA> <speaker> <NA> <NA>` and the end of the line."""
    return f"SPEAKER {rttm_field(recording)} 1 {start:.3f} {seconds:.3f} <NA> <NA> {rttm_field(speaker)} <NA> <NA>\n"


def rttm_field(text: str) -> str:
    """A name as RTTM holds it: white space as `_`."""
    return "_".join(text.split()) or "_"
