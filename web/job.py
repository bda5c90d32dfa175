"""Speech made in a thread of its own, so that the page can play its beginning, tell how far it is, and stop it."""

from __future__ import annotations

import base64
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from cloning.cloner import VoiceCloner
from cloning.references import Reference
from cloning.results import Cloning
from utils.audio.io import Waveform, amplified, to_pcm16
from utils.errors import reported
from web.work import Settings, explain, wav_file

DRAWN_SECONDS = 60.0  # of speech whose alignment is kept for a picture: more cannot be read
SENT_SECONDS = 6.0  # for which a piece of sound is kept to be sent again, should the browser have missed it


@dataclass(frozen=True)
class JobProgress:
    """How far a job is. `sentences`: 0 until they are counted."""

    begun: int = 0
    sentences: int = 0
    seconds: float = 0.0  # of speech
    unit: str = "Sentence"

    def __str__(self) -> str:
        if not self.begun:
            return "Listening to the voice ..."
        of = f" of {self.sentences}" if self.sentences else ""
        return f"{self.unit} {self.begun}{of}, {self.seconds:.0f} s of speech"


@dataclass(frozen=True)
class JobResult:
    """The result of a job that has ended: `wav`, the bytes of a file, and what a take tells of it."""

    wav: bytes = field(repr=False)
    seed: int
    seconds: float
    work_seconds: float
    similarity: float
    models: dict[str, str]
    notes: list[str]
    sentences: list[str]
    words: list[tuple[str, float, float]]  # with start and stop in seconds
    alignments: list[np.ndarray] = field(default_factory=list, repr=False)  # (F, N) each, 0 to 255; none of long speech

    @classmethod
    def of(cls, cloning: Cloning, volume: float) -> JobResult:
        """From a cloning, its sound `volume` dB louder."""
        short = cloning.audio.seconds <= DRAWN_SECONDS
        return cls(
            wav=wav_file(cloning, volume),
            seed=cloning.seed,
            seconds=cloning.audio.seconds,
            work_seconds=sum(cloning.seconds.values()),
            similarity=cloning.similarity,
            models=dict(cloning.models),
            notes=list(cloning.notes),
            sentences=[piece.text for piece in cloning.pieces],
            words=[(span.text, round(span.start, 3), round(span.stop, 3)) for span in cloning.times.words],
            alignments=[np.round(255 * p.alignment).astype(np.uint8) for p in cloning.pieces] if short else [],
        )


class Job:
    """One text in one voice. `made` is there once `done` is true, unless nothing was said; `error`: why not."""

    def __init__(self, load: Callable[[], VoiceCloner], voice: Reference | None, text: str, settings: Settings) -> None:
        """`load` gives the cloner, in the thread; `voice`: None for a script, which names its voices."""
        self.text, self.settings = text, settings
        self.progress = JobProgress()
        self.made: JobResult | None = None
        self.error = ""
        self.stopped = ""  # where it was told to stop
        self.first_sound = 0.0  # seconds from the start
        self._started, self._gain = time.monotonic(), settings.volume
        self._pieces: deque[tuple[float, int, Waveform]] = deque()
        self._stop, self._sound = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(load, voice), daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether its thread has ended."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Finish with what has been said so far."""
        self._stop.set()

    def wait(self, seconds: float | None = None) -> bool:
        """Until it is done, at most so long; whether it is."""
        self._thread.join(seconds)
        return self.done

    def wait_for_sound(self, seconds: float) -> None:
        """Until there is something to hear, or to tell."""
        self._sound.wait(seconds)

    def pieces(self) -> list[list]:
        """The latest pieces of sound for the browser: [number, rate, 16-bit samples in base64]."""
        return [[n, wav.sample_rate, _base64(wav)] for _, n, wav in list(self._pieces)]

    def _run(self, load: Callable[[], VoiceCloner], voice: Reference | None) -> None:
        try:
            with reported(self._fail):
                self.made = self._speak(load(), voice)
        finally:
            self._sound.set()

    def _fail(self, error: Exception) -> None:
        self.error = explain(error)

    def _speak(self, cloner: VoiceCloner, voice: Reference | None) -> JobResult:
        assert voice is not None
        how = self.settings.how()
        if not cloner.vocoder.streams:
            return JobResult.of(cloner.clone(voice, self.text, **how), self.settings.volume)
        speaking = cloner.follow(voice, self.text, **how)
        count = 0
        for number, piece in enumerate(speaking):
            seconds = self.progress.seconds + piece.seconds
            self.progress = replace(self.progress, begun=speaking.begun, sentences=count, seconds=seconds)
            self._play(number, piece)
            # counted after the first sound, for a long text takes a moment to read
            count = count or sum(1 for _ in cloner.synthesizer.sentences(self.text))
            if self._stop.is_set():
                self.stopped = f"stopped in sentence {speaking.begun} of {count}"
                break
        return JobResult.of(speaking.cloning(), self.settings.volume)

    def _play(self, number: int, piece: Waveform) -> None:
        """Give a piece of sound to the browser, at the volume that was asked for as far as nothing clips."""
        if piece.peak:
            self._gain = min(self._gain, -20 * math.log10(piece.peak)) if self._gain > 0 else self._gain
        now = time.monotonic()
        self.first_sound = self.first_sound or now - self._started
        self._pieces.append((now, number, amplified(piece, self._gain)))
        while now - self._pieces[0][0] > SENT_SECONDS:
            self._pieces.popleft()
        self._sound.set()


def _base64(wav: Waveform) -> str:
    return base64.b64encode(to_pcm16(wav.samples).astype("<i2").tobytes()).decode("ascii")
