"""Speech that is heard while it is being made, and all that is known of it at its end or before."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from synthesizer.speech import Spoken
from utils.audio.io import Waveform
from utils.errors import CloningError

if TYPE_CHECKING:
    from voice_cloner import Cloning

Sounds = Iterator[np.ndarray]  # pieces of a waveform, (t,) float32


class Speaking:
    """What `VoiceCloner.follow` gives: an iterator of Waveforms of up to a second, each watermarked by itself.

    `begun`: sentences so far. `cloning()` gives what has been made so far as `VoiceCloner.clone` would: its samples but
    for rounding errors (and for a WaveRNN, which streams unfolded).
    """

    def __init__(
        self,
        sentences: Iterator[Spoken],
        vocode: Callable[[Iterable[np.ndarray]], Sounds],
        mark: Callable[[Iterable[np.ndarray]], Iterator[Waveform]],
        finish: Callable[[np.ndarray, Sequence[Spoken], dict[str, float]], Cloning],
    ) -> None:
        self._spoken: list[Spoken] = []
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

    def _mels(self, sentences: Iterator[Spoken]) -> Iterator[np.ndarray]:
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
