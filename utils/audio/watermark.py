"""An inaudible mark that tells cloned speech: faint noise in the shape of the speech, made of fixed random chips.

Spread spectrum (Cox et al. 1997, "Secure spread spectrum watermarking for multimedia"). The carrier is a fixed random
sequence of 4,096 chips (0.256 s at 16 kHz), band-limited to 300 .. 3,500 Hz and repeated for ever, counted from sample
0. `mark` filters it, 64 ms by 64 ms, to the spectrum of the speech and adds it 38 dB lower; it fades by 3 dB in 32 ms
where the speech stops, under what the ear still hears of it. `detect` flattens a recording's spectrum, folds it to one
period and correlates it with the chips at all 4,096 shifts.

The rate of false alarms needs no model of speech: divided by its norm, the correlation of *any* recording with random
chips exceeds t with probability at most exp(-t^2 / 2) (Hoeffding 1963), and the threshold allows for every shift, both
signs and every stretch of the recording that is tried.

The key is in this file. So the mark shows where speech came from as long as nobody minds; it is no protection against
somebody who wants it gone, or who wants a real recording to look cloned. Changes of speed or pitch lose it.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from utils.audio.io import resample
from utils.errors import CloningError

RATE = 16_000  # Hz, at which mark and detector work
BAND = (300.0, 3500.0)  # Hz: what 8 kHz and telephones keep
PERIOD = 4096  # samples
KEY = b"voice cloning toolkit: synthetic speech, mark 1"
GAIN = 0.013  # of the mark, relative to the level of the speech in its band of 200 Hz: -38 dB
DECAY = 0.5  # of the mark's power, a hop, after the speech
WEIGHT = 4.0  # most that a cell counts in the detector, where the mark must be strong beside the speech
FALSE_ALARM = 1e-4  # a recording, whatever its length
MIN_SECONDS = 1.0  # below, nothing is said about a recording

_WINDOW, _HOP, _SPREAD = 1024, 512, 6  # samples, samples, bins on either side
_BINS = slice(math.ceil(BAND[0] / RATE * _WINDOW), math.floor(BAND[1] / RATE * _WINDOW) + 1)
_SEGMENT = 8 * PERIOD
STRIDE_SECONDS = _SEGMENT / RATE  # 2.05: the detector tries all pairs of neighboring segments, and the whole


@dataclass(frozen=True)
class Detection:
    """What `detect` found. A score is a correlation in units of its spread without a mark."""

    found: bool
    score: float
    threshold: float
    chance: float  # upper bound of the probability of such a score in a recording without the mark
    scores: np.ndarray  # (N,) of each stretch of two segments, one every STRIDE_SECONDS; of the only one, if so


def mark(samples: np.ndarray, sample_rate: int, start: int = 0) -> np.ndarray:
    """Add the mark to samples (T,) in floats; as many come back, of the same type.

    `start` is the place of the first sample in the whole, so that pieces of a stream (better 0.2 s or longer) may be
    marked one by one: they share one carrier.
    """
    samples = np.asarray(samples)
    if len(samples) == 0:
        return samples.copy()
    speech = resample(samples, sample_rate, RATE)
    spectrum = _stft(speech)
    carrier = _carrier(round(start * RATE / sample_rate) % PERIOD)
    noise = _inverse(GAIN * _level(spectrum) * carrier[np.arange(len(spectrum)) % len(carrier)], len(speech))
    return (samples + resample(noise, RATE, sample_rate)[: len(samples)]).astype(samples.dtype)


def detect(samples: np.ndarray, sample_rate: int) -> Detection:
    """Look for the mark in samples (T,). Raises CloningError for less than MIN_SECONDS."""
    seconds = len(samples) / sample_rate
    if seconds < MIN_SECONDS:
        raise CloningError(
            f"{seconds:.2f} s are too short to tell whether it is marked: give at least {MIN_SECONDS:g} s"
        )
    folded = _limited(_fold(resample(samples, sample_rate, RATE)))
    stretches = folded[:-1] + folded[1:] if len(folded) > 1 else folded
    whole = folded.sum(axis=0, keepdims=True)  # with one or two segments, that is the only stretch
    tried = np.concatenate([stretches, whole]) if len(folded) > 2 else whole
    correlation = np.fft.irfft(tried * np.fft.rfft(_chips()).conj())
    norm = np.linalg.norm(np.fft.irfft(tried), axis=1)
    scores = np.abs(correlation).max(axis=1) / np.maximum(norm, 1e-12)
    tests, score = 2 * PERIOD * len(tried), float(scores.max())
    threshold = math.sqrt(2 * math.log(tests / FALSE_ALARM))
    chance = min(1.0, tests * math.exp(-(score**2) / 2))
    return Detection(score > threshold, score, threshold, chance, scores[: len(stretches)])


def _fold(speech: np.ndarray) -> np.ndarray:
    """speech (T,) at RATE -> (N, PERIOD): each segment's flattened waveform, its periods summed."""
    rows = []
    for start in range(0, len(speech), _SEGMENT):
        before = min(start, _WINDOW)  # context, so that the borders of segments are like the rest
        flat = _flatten(speech[start - before : start + _SEGMENT + _WINDOW])[before : before + _SEGMENT]
        rows.append(np.pad(flat, (0, -len(flat) % PERIOD)).reshape(-1, PERIOD).sum(axis=0))
    return np.stack(rows)


