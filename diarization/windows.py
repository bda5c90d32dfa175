"""From a recording to embeddings along its time: stretches of speech, and windows that slide over each of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from diarization.settings import DiarizationSettings
from encoder.inference import WINDOWS_AT_ONCE, SpeakerEncoder
from utils.audio.io import Waveform
from utils.audio.vad import VadConfig, new_detector, smooth
from utils.voice import unit

Progress = Callable[[float, str], None]  # the share that is done, of what

_CHUNK = 32  # windows whose mel is made in one go: bounds the memory of speech without a pause
PITCH_PERIODS = (0.0025, 0.0167)  # seconds: 60 to 400 Hz
PERIODIC = 0.6  # correlation of a frame with itself a period later: voiced sounds are mostly above, noises below
PITCH_AROUND = 2.0  # seconds in which somebody who speaks has a pitch now and then ...
PITCHED = 0.04  # ... that is in this share of them, at the least
_HEARD = 2000  # windows of the voice detector, of 30 ms, judged in one go


def silent(done: float, what: str) -> None:
    """Progress that nobody looks at."""


@dataclass(frozen=True)
class SpeechWindows:
    """W windows over the speech of a recording of `seconds`.

    speech (K, 2): stretches of speech, in seconds; spans (W, 2): the windows; segment (W,): the stretch that a window
    lies in; owned (W,): seconds of speech that are nearer to its center than to another's; embeddings (W, D), norm 1.
    """

    seconds: float
    speech: np.ndarray
    spans: np.ndarray
    segment: np.ndarray
    owned: np.ndarray
    embeddings: np.ndarray

    @property
    def centers(self) -> np.ndarray:
        """Centers of the windows in seconds: (W,)"""
        return self.spans.mean(axis=1)


def find_speech(samples: np.ndarray, rate: int, settings: DiarizationSettings) -> np.ndarray:
    """Stretches of speech (K, 2) in seconds of samples (T,) of a usual level; pauses up to `max_pause` are inside."""
    heard = join(voiced_spans(samples, rate, settings.vad), settings.max_pause)
    return np.concatenate([np.zeros((0, 2)), *(with_pitch(samples, rate, start, stop) for start, stop in heard)])


def with_pitch(samples: np.ndarray, rate: int, start: float, stop: float) -> np.ndarray:
    """Parts (K, 2) of a stretch around which there is a pitch: the voice detector goes by levels, and papers and
    keyboards near a microphone are as loud as speech."""
    step = 0.03
    count = max(1, int((stop - start) / step))
    flags = np.concatenate(
        [
            _periodic(samples, rate, start + step * np.arange(first, min(first + _HEARD, count)))
            for first in range(0, count, _HEARD)
        ]
    )
    sums = np.r_[0, np.cumsum(flags)]
    half = round(PITCH_AROUND / 2 / step)
    first, last = np.maximum(np.arange(count) - half, 0), np.minimum(np.arange(count) + half + 1, count)
    kept = sums[last] - sums[first] >= PITCHED * (last - first)
    edges = np.flatnonzero(np.diff(kept.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    spans = start + step * edges
    spans[edges == count] = stop
    return spans


def _periodic(samples: np.ndarray, rate: int, starts: np.ndarray) -> np.ndarray:
    """Whether each frame of 40 ms from `starts` (F,), in seconds, repeats itself at the period of a voice: (F,) bool"""
    size = round(0.04 * rate)
    places = np.minimum(np.rint(starts * rate).astype(int), max(len(samples) - size, 0))[:, None] + np.arange(size)
    frames = samples[np.minimum(places, len(samples) - 1)].astype(np.float32)
    frames -= frames.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(frames, 2 * size)) ** 2
    likeness = np.fft.irfft(power)[:, : size + 1]
    shortest, longest = (round(period * rate) for period in PITCH_PERIODS)
    return likeness[:, shortest:longest].max(axis=1) > PERIODIC * np.maximum(likeness[:, 0], 1e-12)


def voiced_spans(samples: np.ndarray, rate: int, config: VadConfig) -> np.ndarray:
    """(K, 2) in seconds: runs of windows that the voice detector keeps."""
    detector, window = new_detector(rate, config), config.window_samples(rate)
    whole = len(samples) // window * window
    # A piece at a time, since detectors copy what they are given; they remember what they heard before
    pieces = [detector(samples[a : min(a + _HEARD * window, whole)]) for a in range(0, whole, _HEARD * window)]
    flags = smooth(np.concatenate(pieces), config) if pieces else np.zeros(0, bool)
    edges = np.flatnonzero(np.diff(flags.astype(np.int8), prepend=0, append=0))
    return edges.reshape(-1, 2) * (window / rate)


def join(spans: np.ndarray, gap: float) -> np.ndarray:
    """Sorted spans (K, 2), those with at most `gap` seconds between them made one."""
    if not len(spans):
        return spans.reshape(0, 2)
    apart = np.flatnonzero(spans[1:, 0] - spans[:-1, 1] > gap + 1e-6)
    return np.stack([spans[np.r_[0, apart + 1], 0], spans[np.r_[apart, len(spans) - 1], 1]], axis=1)


def slide(span: tuple[float, float], window: float, hop: float) -> np.ndarray:
    """Windows (N, 2) over one stretch: every `hop` seconds, the last one ending with it; a short one has one window."""
    start, stop = span
    if stop - start <= window:
        return np.array([[start, stop]])
    starts = np.arange(start, stop - window, hop)
    starts = np.append(starts, stop - window)
    return np.stack([starts, starts + window], axis=1)


def owned_seconds(windows: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Of windows (N, 2) over one stretch: how many of its seconds are nearest to the center of each (N,)"""
    centers = windows.mean(axis=1)
    edges = np.r_[span[0], (centers[1:] + centers[:-1]) / 2, span[1]]
    return np.diff(edges)


