"""What cloning gives: a sentence and how it came about, and speech that is heard while it is being made."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synthesizer.speech import SpokenSentence, SynthesizedSentence
from utils.audio.io import Waveform
from utils.errors import CloningError
from utils.times import Times
from utils.version import VERSION

Sounds = Iterator[np.ndarray]  # pieces of a waveform, (t,) float32


@dataclass(frozen=True)
class Cloning:
    """A cloned sentence, and how it came about."""

    audio: Waveform
    mel: np.ndarray = field(repr=False)  # (M, F), of all pieces with the pauses between them
    pieces: list[SynthesizedSentence] = field(repr=False)  # one a sentence: mel, alignment, stop reason, text
    similarity: float  # cosine of the output's embedding with the reference's
    seconds: dict[str, float]  # wall time of each stage
    seed: int
    models: dict[str, str]
    notes: list[str]
    times: Times = field(repr=False)  # of sentences, words and phones in `audio`
    emotion: str = ""  # asked for: a label, or "as in the clip"
    watermark: bool = False  # whether `audio` carries the mark of utils.audio.watermark

    @property
    def stop_reasons(self) -> list[str]:
        """Why each sentence ends where it does (`SynthesizedSentence.stop_reason`)."""
        return [piece.stop_reason for piece in self.pieces]

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of audio."""
        return sum(self.seconds.values()) / self.audio.seconds

    def tags(self) -> dict[str, str]:
        """What a file of this audio must say of itself: the `metadata` of utils.audio.io.write."""
        return file_tags(self.seed, self.models, self.watermark)

    def report(self) -> dict[str, Any]:
        """For machines: what `demo_cli.py --json` writes."""
        return {
            "audio_seconds": round(self.audio.seconds, 3),
            "sample_rate": self.audio.sample_rate,
            "seconds": {name: round(value, 4) for name, value in self.seconds.items()},
            "real_time_factor": round(self.real_time_factor, 4),
            "similarity": round(self.similarity, 4),
            "sentences": [{"text": p.text, "stop_reason": p.stop_reason} for p in self.pieces],
            "seed": self.seed,
            "emotion": self.emotion,
            "watermark": self.watermark,
            "models": self.models,
            "notes": self.notes,
        }


class Speaking:
    """What `VoiceCloner.follow` gives: an iterator of Waveforms of up to a second, each watermarked by itself.

    `begun`: sentences so far. `cloning()` gives what has been made so far as `VoiceCloner.clone` would: its samples but
    for rounding errors (and for a WaveRNN, which streams unfolded).
    """

    def __init__(
        self,
        sentences: Iterator[SpokenSentence],
        vocode: Callable[[Iterable[np.ndarray]], Sounds],
        mark: Callable[[Iterable[np.ndarray]], Iterator[Waveform]],
        finish: Callable[[np.ndarray, Sequence[SpokenSentence], dict[str, float]], Cloning],
    ) -> None:
        self._spoken: list[SpokenSentence] = []
        self._sounds: list[np.ndarray] = []
        self._finish = finish
        self._seconds = {"synthesizer": 0.0, "vocoder": 0.0}
        self._pieces = mark(self._heard(vocode(self._mels(sentences))))

    @property
    def begun(self) -> int:
        """Sentences whose mel is made."""
        return len(self._spoken)

    def __iter__(self) -> Iterator[Waveform]:
        return self

    def __next__(self) -> Waveform:
        before = self._seconds["synthesizer"]
        started = time.perf_counter()
        try:
            return next(self._pieces)
        finally:
            spent = time.perf_counter() - started
            self._seconds["vocoder"] += spent - (self._seconds["synthesizer"] - before)

    def cloning(self) -> Cloning:
        """All that was made so far. Raises CloningError before the first piece."""
        if not self._sounds:
            raise CloningError("nothing has been said yet: take a piece of it first")
        return self._finish(np.concatenate(self._sounds), self._spoken, dict(self._seconds))

    def _mels(self, sentences: Iterator[SpokenSentence]) -> Iterator[np.ndarray]:
        while True:
            started = time.perf_counter()
            spoken = next(sentences, None)
            self._seconds["synthesizer"] += time.perf_counter() - started
            if spoken is None:
                return
            self._spoken.append(spoken)
            yield spoken.mel

    def _heard(self, sounds: Sounds) -> Sounds:
        for samples in sounds:
            self._sounds.append(samples)
            yield samples


def file_tags(seed: int, models: Mapping[str, str], watermark: bool) -> dict[str, str]:
    """What a file of cloned speech must say of itself; `models` as `VoiceCloner.describe` gives them."""
    facts = ["synthetic speech", f"voice cloning toolkit {VERSION}", f"seed {seed}"]
    facts += [f"{name} {which}" for name, which in models.items()]
    return {"comment": "; ".join([*facts, "watermarked" if watermark else "no watermark"])}
