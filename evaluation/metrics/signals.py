"""Numbers about waveforms: spectral distances, pitch, pauses, rate. Pure functions.

Letters: T samples, F frames, M mel channels. Two waveforms that are compared have one rate; the longer is cut.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np

from utils.audio.pitch import REFERENCE_HZ
from utils.audio.pitch import pitch as autocorrelation_pitch
from utils.errors import missing_package

FLOOR = 1e-5  # of a magnitude: -100 dB
# (n_fft, hop) of the three resolutions of Yamamoto et al. 2020 (Parallel WaveGAN, table 1), for 16 kHz
RESOLUTIONS = ((1024, 120), (2048, 240), (512, 50))
PITCH_HOP_S = 0.0125
PITCH_RANGE_HZ = (60.0, 500.0)
FAR_SEMITONES = 10.0  # from the median of a clip: an octave error
PAUSE_BELOW_DB = -35.0  # under the loud parts
PAUSE_FRAME_S = 0.01


class Pitch(NamedTuple):
    """f0_hz (F,), NaN where unvoiced; voiced (F,) bool; one frame every PITCH_HOP_S seconds."""

    f0_hz: np.ndarray
    voiced: np.ndarray


class PitchError(NamedTuple):
    """Errors of a pitch track against another."""

    rmse_cents: float  # over frames voiced in both; NaN where there are none
    voicing_error: float  # share of frames voiced in one only


def stft_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Multi-resolution STFT distance (Yamamoto et al. 2020, eq. 3 to 6) of real (T,) and other (T',).

    Spectral convergence, which loud bins rule, plus the mean absolute difference of natural log magnitudes, which quiet
    bins rule. 0 for equal waveforms; not symmetric.
    """
    length = min(len(real), len(other))
    distances = []
    for n_fft, hop in RESOLUTIONS:
        a, b = (_magnitude(x[:length], n_fft, hop) for x in (real, other))
        convergence = np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), FLOOR)
        logs = np.abs(np.log(np.maximum(a, FLOOR)) - np.log(np.maximum(b, FLOOR))).mean()
        distances.append(convergence + logs)
    return float(np.mean(distances))


def mel_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two log mels (M, F) and (M, F'), in their own unit, over the shorter's frames."""
    frames = min(real.shape[1], other.shape[1])
    return float(np.abs(real[:, :frames] - other[:, :frames]).mean())


def aligned_mel_distance(real: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference of two log mels (M, F), (M, F') along the cheapest monotonic path between them.

    Asks whether the same sounds came in the same order, whatever their timing: no recognizer is involved.
    """
    from scipy.spatial.distance import cdist

    librosa = _librosa("comparing mels along a path")
    costs = cdist(real.T, other.T, "cityblock") / len(real)
    _, path = librosa.sequence.dtw(C=costs)
    return float(costs[path[:, 0], path[:, 1]].mean())


def pitch(samples: np.ndarray, sample_rate: int) -> Pitch:
    """Fundamental frequency by probabilistic YIN (Mauch & Dixon 2014) as librosa has it. samples (T,)"""
    librosa = _librosa("pitch by pYIN")
    low, high = PITCH_RANGE_HZ
    window = 2 ** int(np.ceil(np.log2(3 * sample_rate / low)))  # three periods of the lowest voice
    f0, voiced, _ = librosa.pyin(
        samples, fmin=low, fmax=high, sr=sample_rate, frame_length=window, hop_length=round(PITCH_HOP_S * sample_rate)
    )
    return Pitch(f0, voiced.astype(bool))


def quick_pitch(samples: np.ndarray, sample_rate: int) -> Pitch:
    """As `pitch`, by autocorrelation and fifty times as fast: for medians and spreads of many clips."""
    low, high = PITCH_RANGE_HZ
    hop = round(PITCH_HOP_S * sample_rate)
    octaves = autocorrelation_pitch(np.asarray(samples, np.float32), sample_rate, hop, low=low, high=high)
    return Pitch(REFERENCE_HZ * 2.0**octaves, octaves != 0)


def pitch_error(real: Pitch, other: Pitch) -> PitchError:
    """How far the pitch of `other` is from that of `real`, frame by frame over the shorter's frames."""
    frames = min(len(real.voiced), len(other.voiced))
    a, b = real.voiced[:frames], other.voiced[:frames]
    both = a & b
    cents = 1200 * np.log2(other.f0_hz[:frames][both] / real.f0_hz[:frames][both])
    rmse = float(np.sqrt(np.mean(cents**2))) if both.any() else np.nan
    return PitchError(rmse, float((a != b).mean()) if frames else np.nan)


def pitch_statistics(track: Pitch) -> tuple[float, float]:
    """Median in Hz, and standard deviation in semitones around it, of the voiced frames; NaN where none is voiced.

    Frames `FAR_SEMITONES` or more from the median are octave errors, and left out of the deviation.
    """
    if not track.voiced.any():
        return np.nan, np.nan
    voiced = track.f0_hz[track.voiced]
    semitones = 12 * np.log2(voiced / np.median(voiced))
    return float(np.median(voiced)), float(np.std(semitones[np.abs(semitones) < FAR_SEMITONES]))


def quiet_frames(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """samples (T,) -> (F,) bool every 10 ms: quieter than the 95th percentile of frame energy by 35 dB or more."""
    size = round(PAUSE_FRAME_S * sample_rate)
    frames = samples[: len(samples) // size * size].reshape(-1, size)
    energy = 10 * np.log10(np.maximum((frames.astype(np.float64) ** 2).mean(axis=1), 1e-12))
    if not len(energy):
        return np.zeros(0, bool)
    return energy < max(np.percentile(energy, 95) + PAUSE_BELOW_DB, -90.0)


def longest_pause(quiet: np.ndarray) -> float:
    """Longest run of quiet frames (F,) between two that are not, in seconds; 0 where all is quiet."""
    loud = np.flatnonzero(~quiet)
    return float((np.diff(loud) - 1).max(initial=0) * PAUSE_FRAME_S) if len(loud) else 0.0


def speech_seconds(quiet: np.ndarray) -> float:
    """Seconds from the first to the last frame that is not quiet."""
    loud = np.flatnonzero(~quiet)
    return float((loud[-1] - loud[0] + 1) * PAUSE_FRAME_S) if len(loud) else 0.0


def _magnitude(samples: np.ndarray, n_fft: int, hop: int) -> np.ndarray:
    """samples (T,) -> (F, n_fft // 2 + 1); periodic Hann, no padding but to one whole frame."""
    samples = np.pad(samples.astype(np.float64), (0, max(0, n_fft - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, n_fft)[::hop]
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)
    return np.abs(np.fft.rfft(frames * window, axis=1))


def _librosa(purpose: str) -> ModuleType:
    try:
        import librosa
    except ImportError as error:
        raise missing_package("librosa", purpose, "requirements/analysis.txt") from error
    return librosa
