"""What training and inference both compute of a recording, so that it means the same to a network: level, silences,
prosody of tokens and targets of decoder steps. Arrays alone; the mel is in `utils.audio.mel`."""

from __future__ import annotations

import numpy as np

from utils.errors import CloningError

FRAME_SECONDS = 0.01  # of the frames whose levels are compared, and of alignments
LEVEL_DBFS = -22.0  # of the loud parts
PEAK = 0.95
MARGIN_SECONDS = 0.1  # of silence at both ends
LONGEST_PAUSE_SECONDS = 0.3
DROP_DB = 40.0  # below the loud parts, 10 ms are silence


def level(samples: np.ndarray, rate: int, usual: float | None = None) -> np.ndarray:
    """Scale so that the loud parts have LEVEL_DBFS (equal loudness across speakers), but no peak passes PEAK.

    `usual`: what the speaker's loud parts have as a rule; what is louder or softer than that stays so.
    """
    gain = 10 ** ((LEVEL_DBFS - (loud_dbfs(samples, rate) if usual is None else usual)) / 20)
    return samples * np.float32(min(gain, PEAK / np.abs(samples).max()))


def loud_dbfs(samples: np.ndarray, rate: int) -> float:
    """Level of the loud parts; CloningError for silence."""
    levels = frame_levels(samples, rate)
    if levels.max() < -80:
        raise CloningError(f"silence only: the loudest 10 ms have {levels.max():.0f} dBFS")
    return float(10 * np.log10(np.mean(10 ** (levels[levels > levels.max() - 30] / 10))))


def without_pauses(samples: np.ndarray, rate: int) -> np.ndarray:
    """Samples whose silences are LONGEST_PAUSE_SECONDS at most, as those of the training."""
    levels = frame_levels(samples, rate)
    loud = levels > np.percentile(levels, 95) - DROP_DB
    if not loud.any():
        return samples
    keep, half = np.zeros(len(loud), dtype=bool), round(LONGEST_PAUSE_SECONDS * 50)
    for place in np.flatnonzero(loud):
        keep[max(0, place - half) : place + half + 1] = True
    size = round(rate * 0.01)
    return samples[: len(loud) * size].reshape(-1, size)[keep].reshape(-1)


def trimmed(samples: np.ndarray, rate: int) -> np.ndarray:
    """samples (T,) with MARGIN_SECONDS of the silence at both ends."""
    first, last = sound_bounds(samples, rate)
    return samples[max(0, round((first - MARGIN_SECONDS) * rate)) : round((last + MARGIN_SECONDS) * rate)]


def sound_bounds(samples: np.ndarray, rate: int, drop_db: float = 45.0) -> tuple[float, float]:
    """Seconds at which sound starts and ends: less than `drop_db` below the loud parts."""
    level = frame_levels(samples, rate)
    loud = np.flatnonzero(level > np.percentile(level, 95) - drop_db)
    if not len(loud):
        return 0.0, len(samples) / rate
    return loud[0] * FRAME_SECONDS, min((loud[-1] + 1) * FRAME_SECONDS, len(samples) / rate)


def frame_levels(samples: np.ndarray, rate: int) -> np.ndarray:
    """Level in dB of each 10 ms; what does not fill the last is left out."""
    size = round(rate * FRAME_SECONDS)
    frames = samples[: max(1, len(samples) // size) * size].reshape(-1, min(size, len(samples)))
    return 10 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-10)


def prosody(mel: np.ndarray, pitch: np.ndarray, durations: np.ndarray) -> np.ndarray:
    """Per token (N, 3): energy (mean of the normalized mel), pitch (log2 Hz/150 of voiced frames), part voiced."""
    voiced = (pitch != 0).astype(np.float32)
    frames = np.stack([mel.mean(axis=1), pitch.astype(np.float32), voiced], axis=1)
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum(frames, axis=0, dtype=np.float64)])
    ends = np.cumsum(durations)
    totals = sums[ends] - sums[ends - durations]
    count = np.maximum(durations, 1)
    values = [totals[:, 0] / count, totals[:, 1] / np.maximum(totals[:, 2], 1), totals[:, 2] / count]
    return np.stack(values, axis=1).astype(np.float32)


def step_targets(durations: np.ndarray, reduction: int, steps: int) -> np.ndarray:
    """durations (N,) in frames -> the token spoken in the middle of each decoder step (S,), -1 after the end."""
    spoken = np.repeat(np.arange(len(durations)), durations)[reduction // 2 :: reduction]
    return np.concatenate([spoken, np.full(steps - len(spoken), -1)]).astype(np.int64)