def embed_speech(
    encoder: SpeakerEncoder,
    audio: Waveform,
    speech: np.ndarray,
    settings: DiarizationSettings,
    progress: Progress = silent,
) -> SpeechWindows:
    """Embeddings of all windows over stretches of speech (K, 2); memory is bounded however long the recording is."""
    per_stretch = [slide(tuple(span), settings.window, settings.hop) for span in speech]
    spans = np.concatenate(per_stretch) if per_stretch else np.zeros((0, 2))
    owned = [owned_seconds(windows, tuple(span)) for windows, span in zip(per_stretch, speech, strict=True)]
    return SpeechWindows(
        seconds=audio.seconds,
        speech=speech,
        spans=spans,
        segment=np.repeat(np.arange(len(per_stretch)), [len(windows) for windows in per_stretch]),
        owned=np.concatenate(owned) if owned else np.zeros(0),
        embeddings=_embed(encoder, audio, per_stretch, len(spans), progress),
    )


def _embed(
    encoder: SpeakerEncoder, audio: Waveform, per_stretch: list[np.ndarray], count: int, progress: Progress
) -> np.ndarray:
    found = np.empty((count, encoder.embedding_size), np.float32)
    pending: list[Tensor] = []
    done = 0
    hop, rate, samples = encoder.config.mel.hop_length, audio.sample_rate, audio.samples
    for windows in per_stretch:
        for first in range(0, len(windows), _CHUNK):
            places = np.rint(windows[first : first + _CHUNK] * rate).astype(int)
            begin = places[0, 0]
            mel = encoder.mel(samples[begin : places[-1, 1]])
            pending += [mel[:, (a - begin) // hop : max((b - begin) // hop, (a - begin) // hop + 1)] for a, b in places]
            if len(pending) >= WINDOWS_AT_ONCE:
                found[done : done + len(pending)] = encoder.embed_mels(pending)
                done += len(pending)
                progress(done / count, "listening")
                pending = []
    if pending:
        found[done:] = encoder.embed_mels(pending)
    return unit(found)
