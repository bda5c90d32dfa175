"""A voice while it is being heard: audio comes in pieces, silence is cut out on the way, the embedding is kept current.

What a stream gives is what `SpeakerEncoder` gives for the whole recording, but for two things that need the future:

Delay. The smoothing of the detector's flags looks `VadConfig.lookahead` windows ahead, so a window is kept or dropped
that much later: 7 windows of 30 ms with the defaults, and up to one more until the window is full, 240 ms in all. In
return the decisions are those of `utils.audio.vad.voiced_mask`, flag for flag.

Level. A recording is raised to a common volume by its level over all of its length. A stream goes by the level of
what it has heard so far, silences included, which becomes the recording's in the end; but it raises by 30 dB at most,
so that the hiss before the first word does not become loud. Early windows are thus judged and embedded at a volume
that is off by as many dB as the level so far differs from that in the end: on 12 LibriSpeech clips behind half a
second of silence up to 2.6 dB, 1 dB in the median. The transformer takes the mean off its log mel, so that a change of
level reaches it only through the floor of the logarithm (3 dB: a cosine of 0.999 to the embedding at the right level),
and so does an LSTM on a log scale; the published LSTM hears the level itself (1 dB: 0.998, 3 dB: 0.985). Where the
level is known beforehand (the same microphone and speaker as before), `gain` fixes it, and stream and recording are
equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np

from encoder.config import EncoderConfig, partial_slices
from utils.audio.arrays import to_floats
from utils.audio.vad import VadConfig, new_detector, smooth
from utils.errors import CloningError
from utils.voice import unit

MAX_GAIN = 10 ** (30 / 20)  # where the level is not known; recordings below -60 dBFS stay quieter than they would


class StepwiseEncoder(Protocol):
    """What a stream needs of `encoder.inference.SpeakerEncoder`."""

    config: EncoderConfig

    @property
    def embedding_size(self) -> int:
        """D."""
        ...

    def window_end(self, stop: int, frames: int) -> int:
        """The frame at which the network ends in a window up to `stop` of an utterance of so many frames."""
        ...

    def embed_in_steps(self, samples: np.ndarray, first: int, stop: int) -> Generator[None, None, np.ndarray]:
        """The embedding (D,) of frames first .. stop of samples (T,), returned at the last of several steps."""
        ...


class VoiceStream:
    """One speaker, from pieces of audio; made by `SpeakerEncoder.stream`.

    >>> stream = encoder.stream()
    >>> for piece in microphone:                   # 20 ms, or any length, of 16 kHz audio
    ...     embedding = stream.feed(piece)         # None but when there is a new one
    ...     if embedding is not None:
    ...         print(stream.seconds, embedding @ known_voice)
    >>> embedding = stream.finish()                # what the last, incomplete window adds

    A window of the encoder (5 s every 2.5 s in the default model) is embedded once, when it is complete; the voice's
    embedding is the mean over windows so far. Until the first is complete, what there is after `min_seconds` of voice
    is embedded, and again every second. A pass through the network is spread over the VAD windows that follow, one
    step each, so that no piece of 20 ms costs more than a step; the embedding comes up to 0.2 s later for it, and
    `embedded_seconds` says of how much voice it is. Where windows follow each other faster than that, the pass in hand
    is brought to its end at once. Memory does not grow, but for a byte a VAD window.
    """

    def __init__(self, encoder: StepwiseEncoder, min_seconds: float, gain: float | None, vad: VadConfig) -> None:
        if min_seconds <= 0 or (gain is not None and gain <= 0):
            raise ValueError(f"min_seconds {min_seconds} and gain {gain} must be above 0")
        self.encoder, self.vad, self.fixed_gain = encoder, vad, gain
        self.rate = encoder.config.mel.sample_rate
        self.embedding: np.ndarray | None = None  # (D,), length 1, once there is enough voice
        self.embedded_seconds = 0.0  # of voice that it stands for
        self._enough = round(min_seconds * self.rate)
        self._detector, self._window = new_detector(self.rate, vad), vad.window_samples(self.rate)
        self._rest = np.zeros(0, np.float32)  # less than a VAD window
        self._heard, self._energy = 0, 0.0  # samples, and the sum of their squares
        self._flags, self._mask = bytearray(), bytearray()  # a VAD window each
        self._undecided: deque[np.ndarray] = deque()
        self._voice = np.zeros(0, np.float32)  # the kept samples from `_dropped` on, at their own level
        self._dropped = 0
        self._total = np.zeros(encoder.embedding_size, np.float32)  # of the embeddings of the complete windows
        self._begun, self._finished = 0, False  # complete windows
        self._next = self._enough  # samples of voice at which an incomplete first window is embedded
        self._pass: Iterator[None] | None = None  # through the network, in hand

    @property
    def seconds(self) -> float:
        """Seconds of voice so far: what the detector kept."""
        return self._kept / self.rate

    @property
    def mask(self) -> np.ndarray:
        """Which VAD windows (W,) were kept, as bool; the last `lookahead` ones are decided later."""
        return np.frombuffer(bytes(self._mask), bool)

    @property
    def gain(self) -> float:
        """What audio is multiplied with before it is judged and embedded, as of now."""
        if self.fixed_gain is not None:
            return self.fixed_gain
        if self._energy <= 0:
            return 1.0
        wanted = 10 ** (self.encoder.config.target_dbfs / 20)
        return min(max(1.0, wanted / (self._energy / self._heard) ** 0.5), MAX_GAIN)

    def feed(self, piece: np.ndarray) -> np.ndarray | None:
        """Hear a piece (n,) of mono audio, any n: floats in [-1, 1] or integers of their full scale, at the encoder's
        rate.

        Returns the embedding (D,) when there is a new one, else None; how the audio is cut into pieces changes
        nothing. Raises ValueError for another shape, CloningError for another type and for samples that are not finite.
        """
        if self._finished:
            raise ValueError("the stream is finished: start another with SpeakerEncoder.stream()")
        if piece.ndim != 1:
            raise ValueError(f"a piece is mono, (n,), not {piece.shape}")
        piece = to_floats(piece, "a piece of the stream")
        if not np.isfinite(piece).all():
            raise CloningError("a piece of the stream holds NaN or infinite samples: check what records it")
        before = self.embedding
        samples = np.concatenate([self._rest, piece])
        whole = len(samples) // self._window * self._window
        self._rest = samples[whole:].copy()
        for start in range(0, whole, self._window):
            self._judge(samples[start : start + self._window])
        return None if self.embedding is before else self.embedding

    def finish(self) -> np.ndarray | None:
        """No more audio: decide and embed what waits. The embedding (D,), None with less voice than wanted."""
        self._finished = True
        while self._undecided:
            self._decide(len(self._mask))
        self._end_pass()
        if self._kept < self._enough:
            return None
        slices = partial_slices(self._kept, self.encoder.config.partials, self.encoder.config.mel.hop_length)[1]
        for start, stop in slices[self._begun :]:
            self._begin_pass(start, stop, complete=True)
            self._end_pass()
        return self.embedding

    @property
    def _kept(self) -> int:
        return self._dropped + len(self._voice)

    def _judge(self, window: np.ndarray) -> None:
        self._heard += len(window)
        self._energy += float(np.sum(np.square(window), dtype=np.float64))
        self._flags.append(bool(self._detector(window * np.float32(self.gain))[0]))
        self._undecided.append(window)
        if self._pass is not None:
            next(self._pass, None)
        if len(self._undecided) > self.vad.lookahead:
            self._decide(len(self._mask))

    def _decide(self, index: int) -> None:
        """Smooth the flags around one VAD window; keep it or not."""
        lookahead = self.vad.lookahead
        first = max(0, index - lookahead)
        around = np.frombuffer(bytes(self._flags[first : index + lookahead + 1]), bool)
        keep = bool(smooth(around, self.vad)[index - first])
        self._mask.append(keep)
        window = self._undecided.popleft()
        if keep:
            self._voice = np.concatenate([self._voice, window])
            self._update()

    def _update(self) -> None:
        """Begin to embed the window that is complete now, if one is, or the first voice as soon as there is enough."""
        mel, partials = self.encoder.config.mel, self.encoder.config.partials
        start = self._begun * partials.step
        while self._kept >= (start + partials.frames - 1) * mel.hop_length + mel.n_fft // 2:
            self._begin_pass(start, start + partials.frames, complete=True)
            start += partials.step
            self._forget(start * mel.hop_length - self._context)
        if self._kept >= self._next:
            self._next += self.rate
            if not self._begun:
                self._begin_pass(0, partials.frames, complete=False)
            elif self.embedding is None and self._pass is None:  # more voice is wanted than a window holds
                self.embedding = unit(self._total)

    @property
    def _context(self) -> int:
        """Samples before a window that its first frame sees, in whole hops."""
        mel = self.encoder.config.mel
        return (mel.n_fft // 2 // mel.hop_length + 1) * mel.hop_length

    def _begin_pass(self, start: int, stop: int, *, complete: bool) -> None:
        """Get ready to embed frames start .. stop of the voice; where it ends before, what there is."""
        if self._begun:
            self._end_pass()  # else it was of an incomplete window, and this one says more
        mel = self.encoder.config.mel
        first = max(0, start * mel.hop_length - self._context)
        last = min(self._kept, stop * mel.hop_length + mel.n_fft)
        samples = self._voice[first - self._dropped : last - self._dropped] * np.float32(self.gain)
        end = self.encoder.window_end(stop, mel.frames(self._kept))
        samples = np.pad(samples, (0, max(0, end * mel.hop_length - last)))
        offset = start - first // mel.hop_length
        self._begun += complete
        steps = self.encoder.embed_in_steps(samples, offset, offset + end - start)
        self._pass = self._follow(steps, complete, self._kept / self.rate)

    def _follow(self, steps: Generator[None, None, np.ndarray], complete: bool, seconds: float) -> Iterator[None]:
        """Take the steps one by one, and the embedding they end with."""
        found = yield from steps
        if complete:
            self._total += found
        if self._kept >= self._enough:
            self.embedding = unit(self._total if complete else found)
        self.embedded_seconds = seconds
        self._pass = None

    def _end_pass(self) -> None:
        for _ in self._pass or ():
            pass

    def _forget(self, before: int) -> None:
        """Drop the samples that no window to come needs."""
        drop = max(0, before - self._dropped)
        self._voice, self._dropped = self._voice[drop:], self._dropped + drop
