"""Forced alignment of transcribed clips with pocketsphinx: when each word and each phone is said.

The recognizer finds the words, and which pronunciation of each was used. Its own search for phones fails on many long
clips, so that a second search has one made-up word for each phone. pocketsphinx is optional (requirements/align.txt);
its model of English comes with it.
"""

from __future__ import annotations

import gzip
import json
import logging
import multiprocessing
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from synthesizer.data.alignments import read_alignments
from synthesizer.text.processor import TextProcessor
from utils.audio import io as audio
from utils.data.corpora import Clip
from utils.errors import CloningError, missing_package
from utils.files import atomic_path
from utils.processes import begin_worker

log = logging.getLogger(__name__)
RATE = 16_000  # Hz, of the recognizer's model
TAIL_SECONDS = 0.2  # of faint noise after the clip: a search must end in silence
PLAUSIBLE = (4, 30)  # frames of 10 ms that a phone lasts; a wrong transcript is squeezed to 3
SAVE_EVERY = 200  # clips
AlignedSegments = list[tuple[str, int, int]]  # what, first frame, number of frames


class Aligner:
    """Called with the samples (T,) of a clip at 16 kHz and its text: {"frames", "score", "words", "phones"}.

    words and phones are [name, first frame, number of frames] in frames of 10 ms, "" for silence (see
    `synthesizer.data.alignments`). score is 1 less twice the part of the phones that are implausibly short or long.
    For English.
    """

    def __init__(self) -> None:
        """Raises CloningError when pocketsphinx is not installed."""
        self._text = TextProcessor("phonemes")
        self._decoder: Any = None
        self._ready()

    def __call__(self, samples: np.ndarray, text: str) -> dict[str, Any]:
        """Raises CloningError when the text is not what is said, as far as the recognizer can tell."""
        words = self._text.words(text)
        noise = np.random.default_rng(0).normal(0, 1e-3, round(TAIL_SECONDS * RATE))
        sound = audio.to_pcm16(np.concatenate([samples * (0.8 / max(1e-6, np.abs(samples).max())), noise])).tobytes()
        decoder = self._ready()
        names = [re.sub(r"[^\w']+", "_", word.text.lower()).strip("_") for word in words]  # {T EH1 N}: t_eh1_n
        for word, name in zip(words, names, strict=True):
            if decoder.lookup_word(name) is None:
                decoder.add_word(name, " ".join(word.phones), True)
        spoken = self._search(sound, names)
        pronounced = [decoder.lookup_word(name).split() for name, _, _ in spoken if name]
        phones = [phone for phones in pronounced for phone in phones]
        for phone in set(phones):
            if decoder.lookup_word(_named(phone)) is None:
                decoder.add_word(_named(phone), phone, True)
        search = self._search(sound, [_named(p) for p in phones])
        segments = [(name[1:].upper(), start, length) for name, start, length in search]
        frames = round(len(samples) / RATE * 100)
        return {
            "frames": frames,
            "score": round(score([length for name, _, length in segments if name]), 4),
            "words": _within([(name.partition("(")[0], start, n) for name, start, n in spoken], frames),
            "phones": _within([(name or "SIL", start, n) for name, start, n in segments], frames),
        }

    def _ready(self) -> Any:
        if self._decoder is None:
            try:
                from pocketsphinx import Decoder
            except ModuleNotFoundError as error:
                raise missing_package("pocketsphinx", "alignment", "requirements/align.txt") from error
            everything = {"beam": 0, "pbeam": 0, "wbeam": 0}  # the text is known: no path is too unlikely
            self._decoder = Decoder(samprate=RATE, lm=None, bestpath=False, loglevel="FATAL", **everything)
        return self._decoder

    def _search(self, sound: bytes, words: Sequence[str]) -> AlignedSegments:
        decoder = self._decoder
        try:
            decoder.set_align_text(" ".join(words))
            decoder.start_utt()
            decoder.process_raw(sound, full_utt=True)
            decoder.end_utt()
            segments = list(decoder.seg()) if decoder.hyp() is not None else []
        except RuntimeError as error:
            self._decoder = None  # one that has failed is not used again
            raise CloningError(f"cannot be aligned: {error}") from error
        found = [
            ("" if s.word[0] in "<[" else s.word, s.start_frame, s.end_frame - s.start_frame + 1)
            for s in segments
            if s.word != "(NULL)"
        ]
        if sum(bool(name) for name, _, _ in found) != len(words):
            raise CloningError("cannot be aligned: the recording does not fit its text")
        return found


def score(lengths: Sequence[int]) -> float:
    """A score of phones of so many frames: 1 when all are plausible, 0 when half of them or more are not."""
    low, high = PLAUSIBLE
    odd = np.mean([not low <= n <= high for n in lengths])
    return max(0.0, 1 - 2 * float(odd))


def _named(phone: str) -> str:
    return f"x{phone.lower()}"


def _within(found: Iterable[tuple[str, int, int]], frames: int) -> list[list[Any]]:
    """Without what lies in the noise after the clip."""
    return [[name, start, min(n, frames - start)] for name, start, n in found if start < frames]


@cache
def _of_this_process() -> Aligner:
    return Aligner()


def align_clip(clip: Clip) -> dict[str, Any]:
    """The line of a clip in an alignment file, or {"id", "error"}."""
    errors = []
    for reading in clip.readings():
        try:
            samples = audio.read(reading.path, sample_rate=RATE).samples
            return {"id": clip.id, **_of_this_process()(samples, clip.text or "")}
        except CloningError as error:
            errors.append(str(error))
    return {"id": clip.id, "error": errors[0]}


def align_clips(clips: Sequence[Clip], path: Path, *, jobs: int = 1) -> int:
    """Align the clips that the file `path` (.jsonl.gz) lacks, in `jobs` processes; returns how many it cannot.

    What is done is kept when the run is stopped. Raises CloningError when pocketsphinx is not installed.
    """
    _of_this_process()  # says now rather than of each clip that it is missing
    rows = read_alignments([path]) if path.is_file() else {}
    missing = [clip for clip in clips if clip.id not in rows]
    failed = 0
    with tqdm(total=len(missing), unit="clip", desc="align", disable=None) as bar:
        try:
            for row in _rows(missing, jobs):
                if "error" in row:
                    failed += 1
                    log.debug("%s: %s", row["id"], row["error"])
                else:
                    rows[row["id"]] = row
                bar.update()
                if len(rows) % SAVE_EVERY == 0:
                    _write(path, rows.values())
        finally:
            if rows:
                _write(path, rows.values())
    return failed


def _rows(clips: Sequence[Clip], jobs: int) -> Iterator[dict[str, Any]]:
    if jobs == 1 or len(clips) < 2:
        yield from map(align_clip, clips)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=begin_worker) as pool:
        yield from pool.map(align_clip, clips, chunksize=max(1, min(32, len(clips) // (4 * jobs))))


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial, gzip.open(partial, "wt", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