def _flatten(speech: np.ndarray) -> np.ndarray:
    """Phases as they are, magnitudes by how strong the mark must be beside the speech: (T,) -> (T,)."""
    spectrum = _stft(speech)
    magnitude = np.maximum(np.abs(spectrum), 1e-9)
    weight = np.minimum(_level(spectrum) / magnitude, WEIGHT)
    return _inverse(spectrum / magnitude * weight, len(speech))


def _level(spectrum: np.ndarray) -> np.ndarray:
    """Magnitude of the speech around each cell (F, bins): over 200 Hz, and what has faded of the frames before."""
    sums = np.cumsum(np.pad(np.abs(spectrum) ** 2, ((0, 0), (_SPREAD + 1, _SPREAD)), mode="edge"), axis=1)
    power = (sums[:, 2 * _SPREAD + 1 :] - sums[:, : -2 * _SPREAD - 1]) / (2 * _SPREAD + 1)
    for before, now in zip(power[:-1], power[1:], strict=True):
        np.maximum(now, DECAY * before, out=now)
    return np.sqrt(np.maximum(power, 0))


def _stft(samples: np.ndarray) -> np.ndarray:
    """(T,) -> (F, bins of BAND); the first frame begins _WINDOW samples before the first sample."""
    padded = np.pad(samples.astype(np.float64), (_WINDOW, _WINDOW + -len(samples) % _HOP))
    return _frames(padded)


def _frames(samples: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, _WINDOW)[::_HOP]
    return np.fft.rfft(frames * _window())[:, _BINS]


def _inverse(spectrum: np.ndarray, length: int) -> np.ndarray:
    """The waveform (length,) within BAND of which `_stft` made (F, bins): halves of frames overlap and add."""
    frames = np.fft.irfft(np.pad(spectrum, ((0, 0), (_BINS.start, 0))), _WINDOW) * _window()
    halves = np.zeros((len(frames) + 1, _HOP))
    halves[:-1] += frames[:, :_HOP]
    halves[1:] += frames[:, _HOP:]
    return halves.reshape(-1)[_WINDOW : _WINDOW + length]


@lru_cache
def _window() -> np.ndarray:
    """Root of a Hann window: its square, overlapped by half, sums to 1."""
    return np.sin(np.pi * np.arange(_WINDOW) / _WINDOW)


def _limited(sequence: np.ndarray) -> np.ndarray:
    """Spectrum of (..., PERIOD) samples, zero outside BAND."""
    frequencies = np.fft.rfftfreq(PERIOD, 1 / RATE)
    return np.fft.rfft(sequence) * ((BAND[0] <= frequencies) & (frequencies <= BAND[1]))


@lru_cache
def _chips() -> np.ndarray:
    """(PERIOD,) of -1 and 1: bits of a hash, so that no version of any package can change them."""
    bits = np.unpackbits(np.frombuffer(hashlib.shake_128(KEY).digest(PERIOD // 8), np.uint8))
    return 2.0 * bits - 1


@lru_cache
def _carrier(start: int) -> np.ndarray:
    """Spectra (PERIOD / _HOP, bins) of the frames that begin at start - _WINDOW, ..., of mean square 1."""
    sequence = np.fft.irfft(_limited(_chips()))
    sequence = np.roll(sequence / sequence.std(), _WINDOW - start)
    return _frames(np.tile(sequence, 2)[: PERIOD + _WINDOW - _HOP]) / math.sqrt(_WINDOW / 2)
