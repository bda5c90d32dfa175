"""Conversations built from clips of single speakers, so that who speaks when is known exactly.

Where the corpus comes with word times (`alignments/*.jsonl.gz`) these say where there is speech; elsewhere the level
does (`signals.quiet_frames`). Neither is the voice detector that diarization itself uses.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diarization.turns import Turn, join
from evaluation.metrics import signals
from utils.audio.io import Waveform, normalize_volume, read

RATE = 16000
LEVEL_DBFS = -26.0
LEVEL_SPREAD_DB = 2.0  # standard deviation between turns
NOISE_DBFS = -65.0  # under everything, so that joints are inaudible
PAUSE = 0.5  # a longer silence inside a turn is not speech
TURN_SECONDS = (1.5, 12.0)
GAP_SECONDS = (0.1, 1.2)
OVERLAP_SECONDS = (0.4, 1.5)
OVERLAPPED = 0.35  # of the changes of speaker, in conversations with overlap
REFERENCE_SECONDS = 10.0
OVERLAP = {False: "", True: ", overlap"}  # in names


@dataclass(frozen=True)
class Recipe:
    """Name, number of speakers, seconds, overlap and random seed of a conversation."""

    name: str
    speakers: int
    seconds: float
    overlap: bool
    seed: int


@dataclass(frozen=True)
class Conversation:
    """Audio, turns, and a clip of each speaker that is not in it."""

    audio: Waveform
    turns: list[Turn]
    references: dict[str, Waveform]


class Shelf:
    """Clips by speaker, read when they are wanted."""

    def __init__(self, clips: Mapping[str, Sequence[Path]], word_times: Mapping[str, np.ndarray]) -> None:
        self.clips = {name: sorted(paths) for name, paths in sorted(clips.items())}
        self.word_times = word_times
        self._length: dict[Path, float] = {}

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        """Samples (T,) at one level, and where there is speech: spans (K, 2) in seconds with pauses over PAUSE out."""
        samples = normalize_volume(read(path, sample_rate=RATE).samples, LEVEL_DBFS, increase_only=False)
        spans = self.word_times.get(path.stem)
        if spans is None:
            loud = join(_runs(~signals.quiet_frames(samples, RATE)) * signals.PAUSE_FRAME_S, 0.2)
            spans = loud[np.diff(loud, axis=1)[:, 0] > 0.05]  # less is a click
        return samples, join(spans, PAUSE)

    def seconds(self, path: Path) -> float:
        """The length of a recording, read once."""
        if path not in self._length:
            import soundfile

            self._length[path] = float(soundfile.info(str(path)).duration)
        return self._length[path]

    def total(self, speaker: str) -> float:
        """Seconds of all recordings of a speaker."""
        return sum(self.seconds(path) for path in self.clips[speaker])


def recipes(minutes: Sequence[float], seed: int = 0) -> list[Recipe]:
    """Two, three and four speakers, with and without overlap, of each length."""
    return [
        Recipe(f"{n} speakers, {m:g} min{OVERLAP[overlap]}", n, 60 * m, overlap, seed + 1000 * n + 10 * i + overlap)
        for overlap in (False, True)
        for i, m in enumerate(minutes)
        for n in (2, 3, 4)
    ]


def build(recipe: Recipe, shelf: Shelf) -> Conversation:
    """The same recipe and clips, the same conversation, sample by sample."""
    rng = np.random.default_rng(recipe.seed)
    wanted = 1.3 * recipe.seconds / recipe.speakers + 2 * REFERENCE_SECONDS
    able = [name for name in shelf.clips if shelf.total(name) > wanted] or list(shelf.clips)
    names = [str(name) for name in rng.choice(able, recipe.speakers, replace=False)]
    queues, references = {}, {}
    for name in names:
        paths = [shelf.clips[name][i] for i in rng.permutation(len(shelf.clips[name]))]
        reference = next((p for p in paths if shelf.seconds(p) >= REFERENCE_SECONDS / 2), paths[0])
        references[name] = _reference(shelf, reference)
        # Not another line of the same chapter's reading if it can be helped: a reference is of another day
        session = reference.stem.rpartition("-")[0]
        rest = [p for p in paths if p != reference]
        queues[name] = [p for p in rest if p.stem.rpartition("-")[0] != session] or rest
    samples = np.zeros(round((recipe.seconds + 30) * RATE), np.float32)
    turns: list[Turn] = []
    pieces = {name: _pieces(shelf, queue, rng) for name, queue in queues.items()}
    now, speaker = float(rng.uniform(*GAP_SECONDS)), names[0]
    while now < recipe.seconds:
        audio, spans = next(pieces[speaker])
        first = round(now * RATE)
        gain = np.float32(10 ** (rng.normal(0, LEVEL_SPREAD_DB) / 20))
        samples[first : first + len(audio)] += gain * audio[: len(samples) - first]
        turns += [Turn(now + float(a), now + float(b), speaker) for a, b in spans]
        end = now + len(audio) / RATE
        following = str(rng.choice([name for name in names if name != speaker]))
        over = recipe.overlap and rng.random() < OVERLAPPED
        length = len(audio) / RATE
        now = end - min(rng.uniform(*OVERLAP_SECONDS), length / 2) if over else end + rng.uniform(*GAP_SECONDS)
        speaker = following
        now = max([now, *(turn.stop + GAP_SECONDS[0] for turn in turns if turn.speaker == speaker)])
    samples = samples[: round(max(turn.stop for turn in turns) * RATE) + RATE // 2]
    samples += rng.standard_normal(len(samples)).astype(np.float32) * np.float32(10 ** (NOISE_DBFS / 20))
    return Conversation(Waveform(np.clip(samples, -1, 1), RATE), sorted(turns), references)


def excerpt(conversation: Conversation, seconds: float, rng: np.random.Generator) -> Conversation:
    """So many seconds of it from somewhere, or all of it if it is shorter, with what is said in them."""
    start = float(rng.uniform(0, max(conversation.audio.seconds - seconds, 1e-3)))
    stop = start + min(seconds, conversation.audio.seconds)
    samples = conversation.audio.samples[round(start * RATE) : round(stop * RATE)]
    heard = [turn for turn in conversation.turns if turn.stop > start and turn.start < stop]
    turns = [Turn(max(turn.start, start) - start, min(turn.stop, stop) - start, turn.speaker) for turn in heard]
    return Conversation(Waveform(samples, RATE), turns, conversation.references)


def read_word_times(corpus: Path) -> dict[str, np.ndarray]:
    """Spans of words (K, 2) in seconds by utterance, from every `alignments/*.jsonl.gz` below the corpus."""
    found = {}
    for path in sorted(corpus.glob("alignments/*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                row = json.loads(line)
                spans = [(start, start + length) for word, start, length in row["words"] if word]
                if spans:
                    found[row["id"]] = np.array(spans, float) / 100
    return found


def _pieces(shelf: Shelf, queue: Sequence[Path], rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(samples, spans from 0) of turns without end: clips one after another, cut at their pauses."""
    while True:
        for path in queue:
            samples, spans = shelf.read(path)
            cut = 0
            while cut < len(spans):
                longest = rng.uniform(*TURN_SECONDS)
                last = cut
                while last + 1 < len(spans) and spans[last + 1, 1] - spans[cut, 0] <= longest:
                    last += 1
                start, stop = spans[cut, 0], spans[last, 1]
                yield samples[round(start * RATE) : round(stop * RATE)], spans[cut : last + 1] - start
                cut = last + 1


def _reference(shelf: Shelf, path: Path) -> Waveform:
    return Waveform(shelf.read(path)[0][: round(REFERENCE_SECONDS * RATE)], RATE)


def _runs(flags: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
